"""Defines the errors of plan, run, seed and verify; errors of sites and disks pass through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vreplica.errors import (
    CbtError,
    ConfigError,
    ConsistencyError,
    PreflightError,
    ReplicaError,
    VSphereError,
)
from vreplica.points import DamagedPoint, Level, NewerPoint


@dataclass(eq=False)
class PreflightFailed(PreflightError):
    """The job cannot start. `problems` has everything that is in the way."""

    template = "job {job} cannot start; nothing was changed on either side"
    job: str
    problems: tuple[str, ...]

    def explain(self) -> list[str]:
        return [f"- {problem}" for problem in self.problems] + super().explain()

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "problems": list(self.problems)}


@dataclass(eq=False)
class JobBusy(PreflightError):
    template = "job {job} is already running{now} (process {pid})"
    remedy = "{then}"
    retryable = True
    job: str
    pid: str
    paused: bool = False
    """Its run was paused by `pause`."""

    def _values(self) -> dict[str, Any]:
        now, then = "", "Wait until it ends, or stop that process: its lock ends with it."
        if self.paused:
            now = ", and is paused"
            then = f"`vreplica-sync resume {self.job}` continues the paused run."
        return {**super()._values(), "now": now, "then": then}


@dataclass(eq=False)
class ReplicaClaimed(PreflightError):
    """Another writer has the replica. `claim`: which one, where, since when."""

    template = "replica {vm} of job {job} is in the hands of {claim}"
    remedy = (
        "Wait until that ends, or end that process on its machine. A claim whose process is gone "
        "ends by itself: at once on the same machine, else 10 minutes after it was last renewed. "
        "Where you know that its machine is lost: `vreplica-sync run {job} --take-over`."
    )
    retryable = True
    job: str
    vm: str
    claim: str


@dataclass(eq=False)
class ReplicaInFailover(ReplicaClaimed):
    """A failover has the replica, until it is undone, committed or failed back."""

    template = "replica {vm} of job {job} {standing}"
    remedy = (
        "Nothing writes to it meanwhile. On the mover that has the failover: `vreplica-sync "
        "failover show {job}`, then `vreplica-sync undo {job}` or `vreplica-sync commit {job}`; "
        "after a commit, `vreplica-sync failback {job}`. Where that mover or its state directory "
        "is lost: `vreplica-sync failover adopt {job}` continues it here."
    )
    retryable = False
    standing: str = ""
    """`is in service by failover fo-... of TIME, from mover M (running)`."""


@dataclass(eq=False)
class FailoverNotHere(PreflightError):
    """This machine has a journal of a failover that another mover has, or that is over."""

    template = (
        "failover {failover} of job {job} is no longer in the hands of this mover: replica {vm} is "
        "in the hands of {by}; nothing was changed"
    )
    remedy = (
        "Continue on that mover. Where it is lost, or where the failover has ended: `vreplica-sync "
        "failover adopt {job}` makes the record of this machine agree with the replica."
    )
    job: str
    failover: str
    vm: str
    by: str


@dataclass(eq=False)
class ReplicaStillOpen(PreflightError):
    """The disks of a replica that was to be taken over are still open for writing."""

    template = "the disks of replica {vm} are still open, by {claim} or its host: {reason}"
    remedy = (
        "End that process on its machine: its disks close with it. Where the machine is lost, its "
        "connections end at the ESXi host after some minutes. Then give the same command again."
    )
    retryable = True
    job: str
    vm: str
    claim: str
    reason: str


@dataclass(eq=False)
class ClaimLost(PreflightError):
    """Another writer took the replica over while this one was held up."""

    template = "run {run} of job {job} lost replica {vm} to {by}"
    remedy = (
        "Nothing of this run is kept; no recovery point was changed. Look at the other one: "
        "`vreplica-sync points {job}`. Two movers with one job take turns, but only one needs it."
    )
    job: str
    vm: str
    run: str
    by: str


@dataclass(eq=False)
class ReplicaChangedMeanwhile(ReplicaError):
    """Somebody else changed the replica while a run wrote to it. The run makes no point."""

    template = "replica {vm} was changed by others while job {job} wrote to it: {what}"
    remedy = (
        "Look at the recent tasks of {vm} in vCenter, and let nobody change a replica. "
        "Then give the same command again: it takes the replica back to its latest point first."
    )
    retryable = True
    job: str
    vm: str
    what: str


@dataclass(eq=False)
class StateDirUnusable(PreflightError):
    template = "the state directory cannot be used: {reason}"
    remedy = (
        "`state_dir` in the job file names a folder that this user can write to: correct it, mount "
        "it, or work as the user to whom it belongs."
    )
    reason: str


@dataclass(eq=False)
class SwitchDamaged(PreflightError):
    """The file that says whether a failover has disabled the job. Until then it is disabled."""

    template = "job {job} stays off: {path} cannot be believed ({reason})"
    remedy = (
        "`vreplica-sync failover show {job}` shows the failover that has disabled it: resume, undo "
        "or commit that one, or fail back, which writes the file anew. Where no failover has, "
        "remove the file: `rm {path}`."
    )
    job: str
    path: str
    reason: str


@dataclass(eq=False)
class JobDisabled(PreflightError):
    template = "job {job} is disabled by failover {failover}"
    remedy = (
        "Commit or undo that failover first: `vreplica-sync commit {job}` or "
        "`vreplica-sync undo {job}`."
    )
    job: str
    failover: str


@dataclass(eq=False)
class JobFailedOver(PreflightError):
    template = (
        "job {job} was failed over by {failover}, and that was committed: its replica is in "
        "service, and a run would overwrite it with the old source's content"
    )
    remedy = "`vreplica-sync failback {job}` goes back to the original VM; then the job runs again."
    job: str
    failover: str


@dataclass(eq=False)
class Cancelled(PreflightError):
    template = "cancelled on request"
    exit_code = 130


@dataclass(eq=False)
class LevelNotReached(ConsistencyError):
    template = "{required} consistency is required, the snapshot reached {reached}: {reason}"
    remedy = (
        "Correct the cause in the guest, or lower `require` in the job. "
        "The earlier recovery points are untouched."
    )
    required: Level
    reached: Level
    reason: str


@dataclass(eq=False)
class CbtStillInactive(CbtError):
    template = "changed block tracking is enabled but gives no changeId for {label}"
    remedy = (
        "The disk may be of a kind that cannot be tracked. List it in `exclude_disks`, or run with "
        "--on-cbt-loss rescan, which reads it whole each time."
    )
    label: str


@dataclass(eq=False)
class CbtWasReset(CbtError):
    template = "changed block tracking was reset: its generation was {was}, now it is {now}"
    remedy = "Run with --on-cbt-loss rescan: everything allocated is read, what differs is written."
    was: str
    now: str


@dataclass(eq=False)
class SourceChanged(PreflightError):
    template = "the disks of the source changed while the run was being prepared"
    remedy = "Run it again: the next run reads the disks anew."
    retryable = True


@dataclass(eq=False)
class SourceSnapshotLost(VSphereError):
    template = "the snapshot that was being read was removed meanwhile{by}"
    remedy = (
        "Content of two moments was read, so it makes no recovery point. Let nobody remove the "
        "snapshot {name} while a run reads it, then give the same command again."
    )
    retryable = True
    name: str
    by: str
    """Tasks of others that may have done it, as ` (...)`; empty where none is known."""


@dataclass(eq=False)
class NotOurReplica(ReplicaError):
    template = "a VM named {name} exists at the destination and is not job {job}'s replica"
    remedy = (
        "Set another `destination.name` in the job file, or rename or remove that VM in vCenter."
    )
    name: str
    job: str


@dataclass(eq=False)
class SeveralReplicas(ReplicaError):
    template = (
        "no VM at the destination is called {wanted}, and several have the marks and points of job "
        "{job}: {names}"
    )
    remedy = (
        "Nothing was changed. Find out which one is the replica and give it the name {wanted}; the "
        "others are copies of it, and keep their points until somebody removes them."
    )
    job: str
    wanted: str
    names: str


@dataclass(eq=False)
class SiteNotTried(VSphereError):
    """A site failed for another job of this command a moment ago."""

    template = "{host} is not tried again for now: {reason}"
    remedy = "The error of the first job says what to do. `vreplica-sync check` tries {host} again."
    retryable = True
    host: str
    reason: str


@dataclass(eq=False)
class HasReplica(ReplicaError):
    template = "job {job} has a replica already: {name}"
    remedy = (
        "Only a new replica is seeded. Rename or remove that VM, or set another `destination.name`."
    )
    name: str
    job: str


@dataclass(eq=False)
class SeedUnusable(PreflightError):
    template = "{what} cannot seed the replica: {reason}"
    remedy = (
        "Name a powered-off VM at the destination, or disks as '[datastore] dir/disk.vmdk', "
        "none larger than the source's disk. The named VM and disks are unchanged."
    )
    what: str
    reason: str


@dataclass(eq=False)
class NoSuchPoint(ConfigError):
    template = "job {job} has no recovery point {point}"
    remedy = "`vreplica-sync points {job}` lists them. The newest: {newest}."
    job: str
    point: str
    newest: str


@dataclass(eq=False)
class PointIsNewer(PreflightError):
    """A recovery point is in a format that only a newer version reads."""

    template = "job {job}: {point}"
    remedy = (
        "Upgrade vreplica on this machine, then do this again. "
        "Do not remove the point: it is a recovery point of this job."
    )
    job: str
    point: NewerPoint

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "point": self.point.id, "format": self.point.format}


@dataclass(eq=False)
class PointIsDamaged(ReplicaError):
    """A recovery point that somebody asked for has a description that cannot be believed."""

    template = "job {job}: {point}"
    remedy = (
        "Nothing was changed. `vreplica-sync points {job}` lists the points that can be used. The "
        "disks of this one may be good: clone its snapshot in vCenter to look at them."
    )
    job: str
    point: DamagedPoint

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "point": self.point.id}


@dataclass(eq=False)
class NoPoints(ReplicaError):
    template = "job {job} has no recovery point yet"
    remedy = "Run `vreplica-sync run {job}` first."
    job: str


@dataclass(eq=False)
class DestinationTooSmall(PreflightError):
    template = (
        "datastore {datastore} has {free} free, this run may write {needed}; nothing was written"
    )
    remedy = (
        "Free space on the datastore, keep fewer recovery points, "
        "or place the replica on another one."
    )
    datastore: str
    free: str
    needed: str


@dataclass(eq=False)
class TestMarkDamaged(ReplicaError):
    template = "{place} does not say any more on which recovery point of {job} it stands"
    remedy = (
        "No recovery point is removed meanwhile. Where that test is over, remove its VM in vCenter "
        "and that file."
    )
    job: str
    place: str


@dataclass(eq=False)
class BeingTested(PreflightError):
    template = "test VM {vm} of job {job} is in use by {owner}"
    remedy = (
        "Wait for that test. A test VM that is kept, or whose machine is gone, is removed by "
        "`vreplica-sync test-failover {job} --clean`."
    )
    job: str
    vm: str
    owner: str
