"""Finds everything that would keep a run from ending well, before it changes anything.

Every problem is a sentence that names the object and the remedy. All are found in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from vreplica.points import MAX_POINTS, Level, NewerPoint
from vreplica.points.vm_keys import BOOTED, LEAF_KEY
from vreplica.sync.job import Job, OnReplicaChange, QuiescePolicy
from vreplica.sync.job_dir import state_dir_problem
from vreplica.sync.job_state import JobState
from vreplica.sync.known_vms import replica_uuid
from vreplica.sync.plan.completeness import completeness_problems
from vreplica.sync.replica.shape import Shape, replicated_disks
from vreplica.sync.replica.state import (
    ReplicaState,
    foreign_snapshots,
    is_for_replica,
    newer_points,
    snapshot_name,
    vm_identity,
)
from vreplica.sync.source.cbt import may_rescan, switched_off
from vreplica.sync.transport.disks import library_problem, transport_problem
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.model import SnapshotInfo, VmInfo
from vreplica.vsphere.operations.cbt import tracking_obstacle
from vreplica.vsphere.operations.reshape import wanted_networks

SPARE_LINKS: Final = 2
"""Links of a chain that neither points nor base and leaf take (points/retention.py)."""


def find_problems(state: JobState, shape: Shape, level: Level) -> list[str]:
    """All problems; empty where the run can start. `level`: what the source's snapshot reaches."""
    job, source, replica = state.job, state.source, state.replica
    return [
        *_state_dir_problems(job),
        *_source_problems(state),
        *_disk_problems(job, source),
        *completeness_problems(job, source, replica),
        *_tracking_problems(state, shape),
        *_level_problems(job, source, level),
        *_replica_problems(job, source, replica),
        *_network_problems(state),
        *_transport_problems(state),
    ]


def _state_dir_problems(job: Job) -> Iterator[str]:
    if (problem := state_dir_problem(job)) is not None:
        yield f"{problem.message}. {problem.advice()}"


def _source_problems(state: JobState) -> Iterator[str]:
    source, name = state.source, state.source.ref.name
    if source.fault_tolerant or not source.snapshots_supported:
        yield f"{name} cannot be snapshotted (fault tolerance, or its configuration)"
    if source.is_template:
        yield f"{name} is a template: templates cannot be snapshotted; name a VM"
    if source.connection_state != "connected":
        yield f"{name} is {source.connection_state}: bring its host back first"
    if source.power_state == "suspended":
        yield f"{name} is suspended: resume it or shut it down first"
    if not source.cbt_supported:
        yield (
            f"{name} ({source.hw_version}) does not support changed block tracking: "
            "upgrade its virtual hardware to version 7 or later"
        )
    replica = vm_identity(state.replica.vm) if state.replica else replica_uuid(state.job)
    for snapshot in source.snapshots:
        ours = snapshot.name == snapshot_name(state.job.name)
        if ours and not is_for_replica(snapshot, replica):
            yield (
                f"snapshot {snapshot.name} of {name} was taken for another replica than "
                f"{state.job.placement.name}: a job of the same name on another mover may be "
                "reading it; where that is gone, remove the snapshot in vCenter"
            )
    snapshots = _read_snapshots(state)
    for point in newer_points(snapshots):
        yield _newer_problem(name, point)
    if foreign := [s.name for s in foreign_snapshots(state.job, snapshots)]:
        yield (
            f"{name} has snapshots that are not ours ({', '.join(foreign)}): changed block "
            "tracking is not reliable across them; remove or consolidate them first"
        )


def _read_snapshots(state: JobState) -> Sequence[SnapshotInfo]:
    """The source's snapshots. They are not read where all are ours by their name."""
    ours = snapshot_name(state.job.name)
    if all(s.name == ours for s in state.source.snapshots):
        return ()
    return state.sites.source.read_snapshots(state.source.ref)


def _disk_problems(job: Job, source: VmInfo) -> Iterator[str]:
    labels = {d.label for d in source.disks}
    for label in sorted(job.exclude_disks - labels):
        yield f"exclude_disks names {label!r}; {source.ref.name} has {', '.join(sorted(labels))}"
    disks = replicated_disks(job, source)
    if not disks:
        yield f"{source.ref.name} has no disk to replicate"
    for d in disks:
        if (obstacle := tracking_obstacle(d)) is not None:
            change = "set its mode to persistent" if d.mode != "persistent" else "change that"
            yield (
                f"{d.label} cannot be replicated: {obstacle}. Either {change} (with the VM powered "
                f"off) or list {d.label!r} in exclude_disks"
            )


def _tracking_problems(state: JobState, shape: Shape) -> Iterator[str]:
    # After a disk has grown, tracking begins anew. So it does not matter who switched it off: it
    # may have been the run before this one.
    off = switched_off(state.source, state.replica) and not shape.grown
    if off and not may_rescan(state.job, switched_off=True):
        yield (
            f"changed block tracking was switched off on {state.source.ref.name} after its last "
            "recovery point: find out why; then run once with --on-cbt-loss rescan, which reads "
            "everything allocated, writes what differs and switches tracking on again"
        )


