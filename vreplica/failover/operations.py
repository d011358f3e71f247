"""Failovers of a job: the preview an operator decides by, and begin, resume, undo, commit.

<job>/failovers/<id>/     one folder each, fo-... there, fb-... back; at most one has not ended

The newest committed one says where the job's VM is in service.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.failover.estimate import Estimate, Measured, estimate, measure
from vreplica.failover.failback import Back, BackSides, prepare
from vreplica.failover.foresight import flag_remarks, steps_no, steps_yes
from vreplica.failover.guest.customize import described
from vreplica.failover.machine import runner
from vreplica.failover.machine.choices import Choices
from vreplica.failover.machine.errors import (
    FailedOverAlready,
    FailoverUnderWay,
    NoFailover,
    NothingToFailBack,
)
from vreplica.failover.machine.journal import begun_below, load
from vreplica.failover.machine.record import record_of
from vreplica.failover.machine.runner import Outcome, Reporter
from vreplica.failover.machine.states import ENDED, State
from vreplica.failover.vsphere_ports import VSphereSides
from vreplica.points import Level, RecoveryPoint
from vreplica.points.model import new_id
from vreplica.points.retention import best
from vreplica.sync.errors import NoPoints
from vreplica.sync.events import Listener, ignore
from vreplica.sync.job import Job
from vreplica.sync.plan.plan import expected_level
from vreplica.sync.replica.foreign_changes import changes_outside
from vreplica.sync.replica.state import JOB_KEY, find_replica, in_state_dir
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.session import connect


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known before the operator decides. Nothing was changed to learn it.

    `source` is None, with the reason in `source_trouble`, when the source cannot be read.
    `insured_level`: what point A would reach now. `booted_by_no`: the point No would boot.
    """

    job: str
    source: VmInfo | None
    source_trouble: str | None
    replica: VmInfo
    points: tuple[RecoveryPoint, ...]
    booted_by_no: RecoveryPoint | None
    """None before a failback: its replica's last state is not frozen yet, and is what No boots."""
    insured_level: Level | None
    remarks: tuple[str, ...]
    estimate: Estimate
    seen: datetime
    """When all this was looked at, UTC."""
    identity: tuple[str, ...] = ()
    """The rules for the guest at the destination, in words."""
    back: bool = False
    """Of a failback."""

    def to_dict(self, max_downtime_s: float | None = None) -> dict[str, Any]:
        return {
            "job": self.job,
            "source": self.source.power_state if self.source else None,
            "source_trouble": self.source_trouble,
            "tools_running": self.source.tools_running if self.source else None,
            "replica": self.replica.power_state,
            "points": [point.to_dict() for point in self.points],
            "yes": {
                "insurance": self.insured_level.value if self.insured_level else None,
                "level": Level.CLEAN_SHUTDOWN.value if self.can_ask else None,
            },
            "no": {
                **self._in_short(self.booted_by_no),
                "newer": [self._in_short(point) for point in self.newer],
            }
            if self.booted_by_no
            else None,
            "estimate": self.estimate.to_dict(max_downtime_s),
            "steps": {"yes": self.steps_yes(), "no": self.steps_no()},
            "remarks": list(self.remarks),
            "guest": list(self.identity),
        }

    def choosing(self, point: str) -> Preview:
        """With the point that the operator named for No. Raises NoSuchPointToBoot."""
        return replace(self, booted_by_no=runner.find_chosen(self.points, point))

    @property
    def newer(self) -> tuple[RecoveryPoint, ...]:
        """What No leaves out: of the points after the one it boots the newest of each level."""
        if self.booted_by_no is None:
            return ()
        after = [p for p in self.points if p.time > self.booted_by_no.time]
        return tuple({p.level: p for p in after}.values())

    def age_s(self, point: RecoveryPoint) -> float:
        """What was written in the last so many seconds is not in it."""
        return max(0.0, (self.seen - point.time).total_seconds())

    def _in_short(self, point: RecoveryPoint) -> dict[str, Any]:
        return {
            "point": point.id,
            "level": point.level.value,
            "time": point.time.isoformat(),
            "age_s": self.age_s(point),
        }

    @property
    def _source_name(self) -> str:
        return self.source.name if self.source is not None else "the source"

    @property
    def _running(self) -> bool:
        return self.source is not None and self.source.power_state == "poweredOn"

    @property
    def can_ask(self) -> bool:
        """The source's guest runs and can be asked to shut down."""
        return self._running and self.source is not None and self.source.tools_running

    def steps_yes(self, *, disconnect: bool = False) -> list[str]:
        """What Yes does on both vCenters, in order; nothing where no sync is possible."""
        if self.source is None:
            return []
        replica = self.replica.name
        return steps_yes(
            self._source_name,
            replica,
            running=self._running,
            tools=self.can_ask,
            disconnect=disconnect,
        )

    def steps_no(self, *, disconnect: bool = False) -> list[str]:
        point = self.booted_by_no.id if self.booted_by_no else "its own last state, frozen first"
        name, replica = self._source_name, self.replica.name
        return steps_no(name, replica, point, running=self._running, disconnect=disconnect)


