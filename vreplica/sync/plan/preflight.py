"""Everything that would keep a run from ending well, found before it changes anything.

Every problem is a sentence that names the object and the remedy; all are found in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator

from vreplica.points import MAX_POINTS, Level, NewerPoint
from vreplica.points.vm_keys import BOOTED, LEAF_KEY
from vreplica.sync.job import Job, OnReplicaChange, QuiescePolicy
from vreplica.sync.job_dir import state_dir_problem
from vreplica.sync.replica.shape import Shape, replica_spec, replicated_disks
from vreplica.sync.replica.state import ReplicaState, foreign_snapshots, identity, newer_points
from vreplica.sync.sites import Sites
from vreplica.sync.source.cbt import may_rescan, switched_off
from vreplica.sync.transport import library_problem, way_problem
from vreplica.units import human_size
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.operations.cbt import tracking_obstacle
from vreplica.vsphere.operations.reshape import wanted_networks


def find_problems(
    job: Job,
    sites: Sites,
    vm: VmInfo,
    replica: ReplicaState | None,
    shape: Shape,
    level: Level,
) -> list[str]:
    """All problems; empty when the run can start."""
    return [
        *_state_problems(job),
        *_vm_problems(job, sites, vm),
        *_disk_problems(job, vm),
        *_tracking_problems(job, vm, replica, shape),
        *_level_problems(job, vm, level),
        *_replica_problems(job, vm, replica),
        *_shape_problems(job, sites, vm, replica),
        *_destination_problems(job, sites, vm, replica, shape),
        *_way_problems(job, sites, vm, replica),
    ]


def _state_problems(job: Job) -> Iterator[str]:
    if (problem := state_dir_problem(job)) is not None:
        yield f"{problem.message}. {problem.advice()}"


def _vm_problems(job: Job, sites: Sites, vm: VmInfo) -> Iterator[str]:
    name = vm.ref.name
    if vm.fault_tolerant or not vm.snapshots_supported:
        yield f"{name} cannot be snapshotted (fault tolerance, or its configuration)"
    if vm.is_template:
        yield f"{name} is a template: templates cannot be snapshotted; name a VM"
    if vm.connection_state != "connected":
        yield f"{name} is {vm.connection_state}: bring its host back first"
    if vm.power_state == "suspended":
        yield f"{name} is suspended: resume it or shut it down first"
    if not vm.cbt_supported:
        yield (
            f"{name} ({vm.hw_version}) does not support changed block tracking: "
            "upgrade its virtual hardware to version 7 or later"
        )
    for point in newer_points(sites.source, vm):
        yield _newer_problem(name, point)
    foreign = [s.name for s in foreign_snapshots(sites.source, job, vm)]
    if foreign:
        yield (
            f"{name} has snapshots that are not ours ({', '.join(foreign)}): changed block "
            "tracking is not reliable across them; remove or consolidate them first"
        )
    if vm.consolidation_needed:
        yield f"{name} needs consolidation: consolidate its disks in vCenter first"


def _disk_problems(job: Job, vm: VmInfo) -> Iterator[str]:
    labels = {d.label for d in vm.disks}
    for label in sorted(job.exclude_disks - labels):
        yield f"exclude_disks names {label!r}; {vm.ref.name} has {', '.join(sorted(labels))}"
    disks = replicated_disks(job, vm)
    if not disks:
        yield f"{vm.ref.name} has no disk to replicate"
    for d in disks:
        if (obstacle := tracking_obstacle(d)) is not None:
            change = "set its mode to persistent" if d.mode != "persistent" else "change that"
            yield (
                f"{d.label} cannot be replicated: {obstacle}. Either {change} (with the VM powered "
                f"off) or list {d.label!r} in exclude_disks"
            )


def _tracking_problems(
    job: Job, vm: VmInfo, replica: ReplicaState | None, shape: Shape
) -> Iterator[str]:
    # After a disk has grown tracking is begun anew, so that it does not matter who switched it
    # off; it may have been the run before this one.
    off = switched_off(vm, replica) and not shape.grown
    if off and not may_rescan(job, switched_off=True):
        yield (
            f"changed block tracking was switched off on {vm.ref.name} after its last recovery "
            "point: find out why; then run once with --on-cbt-loss rescan, which reads "
            "everything allocated, ships what differs and switches tracking on again"
        )


def _level_problems(job: Job, vm: VmInfo, level: Level) -> Iterator[str]:
    if level < job.require:
        yield (
            f"{job.require} consistency is required and {vm.ref.name} can reach {level} now: "
            f"{_why_low(vm)}; mend that or lower `require`"
        )
    elif job.quiesce is QuiescePolicy.REQUIRE and level is Level.CRASH:
        yield f"the job requires quiescing and {vm.ref.name} cannot: {_why_low(vm)}"


def _why_low(vm: VmInfo) -> str:
    if vm.power_state != "poweredOn":
        return f"it is {vm.power_state}"
    if not vm.tools_running:
        return f"VMware Tools are not running ({vm.tools_status})"
    return f"its guest family is {vm.guest_family}"


def _replica_problems(job: Job, vm: VmInfo, replica: ReplicaState | None) -> Iterator[str]:
    if replica is None:
        return
    name = replica.vm.ref.name
    if replica.vm.power_state != "poweredOff":
        yield (
            f"replica {name} is {replica.vm.power_state}: what it writes would be lost; "
            "finish its failover, or power it off"
        )
    leaf = replica.vm.extra_config.get(LEAF_KEY, "")
    if leaf.startswith(BOOTED):
        yield (
            f"replica {name} was started by failover {leaf.removeprefix(BOOTED)}: its disks may "
            "hold what its guest wrote since, and a run would throw that away; undo that failover, "
            f"or commit it and bring it back with `vreplica-sync failback {job.name}`"
        )
    for point in replica.newer:
        yield _newer_problem(f"replica {name}", point)
    if replica.foreign:
        names = ", ".join(s.name for s in replica.foreign)
        yield f"replica {name} has snapshots that are no recovery points ({names}): remove them"
    latest = replica.latest
    if latest and latest.source_vm != identity(vm):
        yield (
            f"replica {name} was made from another VM ({latest.source_name}, {latest.source_vm}); "
            f"this one is {identity(vm)}: choose another replica name"
        )
    if len(replica.points) > MAX_POINTS:
        yield (
            f"replica {name} has {len(replica.points)} recovery points and a snapshot chain takes "
            f"{MAX_POINTS}: retention could not remove any; remove the oldest snapshots in vCenter"
        )


def _newer_problem(name: str, point: NewerPoint) -> str:
    return f"{name}: {point}. Upgrade vreplica on this machine; do not remove that point"


def outside_problems(
    job: Job, replica: ReplicaState | None, changes: tuple[str, ...]
) -> Iterator[str]:
    """What somebody else did to the replica is never thrown away unasked."""
    if replica is None or not changes or job.on_replica_change is OnReplicaChange.DISCARD:
        return
    point = replica.latest.id if replica.latest else "none"
    yield (
        f"replica {replica.vm.ref.name} was changed since point {point}: {'; '.join(changes)}. "
        "That is in no recovery point: clone the VM if any of it is to be kept; then run once "
        "with --discard-replica-changes, which takes the replica back to that point"
    )


def _shape_problems(
    job: Job, sites: Sites, vm: VmInfo, replica: ReplicaState | None
) -> Iterator[str]:
    """Networks that the replica's cards are to be attached to."""
    if replica is None:
        return
    wanted = wanted_networks(vm, replica.vm, job.placement.networks)
    there = {n.name for n in sites.destination.networks()} if wanted else set()
    for card, network in wanted.items():
        if network not in there:
            yield (
                f"{card} is on a network that the destination does not have as {network!r}; there "
                f"are {', '.join(sorted(there))}: map it in destination.networks"
            )


