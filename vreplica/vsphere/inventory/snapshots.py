"""Reads snapshots with their frozen configuration, and what their quiescing proves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vreplica.errors import VSphereError
from vreplica.vsphere.connection.collector import Steps, read
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import (
    ObjectGone,
)
from vreplica.vsphere.inventory import vss_manifest
from vreplica.vsphere.inventory.devices import disks_of
from vreplica.vsphere.inventory.vm import options_of, snapshots_of
from vreplica.vsphere.model import SnapshotInfo, VmInfo, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def read_snapshot(link: ServerLink, vm: VmRef, snapshot: str) -> SnapshotInfo:
    """Reads a snapshot with the disks (and changeIds) of its own configuration, in one call.

    Raises ObjectGone.
    """
    operation = f"reading snapshot {snapshot}"
    roots = [
        link.managed(vim.VirtualMachine, vm.moref),
        link.managed(vim.vm.Snapshot, snapshot),
    ]
    for info in _read(link, vm, operation, roots, ()):
        if info.moref == snapshot:
            return info
    raise ObjectGone(operation, snapshot).at(vm=vm.name)


def read_snapshots(link: ServerLink, vm: VmRef) -> tuple[SnapshotInfo, ...]:
    """Reads all snapshots of a VM, depth first, each with its own disks, in one call."""
    roots = [link.managed(vim.VirtualMachine, vm.moref)]
    steps = ((vim.VirtualMachine, "rootSnapshot"), (vim.vm.Snapshot, "childSnapshot"))
    return tuple(_read(link, vm, "reading snapshots", roots, steps))


def _read(
    link: ServerLink, vm: VmRef, operation: str, roots: list[Any], steps: Steps
) -> Iterator[SnapshotInfo]:
    """Reads the snapshots whose configuration the steps reach from `roots`."""
    properties = {vim.VirtualMachine: ("snapshot",), vim.vm.Snapshot: ("config",)}
    tree, configs = None, {}
    for found in read(link, operation, roots, properties, steps, vm=vm.name):
        if isinstance(found.managed, vim.VirtualMachine):
            tree = found.get("snapshot")
        else:
            configs[found.moref] = found.get("config")
    for info in snapshots_of(tree):
        config = configs.get(info.moref)
        if config is not None:
            whole = replace(
                info,
                disks=disks_of(config.hardware.device),
                extra_config=options_of(config.extraConfig),
            )
            yield _with_writers(link, vm, whole, config.files.snapshotDirectory or "")


def _with_writers(link: ServerLink, vm: VmRef, info: SnapshotInfo, directory: str) -> SnapshotInfo:
    """Adds the writers of the VSS manifest, where there is one.

    A manifest that cannot be read proves nothing, but it fails nothing either.
    """
    if not (info.quiesced and info.backup_manifest):
        return info
    try:
        writers = vss_manifest.writers_in(
            vss_manifest.fetch(link, vm, directory, info.backup_manifest)
        )
        return replace(info, vss_writers=writers)
    except VSphereError as error:
        return replace(info, vss_problem=error.message)
    except ValueError as error:
        return replace(info, vss_problem=str(error))


def quiesce_evidence(
    snapshot: SnapshotInfo, vm: VmInfo
) -> Literal["application", "filesystem"] | None:
    """Returns the consistency level that a snapshot proves; None where it proves none.

    vm: read just before the snapshot was taken. The flag `quiesced` alone only repeats the
    request, so it counts only where the guest could quiesce. For Windows, the backup manifest has
    to name VSS writers (`vss_manifest`); without them the guest froze its file systems only.
    Nothing in the API proves that the freeze scripts of a Linux guest made applications
    consistent.
    """
    if not snapshot.quiesced or vm.power_state != "poweredOn" or not vm.tools_running:
        return None
    if vm.guest_family == "windows":
        return "application" if snapshot.vss_writers else "filesystem"
    return "filesystem" if vm.guest_family == "linux" else None
