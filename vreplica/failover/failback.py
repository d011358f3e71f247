"""The way back: a job the other way round, and what settles its direction.

    forward    source O  --job NAME-->        replica R
    failback   source R  --job NAME~back-->   replica O       the same engine, the same steps

What a failback was begun with is in its journal's first entry, beside the choices:

    "back": {"original": O's instance UUID, "replica": R's, "datastore": ..., "booted": point,
             "level": how O went down, "of": the failover that it takes back}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from vreplica.errors import VReplicaError
from vreplica.failover.machine.errors import NoPointToBoot, OriginalGone
from vreplica.failover.machine.runner import Outcome
from vreplica.failover.vsphere_ports import DISCONNECTED_KEY, VSphereSides
from vreplica.points import Level
from vreplica.sync.errors import NoPoints, PreflightFailed
from vreplica.sync.events import Listener, Warn
from vreplica.sync.job import Job, OnCbtLoss, Placement
from vreplica.sync.job_switch import disabled_by, enable
from vreplica.sync.replica.foreign_changes import changes_outside
from vreplica.sync.replica.reprotect import adopt, drop_points, obstacles
from vreplica.sync.replica.state import JOB_KEY, Sites, find_replica, identity
from vreplica.vsphere.errors import VmNotFound
from vreplica.vsphere.model import AS_IS, VmRef
from vreplica.vsphere.session import connect


@dataclass(frozen=True, slots=True)
class Back:
    """What a failback has to know of both VMs. `original`: an instance UUID, or the name of a VM
    that is to be made in place of one that is lost (`new_vm`)."""

    original: str
    replica: str
    datastore: str
    booted: str
    level: str
    of: str
    new_vm: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"back": asdict(self)}

    @classmethod
    def of_journal(cls, begun: Mapping[str, Any]) -> Self | None:
        """None for a failover forward."""
        return cls(**begun["back"]) if "back" in begun else None

    def job(self, job: Job) -> Job:
        """The job the other way round: where tracking cannot answer it reads everything."""
        return replace(
            job,
            name=job.other_way,
            source=job.destination,
            source_vm=self.replica,
            destination=job.source,
            placement=Placement(
                datastore=self.datastore,
                name=self.original,
                networks={there: here for here, there in job.placement.networks.items()},
                # The original has its own, whatever its replica has.
                keep=job.placement.keep if self.new_vm else AS_IS,
            ),
            on_cbt_loss=OnCbtLoss.RESCAN,
            exclude_disks=frozenset(),
            # The rules are for the other site, those for this one are not to be guessed from them.
            guest=job.guest.failback or replace(job.guest, customize=None),
        )


class BackSides(VSphereSides):
    """Failover's two sides with source and replica exchanged."""

    def __init__(self, forward: Job, back: Back, failover: str, listener: Listener) -> None:
        super().__init__(back.job(forward), failover, listener)
        self._forward, self._back = forward, back

    def replica_is_frozen(self) -> bool:
        """The original's last state is a point of the way back, and nothing came on top.

        A new VM in place of a lost one has nothing to keep.
        """
        if self._back.new_vm:
            return True
        ref = self._destination.find_vm(self._job.placement.name)
        if self._destination.read_vm(ref).extra_config.get(JOB_KEY) != self._job.name:
            return False
        replica = find_replica(self._destination, self._job)
        if replica is None or not replica.clean:
            return False
        return not changes_outside(self._job, self._destination, replica)

    def freeze_replica(self, failover: str) -> None:
        adopt(
            self._job,
            point=f"{failover}-0",
            booted=self._back.booted,
            level=Level(self._back.level),
            listener=self._listener,
        )

    def _connect_replica(self, ref: VmRef) -> None:
        """The original's cards are as their owner set them, unless the failover disconnected
        them. Those of a new VM are disconnected."""
        marked = self._destination.read_vm(ref).extra_config.get(DISCONNECTED_KEY)
        if marked or self._back.new_vm:
            super()._connect_replica(ref)
            self._destination.set_extra_config(ref, {DISCONNECTED_KEY: ""})

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        """Forward again: the replica's state at its shutdown is the base of the next run."""
        if lost:
            self._listener(Warn("the replica is lost: give the job another destination.name"))
        else:
            adopt(
                replace(self._forward, source_vm=self._back.original),
                point=f"{failover}-0",
                booted=booted,
                level=level,
                listener=self._listener,
            )
        try:
            drop_points(self._job, self._listener)
        except VReplicaError as error:
            self._listener(Warn(f"recovery points are left on the original VM: {error}"))
        holder = disabled_by(self._forward)
        if holder is not None:
            enable(self._forward, holder)
        enable(self._job, failover)


def prepare(job: Job, of: Outcome, *, new_vm: str | None = None) -> Back:
    """What the way back needs to know, read from both sides; nothing is changed.

    `of`: the committed failover. `new_vm`: the datastore for a VM in place of an original that is
    lost. Raises OriginalGone and PreflightFailed.
    """
    booted = str(of.facts["point"])
    with connect(job.destination) as session:
        replica = find_replica(session, job)
        if replica is None:
            raise NoPoints(job=job.name)
        point = next((p for p in replica.points if p.id == booted), None)
        if point is None:
            raise NoPointToBoot(wanted=booted)
    back = Back(
        original=point.source_vm,
        replica=identity(replica.vm),
        datastore=new_vm or "",
        booted=booted,
        level=str(of.facts.get("off_level", Level.CRASH.value)),
        of=of.id,
    )
    if new_vm is not None:
        return replace(back, original=point.source_name, new_vm=True)
    with connect(job.source) as session:
        try:
            vm = session.read_vm(session.find_vm(point.source_vm))
        except VmNotFound as error:
            raise OriginalGone(
                job=job.name, vm=f"{point.source_name}, {point.source_vm}", reason=error.message
            ) from None
        # New disks go beside those that it has, or beside itself where it has none any more.
        back = replace(back, datastore=vm.disks[0].datastore if vm.disks else vm.home_datastore)
    with Sites.open(back.job(job)) as sites:
        problems = obstacles(back.job(job), sites, vm, point)
    if problems:
        raise PreflightFailed(job=job.name, problems=tuple(problems)).at(vm=vm.ref.name)
    return back