def _destination_problems(
    job: Job, sites: Sites, vm: VmInfo, replica: ReplicaState | None, shape: Shape
) -> Iterator[str]:
    stores = {d.name: d for d in sites.destination.datastores()}
    store = stores.get(job.placement.datastore)
    if store is None:
        yield (
            f"datastore {job.placement.datastore!r} is not at the destination; "
            f"there are {', '.join(sorted(stores))}"
        )
    elif replica is None and store.free_bytes < vm.storage_committed_bytes:
        yield (
            f"datastore {store.name} has {human_size(store.free_bytes)} free and "
            f"{vm.ref.name} takes {human_size(vm.storage_committed_bytes)}: free space there "
            "or choose another one"
        )
    elif replica is not None and store.free_bytes < (needed := _new_disks_bytes(vm, shape)):
        yield (
            f"datastore {store.name} has {human_size(store.free_bytes)} free and the replica's new "
            f"disks may take {human_size(needed)}: free space there, or leave disks out by name"
        )
    if store is not None and replica is None:
        yield from _place_problems(job, sites, vm)


def _place_problems(job: Job, sites: Sites, vm: VmInfo) -> Iterator[str]:
    """Where the replica is to be created: host, pool, folder, networks."""
    try:
        sites.destination.check_placement(replica_spec(job, vm, ""))
    except (PlacementNotFound, PlacementAmbiguous) as error:
        yield f"{error.message}. {error.advice()}"


def _new_disks_bytes(vm: VmInfo, shape: Shape) -> int:
    """At most, for disks that the replica gets; they are thin."""
    wanted = sum(d.disk.capacity_bytes for d in shape.disks if d.new)
    return min(wanted, vm.storage_committed_bytes or wanted)


def _way_problems(
    job: Job, sites: Sites, vm: VmInfo, replica: ReplicaState | None
) -> Iterator[str]:
    """One disk of each side: all disks of a VM are served by the same host."""
    if (missing := library_problem(job)) is not None:
        yield missing
    ways = [(sites.source, vm, True)]
    if replica is not None:
        ways.append((sites.destination, replica.vm, False))
    for session, info, read_only in ways:
        for disk in info.disks[:1]:
            problem = way_problem(job, session, info.ref, disk, read_only)
            if problem is not None:
                yield problem