def preview(job: Job, *, source_lost: bool = False) -> Preview:
    """Look at both sides. Raises NoPoints where there is nothing to fail over to, and as
    `check_free` where no failover can begin."""
    check_free(job)
    with connect(job.destination) as session:
        replica = find_replica(session, job)
        changes = changes_outside(job, session, replica)
    if replica is None or not replica.points:
        raise NoPoints(job=job.name)
    known = _looked_at(job, replica.vm, replica.points, source_lost, _measured(job))
    others = [f"the replica was changed by others: {text}" for text in changes]
    return replace(known, remarks=(*known.remarks, *others))


def preview_back(job: Job, *, source_lost: bool = False, new_vm: str | None = None) -> Preview:
    """The same before a failback: `source` is the VM in service, `replica` the original."""
    back = plan_back(job, new_vm)
    way = back.job(job)
    with connect(way.destination) as session:
        if back.new_vm:
            with connect(job.destination) as other:
                vm = other.read_vm(other.find_vm(back.replica))
            vm = replace(vm, ref=replace(vm.ref, name=back.original))
            known = _looked_at(way, vm, (), False, _measured(job))
            return replace(known, job=job.name, back=True)
        vm = session.read_vm(session.find_vm(back.original))
        ours = vm.extra_config.get(JOB_KEY) == way.name
        found = find_replica(session, way) if ours else None
    points = found.points if found else ()
    known = _looked_at(way, vm, points, source_lost, _measured(job))
    remarks = (*known.remarks, *_addresses_there(job))
    return replace(known, job=job.name, back=True, remarks=remarks)


def _addresses_there(job: Job) -> list[str]:
    if job.guest.customize is None or job.guest.failback is not None:
        return []
    table = f"[jobs.{job.name}.guest.failback]"
    return [f"the guest comes back with the other site's addresses: there is no {table}"]


def _measured(job: Job) -> Measured:
    return measure([record_of(job.name, f.name, load(f)) for f in folders(job)])


def _looked_at(
    job: Job,
    replica: VmInfo,
    points: tuple[RecoveryPoint, ...],
    source_lost: bool,
    measured: Measured,
) -> Preview:
    source: VmInfo | None = None
    trouble = "declared lost by the operator" if source_lost else None
    if not source_lost:
        try:
            with connect(job.source) as session:
                source = session.read_vm(session.find_vm(job.source_vm))
        except VReplicaError as error:
            trouble = str(error)
    level: Level | None = None
    remarks: list[str] = []
    if source is not None and source.power_state == "poweredOn":
        level, remarks = expected_level(job, source)
    elif source is not None:
        remarks = [f"{source.name} is {source.power_state} already: nothing has to be shut down"]
    remarks += flag_remarks(points)
    now = datetime.now(UTC)
    return Preview(
        job=job.name,
        source=source,
        source_trouble=trouble,
        replica=replica,
        points=points,
        booted_by_no=best(points) if points else None,
        insured_level=level,
        remarks=tuple(remarks),
        estimate=estimate(
            points,
            measured,
            running=source is not None and source.power_state == "poweredOn",
            parallel=job.parallel_disks,
            now=now,
        ),
        seen=now,
        identity=tuple(described(job)),
    )


def folders(job: Job) -> list[Path]:
    """The job's failovers, oldest first."""
    return begun_below(job.job_dir / "failovers")


def history(job: Job) -> list[Outcome]:
    return [runner.show(folder) for folder in folders(job)]


def current(job: Job) -> Path:
    """The failover that has not ended, else the newest. Raises NoFailover."""
    found = folders(job)
    if not found:
        raise NoFailover(job=job.name)
    return next((f for f in found if runner.show(f).state not in ENDED), found[-1])


