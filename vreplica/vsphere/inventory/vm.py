"""Reads a VM in one round trip: configuration, devices, guest, snapshots, datastores, networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vreplica.vsphere.connection.collector import FoundObject, read, read_one
from vreplica.vsphere.connection.vmomi import moref, utc, vim
from vreplica.vsphere.errors import BadReply, VmInaccessible
from vreplica.vsphere.inventory.devices import controllers_of, disks_of, has_vtpm, nics_of
from vreplica.vsphere.inventory.guest import tools_running, tools_status
from vreplica.vsphere.inventory.not_carried import not_carried
from vreplica.vsphere.model import SnapshotInfo, VmInfo, VmOptions, VmRef
from vreplica.vsphere.names import unescape

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

WHOLE = (
    "name",
    "config",
    "capability",
    "runtime.connectionState",
    "runtime.powerState",
    "runtime.host",
    "runtime.consolidationNeeded",
    "runtime.faultToleranceState",
    "guest.guestFamily",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "snapshot",
    "summary.storage",
)

# guestId prefixes of VMware's list (vSphere API, VirtualMachineGuestOsIdentifier).
LINUX_IDS = (
    "almalinux",
    "amazonlinux",
    "asianux",
    "centos",
    "coreos",
    "crx",
    "debian",
    "fedora",
    "flatcar",
    "fusionos",
    "genericlinux",
    "kylin",
    "linux",
    "mandrake",
    "mandriva",
    "miraclelinux",
    "nld9",
    "oes",
    "opensuse",
    "oraclelinux",
    "other24xlinux",
    "other26xlinux",
    "other3xlinux",
    "other4xlinux",
    "other5xlinux",
    "other6xlinux",
    "other7xlinux",
    "otherlinux",
    "photon",
    "pardus",
    "prolinux",
    "redhat",
    "rhel",
    "rocky",
    "sjds",
    "sles",
    "suse",
    "turbolinux",
    "ubuntu",
    "vmwarephoton",
)


def read_vm(link: ServerLink, vm: VmRef, snapshot: str | None = None) -> VmInfo:
    """Reads a whole VM as it is now, or with the configuration that a snapshot holds.

    Raises VmInaccessible where the server cannot read its configuration.
    """
    managed = link.managed(vim.VirtualMachine, vm.moref)
    properties = {
        vim.VirtualMachine: WHOLE,
        vim.Datastore: ("name",),
        vim.Network: ("name",),
        vim.dvs.DistributedVirtualPortgroup: ("name", "key"),
        vim.OpaqueNetwork: ("name", "summary"),
    }
    steps = ((vim.VirtualMachine, "datastore"), (vim.VirtualMachine, "network"))
    found = read(link, "reading the VM", [managed], properties, steps, vm=vm.name)
    entry = next((f for f in found if isinstance(f.managed, vim.VirtualMachine)), None)
    if entry is None:
        raise BadReply(link.endpoint.host, "reading the VM", "it is empty").at(vm=vm.name)
    if snapshot is not None:
        frozen = link.managed(vim.vm.Snapshot, snapshot)
        config = read_one(link, f"reading snapshot {snapshot}", frozen, ["config"], vm=vm.name)
        entry = replace(entry, values={**entry.values, **config.values})
    host = entry.get("runtime.host")
    return vm_info(link.endpoint.host, entry, found, _host_name(link, host))


def _host_name(link: ServerLink, host: Any) -> str | None:
    """Returns a host's name, which is read once: no read can follow `runtime.host` to the host."""
    if host is None:
        return None
    here = moref(host)
    if here not in link.host_names:
        entry = read_one(link, "reading the host's name", host, ["name"])
        link.host_names[here] = unescape(entry.get("name") or here)
    return link.host_names[here]


