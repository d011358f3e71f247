"""Makes a replica that begins with what is at the destination already, so that less is copied.

    --from VM                        a clone, a restored backup, the replica of another job
    --from "[ds] dir/x.vmdk"         a disk carried by hand; several, in the order of the disks
    --from "Hard disk 2=[ds] ..."    for this disk

The named VM or disks are only read: the destination's host copies them into the replica's own
folder. So a wrong choice costs time and space and nothing else. Then each copy is read once for
its digests. The next run rescans: everything allocated on the source is hashed, what differs is
written, and the first recovery point is as good as any.

    vreplica.seed     {"id": ..., "keys": [2000, ...]}   on the replica, until its first point
    vreplica.leaf     the same id, until a run writes: only till then the digests are believed
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.delta.control import Control
from vreplica.errors import VReplicaError
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.points.model import new_id
from vreplica.points.vm_keys import SEED_KEY
from vreplica.sync.claim.claim import ClaimKind
from vreplica.sync.claim.held_claim import Claimant, HeldClaim, new_claim
from vreplica.sync.errors import Cancelled, HasReplica, SeedUnusable
from vreplica.sync.events import Listener, Progress, Step, ignore
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock, map_path
from vreplica.sync.job_switch import check_enabled
from vreplica.sync.known_vms import find_source, remember
from vreplica.sync.replica.shape import replica_spec, replicated_disks
from vreplica.sync.replica.state import find_replica
from vreplica.sync.sites import Sites
from vreplica.sync.transport.disks import open_current
from vreplica.units import KIB, human_size
from vreplica.vsphere.model import NewDisk, ReshapeSpec, VmDisk, VmInfo, VmRef
from vreplica.vsphere.session import Session


@dataclass(frozen=True, slots=True)
class SeededDisk:
    """One disk that was seeded. `read_bytes`: allocated, and so read for digests."""

    key: int
    label: str
    path: str
    read_bytes: int


@dataclass(frozen=True, slots=True)
class SeedReport:
    """The answer of `seed`.

    `empty`: labels of disks for which nothing was named; the next run copies them in full.
    """

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
    """Makes the job's replica from what `sources` name at the destination.

    Raises HasReplica, SeedUnusable, and what the sites raise; then the replica is gone again.
    """
    with job_lock(job), Sites.open(job) as sites:
        check_enabled(job, None)
        if find_replica(sites.destination, job) is not None:
            raise HasReplica(name=job.placement.name, job=job.name)
        vm = sites.source.read_vm(find_source(sites.source, job))
        disks = replicated_disks(job, vm)
        chosen = choose_files(sites.destination, disks, sources)
        listener(Step("create", f"creating replica {job.placement.name}"))
        seed_id = new_id()
        claimant = Claimant(job.name, seed_id, ClaimKind.SEED, seed_id)
        claim = new_claim(sites.destination, claimant)
        spec = replica_spec(job, vm, seed_id, without=frozenset(chosen), claim=claim.option)
        replica = sites.destination.create_replica(spec)
        held = HeldClaim(sites.destination, replica, job.name, claim).keep()
        remember(job, source=vm, replica=sites.destination.read_vm(replica))
        seeding = _Seeding(job, sites.destination, vm, replica, seed_id, chosen, listener, control)
        try:
            seeding.copy_files()
            done = seeding.read_digests()
            held.release()
        except BaseException:
            held.forget()
            # The replica has copies only: the originals are where they were.
            sites.destination.destroy_vm(replica)
            raise
        empty = tuple(d.label for d in disks if d.key not in chosen)
        return SeedReport(job.name, replica.name, done, empty)


# -- which file for which disk --------------------------------------------------------------


def choose_files(
    destination: Session, disks: Sequence[VmDisk], sources: Sequence[str]
) -> dict[int, str]:
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
    # Paths with a label first, whatever their place.
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
    """Pairs disks by place (controller and unit), else by the same size, in order."""
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


@dataclass(frozen=True, slots=True)
class _Seeding:
    """One replica that is being seeded; it was created without the disks of `chosen`."""

    job: Job
    destination: Session
    source: VmInfo
    replica: VmRef
    seed_id: str
    chosen: Mapping[int, str]
    """Key of a source's disk -> path of the file at the destination."""
    listener: Listener
    control: Control | None

    @property
    def disks(self) -> list[VmDisk]:
        """The source's disks that get a seed."""
        return [d for d in self.source.disks if d.key in self.chosen]

    def copy_files(self) -> None:
        """Attaches copies of the chosen files to the replica."""
        folder = self.destination.read_vm(self.replica).vmx_path.rpartition("/")[0]
        for disk in self.disks:
            path, target = self.chosen[disk.key], f"{folder}/{self.seed_id}-{disk.key}.vmdk"
            self.listener(Step("seed", f"copying {path} for {disk.label}"))
            self.destination.copy_disk(self.replica, path, target)
            try:
                self._attach(NewDisk(disk, target, exists=True, any_size=True))
            except VReplicaError:
                self.destination.delete_disk(self.replica, target)
                raise
        value = {"id": self.seed_id, "keys": sorted(self.chosen)}
        self.destination.set_extra_config(self.replica, {SEED_KEY: json.dumps(value)})

    def _attach(self, disk: NewDisk) -> None:
        """Attaches a copy, sees how large it is, and grows it where the source's is larger."""
        wanted_bytes = disk.like.capacity_bytes
        made = self._reshape(attach=(disk,))
        have_bytes = made.disk(disk.like.key).capacity_bytes
        if have_bytes == wanted_bytes:
            return
        self._reshape(detach=(disk.like.key,))
        if have_bytes > wanted_bytes or wanted_bytes % KIB:
            have, want = human_size(have_bytes), human_size(wanted_bytes)
            reason = f"it has {have}, {disk.like.label} has {want}"
            raise SeedUnusable(what=disk.path, reason=reason)
        self.destination.extend_disk(self.replica, disk.path, wanted_bytes)
        self._reshape(attach=(replace(disk, any_size=False),))

    def _reshape(self, *, attach: tuple[NewDisk, ...] = (), detach: tuple[int, ...] = ()) -> VmInfo:
        networks = self.job.placement.networks
        spec = ReshapeSpec(self.source, networks, detach=detach, attach=attach)
        return self.destination.reshape_replica(self.replica, spec)

    def read_digests(self) -> tuple[SeededDisk, ...]:
        """Reads every copy once, for its digest map."""
        # The source's labels: the replica numbers its own anew.
        labels = {d.key: d.label for d in self.disks}
        done = []
        for disk in self.destination.read_vm(self.replica).disks:
            if disk.key not in labels:
                continue
            label = labels[disk.key]
            self.listener(Step("digest", f"reading {label} of {self.replica.name}"))
            with closing(open_current(self.job, self.destination, self.replica, disk)) as opened:
                path, total_bytes = map_path(self.job.job_dir, disk.key), opened.allocated().total
                rebuild(
                    path,
                    opened,
                    hash_blocks,
                    point=self.seed_id,
                    algorithm=ALGORITHM,
                    progress=partial(self._report, label),
                ).close()
            done.append(SeededDisk(disk.key, label, self.chosen[disk.key], total_bytes))
        return tuple(done)

    def _report(self, label: str, done_bytes: int, total_bytes: int) -> None:
        if self.control is not None and self.control.cancelled:
            raise Cancelled
        self.listener(Progress("seed", label, done_bytes, total_bytes, 0))