def _level_problems(job: Job, vm: VmInfo, level: Level) -> Iterator[str]:
    if level < job.require:
        yield (
            f"{job.require} consistency is required and {vm.ref.name} can reach {level} now: "
            f"{_why_low(vm)}; correct that or lower `require`"
        )
    elif job.quiesce is QuiescePolicy.REQUIRE and level is Level.CRASH:
        yield f"the job requires quiescing and {vm.ref.name} cannot: {_why_low(vm)}"


def _why_low(vm: VmInfo) -> str:
    if vm.power_state != "poweredOn":
        return f"it is {vm.power_state}"
    if not vm.tools_running:
        return f"VMware Tools are not running ({vm.tools_status})"
    return f"its guest family is {vm.guest_family}"


def _replica_problems(job: Job, source: VmInfo, replica: ReplicaState | None) -> Iterator[str]:
    if replica is None:
        return
    name = replica.vm.ref.name
    if replica.vm.is_template:
        yield (
            f"replica {name} is a template, whose disks cannot be written, reverted or started: "
            "convert it to a virtual machine in vCenter"
        )
    leaf = replica.vm.extra_config.get(LEAF_KEY, "")
    if replica.vm.power_state != "poweredOff" and not leaf.startswith(BOOTED):
        yield (
            f"replica {name} is {replica.vm.power_state}, and no failover of this job started it: "
            f"find out who did; if it is in service, `vreplica-sync failover adopt {job.name}`, "
            "else save what it holds, then power it off"
        )
    if leaf.startswith(BOOTED):
        yield (
            f"replica {name} was started by failover {leaf.removeprefix(BOOTED)}: its disks may "
            "hold what its guest wrote since, and a run would throw that away; undo that failover, "
            f"or commit it and bring it back with `vreplica-sync failback {job.name}`; where its "
            f"mover is lost, `vreplica-sync failover adopt {job.name}` first"
        )
    for point in replica.newer:
        yield _newer_problem(f"replica {name}", point)
    if replica.foreign:
        names = ", ".join(s.name for s in replica.foreign)
        yield f"replica {name} has snapshots that are not recovery points ({names}): remove them"
    latest = replica.latest
    if latest and latest.source_vm != vm_identity(source):
        yield (
            f"replica {name} was made from another VM ({latest.source_name}, {latest.source_vm}); "
            f"this one is {vm_identity(source)}: choose another replica name"
        )
    if len(replica.points) + len(replica.sides) > MAX_POINTS:
        yield (
            f"replica {name} has {len(replica.points)} recovery points and a snapshot chain takes "
            f"{MAX_POINTS}: retention could not remove any; remove the oldest snapshots in vCenter"
        )
    elif len(replica.points) + len(replica.damaged) > MAX_POINTS + SPARE_LINKS:
        yield (
            f"replica {name} has {len(replica.damaged)} damaged points beside its "
            f"{len(replica.points)}, and its snapshot chain is full: remove the snapshots of "
            f"damaged ones in vCenter ({', '.join(p.id for p in replica.damaged)})"
        )


def _newer_problem(name: str, point: NewerPoint) -> str:
    return f"{name}: {point}. {point.advice}"


def foreign_change_problems(
    job: Job, replica: ReplicaState | None, changes: tuple[str, ...]
) -> Iterator[str]:
    """Changes of others on the replica, unless the job says to discard them."""
    if replica is None or not changes or job.on_replica_change is OnReplicaChange.DISCARD:
        return
    point = replica.latest.id if replica.latest else "none"
    yield (
        f"replica {replica.vm.ref.name} was changed since point {point}: {'; '.join(changes)}. "
        "That is in no recovery point: clone the VM if any of it is to be kept; then run once "
        "with --discard-replica-changes, which takes the replica back to that point"
    )


def _network_problems(state: JobState) -> Iterator[str]:
    """Networks that the replica's cards are to be attached to."""
    job, replica, destination = state.job, state.replica, state.sites.destination
    if replica is None:
        return
    wanted = wanted_networks(state.source, replica.vm, job.placement.networks)
    for card, network in wanted.items():
        try:
            destination.network_of_host(replica.vm.ref, network)
        except (PlacementNotFound, PlacementAmbiguous) as error:
            yield f"{card}: {error.message}: map its network in destination.networks"


def _transport_problems(state: JobState) -> Iterator[str]:
    """Tries one disk of each side: all disks of a VM are served by the same host."""
    job, sites, replica = state.job, state.sites, state.replica
    if (missing := library_problem(job)) is not None:
        yield missing
    sides = [(sites.source, state.source, True)]
    if replica is not None:
        sides.append((sites.destination, replica.vm, False))
    for session, vm, read_only in sides:
        for disk in vm.disks[:1]:
            problem = transport_problem(job, session, vm.ref, disk, read_only=read_only)
            if problem is not None:
                yield problem