def new_failover() -> str:
    """An id."""
    return f"fo-{new_id()}"


def check_free(job: Job) -> None:
    """Raise FailoverUnderWay where one has not ended, FailedOverAlready after a commit."""
    _none_under_way(job)
    _not_failed_over(job)


def begin(
    job: Job,
    choices: Choices,
    tell: Reporter,
    listener: Listener = ignore,
    *,
    id_: str | None = None,
    goal: State | None = None,
) -> Outcome:
    """A new failover, as far as it goes. Raises as `check_free`.

    For a group: the id that it has in its members, and the state at which to stop for the others.
    """
    check_free(job)
    folder = job.job_dir / "failovers" / (id_ or new_failover())
    with VSphereSides(job, folder.name, listener) as sides:
        alone = _alone(job, check_free)
        return runner.begin(folder, sides, choices, tell, goal, alone=alone)


@contextmanager
def _alone(job: Job, check: Callable[[Job], None]) -> Iterator[None]:
    """One begins at a time: whoever comes second finds the first one's journal."""
    root = job.job_dir / "failovers"
    with in_state_dir():
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (root / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check(job)
        yield


def failed_over(job: Job) -> Outcome | None:
    """The committed failover by which the job's replica is in service; None: the original is."""
    last: Outcome | None = None
    for folder in folders(job):
        outcome = runner.show(folder)
        if outcome.state is State.COMMITTED:
            last = None if _back(folder) else outcome
    return last


def plan_back(job: Job, new_vm: str | None = None) -> Back:
    """What a failback would go between. Changes nothing. Raises NothingToFailBack and what
    keeps the original VM from being gone back to."""
    _none_under_way(job)
    there = failed_over(job)
    if there is None:
        newest = history(job)[-1:]
        why = f"{newest[0].id} is {newest[0].state}" if newest else "it has no failover"
        raise NothingToFailBack(job=job.name, why=why)
    return prepare(job, there, new_vm=new_vm)


def begin_back(
    job: Job,
    choices: Choices,
    tell: Reporter,
    listener: Listener = ignore,
    *,
    new_vm: str | None = None,
    id_: str | None = None,
    goal: State | None = None,
) -> Outcome:
    """Go back to the original VM (or, with the datastore `new_vm`, to a new one) with only what
    differs, as far as it goes. Raises as `plan_back`. id_, goal: as for `begin`."""
    back = plan_back(job, new_vm)
    folder = job.job_dir / "failovers" / (id_ or f"fb-{new_id()}")
    with BackSides(job, back, folder.name, listener) as sides:
        alone = _alone(job, _none_under_way)
        return runner.begin(folder, sides, choices, tell, goal, back.to_dict(), alone)


def _not_failed_over(job: Job) -> None:
    there = failed_over(job)
    if there is not None:
        raise FailedOverAlready(job=job.name, failover=there.id)


def _none_under_way(job: Job) -> None:
    for outcome in history(job):
        if outcome.state not in ENDED:
            raise FailoverUnderWay(job=job.name, failover=outcome.id, state=outcome.state.value)


def _back(folder: Path) -> Back | None:
    entries = load(folder)
    return Back.of_journal(entries[0].data) if entries else None


def sides_of(job: Job, folder: Path, listener: Listener) -> VSphereSides:
    """Source and replica as they stand to each other in this failover or failback."""
    back = _back(folder)
    if back is not None:
        return BackSides(job, back, folder.name, listener)
    return VSphereSides(job, folder.name, listener)


def resume(
    job: Job, tell: Reporter, listener: Listener = ignore, *, source_lost: bool = False
) -> Outcome:
    """Go on with the failover that stopped. `source_lost`: its source is gone for good since."""
    return _go_on(partial(runner.resume, source_lost=source_lost), job, tell, listener)


def undo(job: Job, tell: Reporter, listener: Listener = ignore) -> Outcome:
    """Put both sides back. Raises NotPossibleNow."""
    return _go_on(runner.undo, job, tell, listener)


def commit(job: Job, tell: Reporter, listener: Listener = ignore) -> Outcome:
    """Make the failover permanent. Raises NotPossibleNow."""
    return _go_on(runner.commit, job, tell, listener)


def _go_on(
    call: Callable[[Path, VSphereSides, Reporter], Outcome],
    job: Job,
    tell: Reporter,
    listener: Listener,
) -> Outcome:
    folder = current(job)
    with sides_of(job, folder, listener) as sides:
        return call(folder, sides, tell)
