"""Failovers of a job: the preview an operator decides by, and begin, resume, undo, commit.

<job>/failovers/<id>/     one folder each; at most one of them has not ended
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.failover import runner
from vreplica.failover.choices import Choices
from vreplica.failover.errors import FailoverUnderWay, NoFailover
from vreplica.failover.journal import load
from vreplica.failover.runner import Outcome, Tell
from vreplica.failover.table import ENDED, State
from vreplica.jobs.sides import VSphereSides
from vreplica.points import Level, RecoveryPoint
from vreplica.points.model import new_id
from vreplica.points.retention import best
from vreplica.sync import Job, Listener
from vreplica.sync.errors import NoPoints
from vreplica.sync.events import ignore
from vreplica.sync.plan import expected_level
from vreplica.sync.state import find_replica
from vreplica.vsphere import VmInfo, connect


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
    booted_by_no: RecoveryPoint
    insured_level: Level | None
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "source": self.source.power_state if self.source else None,
            "source_trouble": self.source_trouble,
            "tools_running": self.source.tools_running if self.source else None,
            "replica": self.replica.power_state,
            "points": [point.to_dict() for point in self.points],
            "yes": {
                "insurance": self.insured_level.value if self.insured_level else None,
                "level": Level.CLEAN_SHUTDOWN.value if self.insured_level else None,
            },
            "no": {"point": self.booted_by_no.id, "level": self.booted_by_no.level.value},
            "remarks": list(self.remarks),
        }


def preview(job: Job, *, source_lost: bool = False) -> Preview:
    """Look at both sides. Raises NoPoints where there is nothing to fail over to."""
    with connect(job.destination) as session:
        replica = find_replica(session, job)
    if replica is None or not replica.points:
        raise NoPoints(job=job.name)
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
    remarks += flag_remarks(replica.points)
    return Preview(
        job=job.name,
        source=source,
        source_trouble=trouble,
        replica=replica.vm,
        points=replica.points,
        booted_by_no=best(replica.points),
        insured_level=level,
        remarks=tuple(remarks),
    )


def flag_remarks(points: Sequence[RecoveryPoint]) -> list[str]:
    """What an operator has to know before any of these points is booted."""
    first = next((n for n, point in enumerate(points) if point.flagged), None)
    if first is None:
        return []
    remarks = [
        f"point {points[first].id} is flagged ({what}); later ones may hold the same"
        for what in points[first].suspicions
    ]
    if first:
        clean = best(points[:first])
        remarks.append(f"the best point from before it: --final-sync no --point {clean.id}")
    return remarks


def folders(job: Job) -> list[Path]:
    """The job's failovers, oldest first. One whose process died before it began is none."""
    root = job.job_dir / "failovers"
    return sorted(p for p in root.iterdir() if p.is_dir() and load(p)) if root.is_dir() else []


def history(job: Job) -> list[Outcome]:
    return [runner.show(folder) for folder in folders(job)]


def current(job: Job) -> Path:
    """The failover that has not ended, else the newest. Raises NoFailover."""
    found = folders(job)
    if not found:
        raise NoFailover(job=job.name)
    return next((f for f in found if runner.show(f).state not in ENDED), found[-1])


def check_free(job: Job) -> None:
    """Raise FailoverUnderWay where a failover has not ended, or was committed."""
    for outcome in history(job):
        if outcome.state not in ENDED or outcome.state is State.COMMITTED:
            raise FailoverUnderWay(job=job.name, failover=outcome.id, state=outcome.state.value)


def begin(
    job: Job,
    choices: Choices,
    tell: Tell,
    listener: Listener = ignore,
    *,
    id_: str | None = None,
    goal: State | None = None,
) -> Outcome:
    """A new failover, as far as it goes. Raises FailoverUnderWay where one has not ended.

    For a group: the id that it has in its members, and the state at which to stop for the others.
    """
    check_free(job)
    folder = job.job_dir / "failovers" / (id_ or f"fo-{new_id()}")
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with VSphereSides(job, folder.name, listener) as sides:
        return runner.begin(folder, sides, choices, tell, goal)


def resume(job: Job, tell: Tell, listener: Listener = ignore) -> Outcome:
    """Go on with the failover that stopped."""
    return _go_on(runner.resume, job, tell, listener)


def undo(job: Job, tell: Tell, listener: Listener = ignore) -> Outcome:
    """Put both sides back. Raises NotPossibleNow."""
    return _go_on(runner.undo, job, tell, listener)


def commit(job: Job, tell: Tell, listener: Listener = ignore) -> Outcome:
    """Make the failover permanent. Raises NotPossibleNow."""
    return _go_on(runner.commit, job, tell, listener)


def _go_on(
    call: Callable[[Path, VSphereSides, Tell], Outcome], job: Job, tell: Tell, listener: Listener
) -> Outcome:
    folder = current(job)
    with VSphereSides(job, folder.name, listener) as sides:
        return call(folder, sides, tell)