def vm_info(
    server: str, entry: FoundObject, places: Iterable[FoundObject], host: str | None
) -> VmInfo:
    """Makes the value of one VM's properties, with the datastores and networks of the read."""
    state = str(entry.get("runtime.connectionState"))
    name = unescape(entry.get("name") or entry.moref)
    config = entry.get("config")
    if config is None or config.hardware is None:
        raise VmInaccessible(server, name, state).at(vm=name)
    capability = entry.get("capability")
    stores = {
        unescape(f.get("name") or f.moref): f.moref
        for f in places
        if isinstance(f.managed, vim.Datastore)
    }
    hardware, flags = config.hardware, config.flags
    tree = entry.get("snapshot")
    current = tree.currentSnapshot if tree is not None else None
    return VmInfo(
        ref=VmRef(entry.moref, name),
        instance_uuid=config.instanceUuid,
        bios_uuid=config.uuid,
        vmx_path=config.files.vmPathName or "",
        guest_id=config.guestId or "",
        guest_family=guest_family(config.guestId or "", entry.get("guest.guestFamily")),
        power_state=str(entry.get("runtime.powerState")),  # type: ignore[arg-type]
        tools_running=tools_running(entry),
        tools_status=tools_status(entry),
        hw_version=config.version or "",
        cpus=hardware.numCPU,
        cores_per_socket=hardware.numCoresPerSocket or 1,
        memory_mib=hardware.memoryMB,
        firmware=config.firmware or "bios",
        secure_boot=bool(getattr(config.bootOptions, "efiSecureBootEnabled", None)),
        storage_committed_bytes=getattr(entry.get("summary.storage"), "committed", None) or 0,
        cbt_supported=bool(getattr(capability, "changeTrackingSupported", None)),
        cbt_enabled=bool(config.changeTrackingEnabled),
        disks=disks_of(hardware.device),
        controllers=controllers_of(hardware.device),
        nics=nics_of(hardware.device, network_names(places)),
        snapshots=tuple(snapshots_of(tree)),
        current_snapshot=moref(current) if current is not None else None,
        host=host,
        datastores=tuple(sorted(stores)),
        datastore_morefs=stores,
        extra_config=options_of(config.extraConfig),
        consolidation_needed=bool(entry.get("runtime.consolidationNeeded")),
        connection_state=state,
        is_template=bool(config.template),
        annotation=config.annotation or "",
        memory_hot_add=bool(config.memoryHotAddEnabled),
        cpu_hot_add=bool(config.cpuHotAddEnabled),
        nested_hv=bool(config.nestedHVEnabled),
        vbs=bool(getattr(flags, "vbsEnabled", None)),
        encrypted=config.keyId is not None,
        not_carried=not_carried(config),
        has_vtpm=has_vtpm(hardware.device),
        disk_only_snapshot_when_suspended=bool(
            getattr(capability, "diskOnlySnapshotOnSuspendedVMSupported", None)
        ),
        snapshots_supported=getattr(capability, "snapshotOperationsSupported", True) is not False,
        fault_tolerant=str(entry.get("runtime.faultToleranceState") or "notConfigured")
        != "notConfigured",
        change_version=config.changeVersion or "",
    )


def guest_family(guest_id: str, said: str | None) -> Literal["windows", "linux", "other"]:
    """Returns the family that Tools report, else that of the configured guest id."""
    if said == "windowsGuest":
        return "windows"
    if said == "linuxGuest":
        return "linux"
    lowered = guest_id.lower()
    if lowered.startswith("win"):
        return "windows"
    return "linux" if lowered.startswith(LINUX_IDS) else "other"


def network_names(places: Iterable[FoundObject]) -> dict[str, tuple[str, str]]:
    """Maps moref, portgroup key and opaque network id to the network's name and moref."""
    names: dict[str, tuple[str, str]] = {}
    for found in places:
        if isinstance(found.managed, vim.Network):
            opaque = getattr(found.get("summary"), "opaqueNetworkId", None)
            for key in (found.moref, found.get("key"), opaque):
                if key:
                    names[key] = unescape(found.get("name") or found.moref), found.moref
    return names


def read_options(link: ServerLink, vm: VmRef) -> VmOptions:
    """Reads extraConfig, current snapshot and disk files, which belong together, in one call."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    paths = ["config.changeVersion", "config.extraConfig", "config.hardware.device", "snapshot"]
    entry = read_one(link, "reading the VM's options", managed, paths, vm=vm.name)
    tree = entry.get("snapshot")
    current = tree.currentSnapshot if tree is not None else None
    return VmOptions(
        change_version=entry.get("config.changeVersion") or "",
        extra_config=options_of(entry.get("config.extraConfig")),
        current_snapshot=moref(current) if current is not None else None,
        disks={d.key: d.path for d in disks_of(entry.get("config.hardware.device") or ())},
    )


def options_of(options: Iterable[Any] | None) -> Mapping[str, str]:
    """Returns extraConfig as a mapping of strings."""
    return {o.key: "" if o.value is None else str(o.value) for o in options or []}


def snapshots_of(tree: Any) -> Iterable[SnapshotInfo]:
    """Yields the snapshots of a tree, depth first, without their own configuration."""
    for root in (tree.rootSnapshotList if tree is not None else None) or []:
        yield from _branch(root, None)


def _branch(node: Any, parent: str | None) -> Iterable[SnapshotInfo]:
    here = moref(node.snapshot)
    yield SnapshotInfo(
        moref=here,
        name=unescape(node.name),
        description=node.description or "",
        parent=parent,
        created=utc(node.createTime),
        quiesced=bool(node.quiesced),
        backup_manifest=node.backupManifest or None,
        power_state=str(node.state),
    )
    for child in node.childSnapshotList or []:
        yield from _branch(child, here)
