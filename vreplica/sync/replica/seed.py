"""A replica that begins with what is at the destination already, so that less is shipped.

    --from VM                        a clone, a restored backup, the replica of another job
    --from "[ds] dir/x.vmdk"         a disk carried by hand; several, in the order of the disks
    --from "Hard disk 2=[ds] ..."    for this disk

What is named is only read: the destination's host copies it into the replica's own folder, so a
wrong choice costs time and space and nothing else. Then each copy is read once for its digests;
the next run rescans: everything allocated on the source is hashed, what differs is shipped, and
the first recovery point is as good as any.

    vreplica.seed     {"id": ..., "keys": [2000, ...]}   on the replica, until its first point
    vreplica.leaf     the same id, until a run writes: only then the digests may be believed
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.delta.control import Control
from vreplica.errors import VReplicaError
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.points.model import new_id
from vreplica.points.vm_keys import SEED_KEY
from vreplica.sync.errors import Cancelled, HasReplica, SeedUnusable
from vreplica.sync.events import Listener, Progress, Step, ignore
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock, map_path
from vreplica.sync.job_switch import check_enabled
from vreplica.sync.replica.shape import replica_spec, replicated_disks
from vreplica.sync.replica.state import find_replica
from vreplica.sync.sites import Sites
from vreplica.sync.transport import open_current
from vreplica.units import KIB, human_size
from vreplica.vsphere.model import NewDisk, ReshapeSpec, VmDisk, VmInfo, VmRef
from vreplica.vsphere.session import Session


@dataclass(frozen=True, slots=True)
class SeededDisk:
    """`read_bytes`: allocated, and so read for digests."""

    key: int
    label: str
    path: str
    read_bytes: int


@dataclass(frozen=True, slots=True)
class SeedReport:
    """`empty`: labels of disks for which nothing was named; the next run copies them in full."""

    job: str
    replica: str
    disks: tuple[SeededDisk, ...]
    empty: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def seed(
    job: Job,
    sources: Sequence[str],
    *,
    listener: Listener = ignore,
    control: Control | None = None,
) -> SeedReport:
    """Make the job's replica from what `sources` name at the destination.

    Raises HasReplica, SeedUnusable, and what the sites raise; the replica is gone again then.
    """
    with job_lock(job), Sites.open(job) as sites:
        check_enabled(job, None)
        if find_replica(sites.destination, job) is not None:
            raise HasReplica(name=job.placement.name, job=job.name)
        vm = sites.source.read_vm(sites.source.find_vm(job.source_vm))
        disks = replicated_disks(job, vm)
        chosen = choose(sites.destination, disks, sources)
        listener(Step("create", f"creating replica {job.placement.name}"))
        ref, run_id = _create(job, sites, vm, frozenset(chosen))
        try:
            _fill(job, sites.destination, vm, ref, run_id, disks, chosen, listener)
            labels = {d.key: d.label for d in disks if d.key in chosen}
            done = _digests(job, sites.destination, ref, run_id, chosen, labels, listener, control)
        except BaseException:
            # It has copies only: what they were made from is where it was.
            sites.destination.destroy_vm(ref)
            raise
        empty = tuple(d.label for d in disks if d.key not in chosen)
        return SeedReport(job.name, ref.name, done, empty)


# -- which file for which disk --------------------------------------------------------------


def choose(destination: Session, disks: Sequence[VmDisk], sources: Sequence[str]) -> dict[int, str]:
    """Key of a source's disk -> path at the destination. Raises SeedUnusable."""
    paths = [s for s in sources if _path_of(s)]
    if len(paths) == len(sources) and paths:
        return _by_path(disks, sources)
    if paths or len(sources) != 1:
        raise SeedUnusable(what=", ".join(sources), reason="name one VM, or paths of disks only")
    return _by_vm(destination, disks, sources[0])


def _path_of(text: str) -> tuple[str, str] | None:
    """(label or "", path) of `[ds] x.vmdk` or `Hard disk 2=[ds] x.vmdk`; None for a VM's name."""
    label, _, path = text.rpartition("=[")
    path = f"[{path}" if label else text
    if not (path.startswith("[") and path.endswith(".vmdk")):
        return None
    return label.strip(), path


def _by_path(disks: Sequence[VmDisk], sources: Sequence[str]) -> dict[int, str]:
    by_label = {d.label: d.key for d in disks}
    free = [d.key for d in disks]
    chosen: dict[int, str] = {}
    named = [found for s in sources if (found := _path_of(s))]
    # Those with a label first, whatever their place.
    for label, path in sorted(named, key=lambda n: not n[0]):
        if label and label not in by_label:
            reason = f"the source has {', '.join(sorted(by_label))}"
            raise SeedUnusable(what=f"{label}={path}", reason=reason)
        key = by_label[label] if label else (free[0] if free else None)
        if key is None or key not in free:
            raise SeedUnusable(what=path, reason="there is no disk of the source left for it")
        free.remove(key)
        chosen[key] = path
    return chosen


