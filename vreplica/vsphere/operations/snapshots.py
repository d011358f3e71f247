"""Takes, removes and reverts to snapshots, and consolidates disks.

vSphere keeps silent about two failures (VDDK 8.0 Programming Guide; vSphere API):
  * It ignores `quiesce` when the VM is off or Tools do not run. That is checked before.
  * Where a file was locked, a removal ends before the disks are merged. `consolidationNeeded` is
    read afterwards, and the disks are consolidated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.errors import (
    ConsolidationFailed,
    FileInUse,
    ObjectGone,
    SnapshotFailed,
    TaskFailed,
    ToolsUnavailable,
)
from vreplica.vsphere.inventory.snapshots import read_snapshot
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import QuiesceOptions, SnapshotInfo, SnapshotRemoval, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

VSS_COPY: Final = 5
"""VSS_BT_COPY (vss.h): applications keep their log chains; VSS_BT_FULL would truncate them."""

CONSOLIDATION_ATTEMPTS: Final = 5
CONSOLIDATION_PAUSE_S: Final = 5.0


def quiesce_spec(quiesce: QuiesceOptions) -> Any:
    """Returns the spec of CreateSnapshotEx_Task. Its subclass for Windows asks for VSS."""
    timeout = min(max(quiesce.timeout_min, 5), 240)
    if not quiesce.windows:
        return vim.vm.GuestQuiesceSpec(timeout=timeout)
    return vim.vm.WindowsQuiesceSpec(
        timeout=timeout,
        vssBackupType=VSS_COPY,
        vssBootableSystemState=True,
        vssPartialFileSupport=False,
        vssBackupContext=vim.vm.WindowsQuiesceSpec.VssBackupContext.ctx_auto,
    )


def create(
    link: ServerLink,
    vm: VmRef,
    name: str,
    description: str,
    *,
    quiesce: QuiesceOptions | None,
    limits: WaitLimits,
) -> SnapshotInfo:
    """Takes a snapshot without memory, and returns it with its disks.

    Raises ToolsUnavailable where the guest cannot be asked to quiesce, QuiesceFailed where it
    failed to, SnapshotFailed, DatastoreFull, PermissionDenied ...
    """
    operation = f"taking snapshot {name!r}"
    now = read_vm(link, vm)
    if quiesce and (now.power_state != "poweredOn" or not now.tools_running):
        status = now.tools_status if now.power_state == "poweredOn" else f"VM is {now.power_state}"
        raise ToolsUnavailable(operation, status).at(vm=vm.name)
    if now.power_state == "suspended" and not now.disk_only_snapshot_when_suspended:
        reason = "this host takes snapshots of a suspended VM only with its memory"
        raise SnapshotFailed(operation, "suspended", reason).at(vm=vm.name)
    managed = link.managed(vim.VirtualMachine, vm.moref)
    spec = quiesce_spec(quiesce) if quiesce else None
    made = tasks.run(
        link,
        operation,
        managed.CreateSnapshotEx_Task,
        name,
        description,
        False,
        spec,
        vm=vm.name,
        limits=limits,
    )
    return read_snapshot(link, vm, moref(made))


def remove(link: ServerLink, vm: VmRef, snapshot: str, limits: WaitLimits) -> SnapshotRemoval:
    """Removes one snapshot (not its children), and makes sure that its disks are merged.

    A snapshot that is gone already is a success: then `existed` is False.
    """
    started = time.monotonic()
    operation = f"removing snapshot {snapshot}"
    managed = link.managed(vim.vm.Snapshot, snapshot)
    existed = True
    try:
        tasks.run(
            link,
            operation,
            managed.RemoveSnapshot_Task,
            False,
            True,
            vm=vm.name,
            limits=limits,
        )
    except ObjectGone:
        existed = False
    except (FileInUse, TaskFailed):
        # With a locked file the task fails, but the snapshot is gone and its data is not merged.
        if any(s.moref == snapshot for s in read_vm(link, vm).snapshots):
            raise
    needed = consolidate(link, vm, limits)
    return SnapshotRemoval(existed, time.monotonic() - started, needed)


def consolidate(link: ServerLink, vm: VmRef, limits: WaitLimits) -> bool:
    """Merges disk files that an earlier removal left; False where there were none."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    reason = "vCenter still reports it"
    for attempt in range(CONSOLIDATION_ATTEMPTS + 1):
        entry = read_one(
            link,
            "reading whether disks need consolidation",
            managed,
            ["runtime.consolidationNeeded"],
            vm=vm.name,
        )
        if not entry.get("runtime.consolidationNeeded"):
            return attempt > 0
        if attempt == CONSOLIDATION_ATTEMPTS:
            break
        if attempt:
            time.sleep(CONSOLIDATION_PAUSE_S)
        try:
            tasks.run(
                link,
                "consolidating disks",
                managed.ConsolidateVMDisks_Task,
                vm=vm.name,
                limits=limits,
            )
        except (FileInUse, TaskFailed) as error:
            # The process that holds the file (a backup that is just ending) soon lets it go.
            reason = error.message
    raise ConsolidationFailed(CONSOLIDATION_ATTEMPTS, reason).at(vm=vm.name)


def revert(link: ServerLink, vm: VmRef, snapshot: str, limits: WaitLimits) -> None:
    """Brings a VM back to a snapshot. The VM is off afterwards, whatever it was."""
    managed = link.managed(vim.vm.Snapshot, snapshot)
    tasks.run(
        link,
        f"reverting to snapshot {snapshot}",
        managed.RevertToSnapshot_Task,
        None,
        True,
        vm=vm.name,
        limits=limits,
    )
