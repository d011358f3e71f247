"""Reads a job's recovery points from the destination, and accepts flagged ones.

<job>/accepted      one id a line; losing it costs space (the points are guarded again), no data
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from vreplica.errors import ConfigError, VReplicaError
from vreplica.files import replace_durably
from vreplica.points import DamagedPoint, NewerPoint, RecoveryPoint
from vreplica.points.model import LeftOut
from vreplica.points.side_branch import SideBranch
from vreplica.stored import seal_text
from vreplica.sync.errors import NoPoints, NoSuchPoint, PointIsNewer
from vreplica.sync.job import Job
from vreplica.sync.job_dir import accepted_path, failovers_dir, in_state_dir, job_lock
from vreplica.sync.replica.side_branches import read_branches_of_original
from vreplica.sync.replica.state import find_replica
from vreplica.sync.sites import SiteSessions
from vreplica.vsphere.session import connect


@dataclass(frozen=True, slots=True)
class ReplicaPoints:
    """The recovery points of a job, oldest first.

    `newer` are in a format of a newer version, `damaged` have a description that cannot be
    believed.
    """

    points: tuple[RecoveryPoint, ...] = ()
    newer: tuple[NewerPoint, ...] = ()
    damaged: tuple[DamagedPoint, ...] = ()
    sides: tuple[SideBranch, ...] = ()
    """What was written in service, kept by undone failovers and failbacks. A failback's are on the
    original VM."""
    trouble: str | None = None
    """Why those on the original are not known."""

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The points that this version cannot use."""
        return (*self.newer, *self.damaged)


def read_points(job: Job, sessions: SiteSessions | None = None) -> ReplicaPoints:
    """All recovery points of the job, as the destination has them. `sessions`: of other jobs."""
    with ExitStack() as stack:
        if sessions is not None:
            session = sessions.session(job.destination)
        else:
            session = stack.enter_context(connect(job.destination))
        replica = find_replica(session, job)
        if replica is None:
            return ReplicaPoints()
    found = ReplicaPoints(replica.points, replica.newer, replica.damaged, replica.sides)
    if not any(failovers_dir(job).glob("fb-*")):
        return found
    try:
        sides = (*found.sides, *read_branches_of_original(job))
    except VReplicaError as error:
        return replace(found, trouble=f"side branches of {job.source_vm} are not known: {error}")
    return replace(found, sides=sides)


def points(job: Job, sessions: SiteSessions | None = None) -> tuple[RecoveryPoint, ...]:
    """The job's recovery points, oldest first, as the destination has them.

    Damaged points are left out. Raises PointIsNewer where one of them is in a format that only a
    newer version reads: then the list would not be whole.
    """
    found = read_points(job, sessions)
    for point in found.newer:
        raise PointIsNewer(job.name, point)
    return found.points


@dataclass(eq=False)
class NotFlagged(ConfigError):
    template = "recovery point {point} of job {job} is not flagged"
    remedy = "`vreplica-sync points {job}` shows which are."
    job: str
    point: str


def accept(job: Job, wanted: tuple[str, ...]) -> tuple[RecoveryPoint, ...]:
    """Accepts these flagged points: older clean points may expire again. Returns all points.

    Raises NoSuchPoint, NotFlagged, JobBusy.
    """
    with job_lock(job):
        found = points(job)
        if not found:
            raise NoPoints(job=job.name)
        by_id = {point.id: point for point in found}
        for each in wanted:
            if each not in by_id:
                raise NoSuchPoint(job=job.name, point=each, newest=found[-1].id)
            if not by_id[each].suspicions:
                raise NotFlagged(job.name, each)
        # Ids of points that are gone are dropped.
        now = [p.id for p in found if p.accepted or p.id in wanted]
        with in_state_dir():
            replace_durably(accepted_path(job), seal_text("".join(f"{each}\n" for each in now)))
        return tuple(replace(p, accepted=p.id in now) for p in found)