def _by_vm(destination: Session, disks: Sequence[VmDisk], name: str) -> dict[int, str]:
    """By place (controller and unit), else by the same size, in order."""
    there = destination.read_vm(destination.find_vm(name))
    if there.power_state != "poweredOff":
        raise SeedUnusable(what=name, reason=f"it is {there.power_state}; shut it down first")
    free = list(there.disks)
    chosen: dict[int, str] = {}
    for by_place in (True, False):
        for disk in disks:
            for old in free:
                fits = old.capacity_bytes <= disk.capacity_bytes
                if not by_place:
                    fits = old.capacity_bytes == disk.capacity_bytes
                if (
                    disk.key not in chosen
                    and fits
                    and (not by_place or old.position == disk.position)
                ):
                    chosen[disk.key] = old.path
                    free.remove(old)
                    break
    if not chosen:
        raise SeedUnusable(what=name, reason="none of its disks fits a disk of the source")
    return chosen


# -- making it ------------------------------------------------------------------------------


def _create(job: Job, sites: Sites, vm: VmInfo, seeded: frozenset[int]) -> tuple[VmRef, str]:
    """The replica without the disks that are to be seeded."""
    run_id = new_id()
    ref = sites.destination.create_replica(replica_spec(job, vm, run_id, seeded))
    return ref, run_id


def _fill(
    job: Job,
    destination: Session,
    vm: VmInfo,
    ref: VmRef,
    run_id: str,
    disks: Sequence[VmDisk],
    chosen: dict[int, str],
    listener: Listener,
) -> None:
    """Copies of what was chosen become disks of the replica."""
    folder = destination.read_vm(ref).vmx_path.rpartition("/")[0]
    for disk in disks:
        if disk.key not in chosen:
            continue
        target = f"{folder}/{run_id}-{disk.key}.vmdk"
        listener(Step("seed", f"copying {chosen[disk.key]} for {disk.label}"))
        destination.copy_disk(ref, chosen[disk.key], target)
        try:
            _attach(job, destination, vm, ref, NewDisk(disk, target, exists=True, any_size=True))
        except VReplicaError:
            destination.delete_disk(ref, target)
            raise
    value = {"id": run_id, "keys": sorted(chosen)}
    destination.set_extra_config(ref, {SEED_KEY: json.dumps(value)})


def _attach(job: Job, destination: Session, vm: VmInfo, ref: VmRef, disk: NewDisk) -> None:
    """Attach, see how large it is, and grow it where the source's is larger."""
    networks, want = job.placement.networks, disk.like.capacity_bytes
    made = destination.reshape_replica(ref, ReshapeSpec(vm, networks, attach=(disk,)))
    have = made.disk(disk.like.key).capacity_bytes
    if have == want:
        return
    destination.reshape_replica(ref, ReshapeSpec(vm, networks, detach=(disk.like.key,)))
    if have > want or want % KIB:
        reason = f"it has {human_size(have)}, {disk.like.label} has {human_size(want)}"
        raise SeedUnusable(what=disk.path, reason=reason)
    destination.extend_disk(ref, disk.path, want)
    fitting = replace(disk, any_size=False)
    destination.reshape_replica(ref, ReshapeSpec(vm, networks, attach=(fitting,)))


def _digests(
    job: Job,
    destination: Session,
    ref: VmRef,
    run_id: str,
    chosen: dict[int, str],
    labels: dict[int, str],
    listener: Listener,
    control: Control | None,
) -> tuple[SeededDisk, ...]:
    """Read every copy once. `labels`: those of the source; the replica numbers its own anew."""
    done = []
    for disk in destination.read_vm(ref).disks:
        if disk.key not in chosen:
            continue
        label = labels[disk.key]
        listener(Step("digest", f"reading {label} of {ref.name}"))

        def tell(at: int, total: int, label: str = label) -> None:
            if control is not None and control.cancelled:
                raise Cancelled
            listener(Progress("seed", label, at, total, 0))

        with closing(open_current(job, destination, ref, disk)) as opened:
            path, total = map_path(job.job_dir, disk.key), opened.allocated().total
            rebuild(
                path, opened, hash_blocks, point=run_id, algorithm=ALGORITHM, progress=tell
            ).close()
        done.append(SeededDisk(disk.key, label, chosen[disk.key], total))
    return tuple(done)
