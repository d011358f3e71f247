"""The errors of a failover: what it refuses, and what it fails with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vreplica.errors import ConfigError, PreflightError, VReplicaError, Where
from vreplica.points import Level


class FailoverError(VReplicaError):
    """A failover stopped. Its journal says in which state.

    Templates and remedies may name {source}, {replica} and {target}, which is what the operator
    types: the job. `name_sides` fills in the names; a failback's source is the VM in service.
    """

    exit_code = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.said = {"source": "the source", "replica": "the replica", "target": "JOB"}
        self.named = False

    def name_sides(self, source: str, replica: str, target: str) -> None:
        """Names both VMs and the job, unless they were named before."""
        if not self.named:
            self.said = {"source": source, "replica": replica, "target": target}
            self.named = True

    def _values(self) -> dict[str, Any]:
        return {**self.said, **super()._values()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._fields(), self.where, self.said)


def _rebuild(
    cls: type[FailoverError], values: dict[str, Any], where: Where, said: dict[str, str]
) -> FailoverError:
    error = cls(**values)
    error.where, error.said = where, said
    return error


@dataclass(eq=False)
class OptionNotForTarget(ConfigError):
    """An option of one job that was given for a group, or for a failover by the service."""

    template = "{option} is not possible for {target}"
    remedy = "Leave it out, or fail the job over by itself, from this process."
    option: str
    """As a parameter: `source_lost`."""
    target: str

    def _values(self) -> dict[str, Any]:
        return {**super()._values(), "option": f"--{self.option.replace('_', '-')}"}


@dataclass(eq=False)
class FailoverTakenOver(FailoverError):
    template = "another process has taken this failover over (its epoch is {newest}, ours {own})"
    remedy = (
        "This process does nothing more. `vreplica-sync failover show {target}` shows what the "
        "other one does."
    )
    own: int
    newest: int


@dataclass(eq=False)
class EpochDamaged(FailoverError):
    template = "{path} does not say any more which process may continue this failover"
    remedy = (
        "This process does nothing more. `vreplica-sync failover resume {target}` writes the file "
        "anew and continues; what was done is read from the journal and from vCenter."
    )
    path: str


@dataclass(eq=False)
class EffectUnderWay(FailoverError):
    template = "process {pid} is doing `{step}` of this failover now"
    remedy = (
        "Wait, then do this again. If that process hangs or was stopped, end it first "
        "(`kill -9 {pid}`). What it has begun is read from vCenter and is not done twice."
    )
    retryable = True
    pid: int
    step: str


@dataclass(eq=False)
class JournalDamaged(FailoverError):
    template = "journal {path} cannot be read at line {line}: {reason}"
    remedy = (
        "Nothing was changed now. Look at both VMs in vCenter before you power either on: only one "
        "may run. The lines before that one say what was done. Where that failover has ended, or "
        "you have settled by hand which VM is in service, set it aside: `mv {folder} {aside}`."
    )
    path: str
    line: int
    reason: str
    folder: str = ""
    aside: str = ""


@dataclass(eq=False)
class JournalIsNewer(PreflightError):
    """A journal in a format that only a newer version reads."""

    template = "journal {path} was {newer}"
    remedy = "Upgrade vreplica on this machine, then do this again. Nothing was changed."
    path: str
    newer: str


@dataclass(eq=False)
class GuestStaysOn(FailoverError):
    template = (
        "{reason}; it was asked to shut down, and may go off yet; {failover} waits in "
        "shutting-down: {source} is on, {replica} is off, the job stays off"
    )
    remedy = (
        "`vreplica-sync failover resume {target}` waits on. `vreplica-sync undo {target}` ends it: "
        "{source} is started again if it went off, and the job is switched on."
    )
    retryable = True
    failover: str
    reason: str


@dataclass(eq=False)
class SourceIsOn(FailoverError):
    template = "{source} is on, so {replica} was not started"
    remedy = (
        "An administrator or HA has powered {source} on. Find out who did it, then "
        "`vreplica-sync undo {target}`: {source} stays on and keeps what it has written."
    )


@dataclass(eq=False)
class SourceRan(FailoverError):
    template = "{source} was started at {time}; point {point} does not have what it wrote then"
    remedy = (
        "{source} is off now. Find out who started it, then `vreplica-sync undo {target}` and "
        "begin another failover. If {source} is lost for good, `vreplica-sync failover resume "
        "{target} --source-lost` boots the point without those writes."
    )
    time: str
    point: str


@dataclass(eq=False)
class ReplicaIsOn(FailoverError):
    template = "{replica} is on, and this failover has not started it"
    remedy = (
        "What it writes is in no recovery point, so do not power it off before you know who "
        "started it. If it is in service: `vreplica-sync failover adopt {target}` continues from "
        "here, and undo keeps what it has written. Else save what must be kept, power {replica} "
        "off, do this again."
    )
    exit_code = 3


@dataclass(eq=False)
class ReplicaTouched(FailoverError):
    template = "{vm} was changed by others since point {point}: {changes}"
    remedy = (
        "The changes are in no recovery point: clone the VM if they must be kept. Then set "
        '`on_replica_change = "discard"` for the job, which reverts {replica} to its point, and '
        "do this again."
    )
    exit_code = 3
    vm: str
    point: str
    changes: str


@dataclass(eq=False)
class LevelTooLow(FailoverError):
    template = "recovery point {point} has the level {level}, {required} is required"
    remedy = (
        "{source} is off and {replica} is not started. `vreplica-sync undo {target}` puts both "
        "back. Then begin another failover with a lower --require, or with a point of that level "
        "(--final-sync no --point ID)."
    )
    point: str
    level: Level
    required: Level


@dataclass(eq=False)
class NoPointToBoot(FailoverError):
    template = "{replica} does not have the recovery point to boot: {wanted}"
    remedy = (
        "{replica} is not started. `vreplica-sync points {target}` lists its points. "
        "`vreplica-sync undo {target}`, then begin another failover with one of them (--final-sync "
        "no --point ID)."
    )
    wanted: str


class BootRefused(FailoverError):
    """No point boots by the operator's choice. The replica was not started."""

    exit_code = 3


@dataclass(eq=False)
class NoSuchPointToBoot(BootRefused):
    template = "{replica} has no recovery point {wanted}; nothing was changed"
    remedy = "`vreplica-sync points {target}` lists its points."
    wanted: str


@dataclass(eq=False)
class SourceNotReached(FailoverError):
    """The source cannot be read, and was not declared lost. Nothing was changed."""

    template = (
        "{vm} at {site} cannot be read: {reason}; nothing was changed, and the job is as it was"
    )
    remedy = (
        "Bring its site or host back, then do this again. If it is lost: `vreplica-sync {verb} "
        "{target} --source-lost --final-sync no` starts the other VM without it."
    )
    exit_code = 5
    retryable = True
    vm: str
    site: str
    reason: str
    verb: str = "failover"


@dataclass(eq=False)
class GuestRulesDoNotFit(BootRefused):
    template = (
        "the addresses of job {job} do not fit its replica: {reason}; nothing was changed, and the "
        "job is on"
    )
    remedy = "Correct [jobs.{job}.guest] in the job file (failback: [jobs.{job}.guest.failback])."
    job: str
    reason: str


@dataclass(eq=False)
class NoPointMeets(BootRefused):
    template = "no recovery point is {wanted}; so none boots, and {replica} was not started"
    remedy = (
        "`vreplica-sync points {target}` lists them. --newest boots the newest, --point ID another "
        "one; `failover resume` has these options too."
    )
    wanted: str


@dataclass(eq=False)
class PointIsFlagged(BootRefused):
    template = (
        "point {flagged} is flagged, it looks like mass encryption ({reason}), and {point} may "
        "hold the same; {replica} was not started"
    )
    remedy = "{then}"
    point: str
    flagged: str
    reason: str
    clean: str | None
    """The newest point from before the flagged one; None: there is none."""

    def in_short(self) -> dict[str, Any]:
        """As JSON: `newest` holds what `flagged` may have brought; `clean` is from before it."""
        short = {"newest": self.point, "flagged": self.flagged, "reason": self.reason}
        return {**short, "clean": self.clean}

    def _values(self) -> dict[str, Any]:
        before = f"--point {self.clean} boots the newest point from before it. " * bool(self.clean)
        then = (
            f"{before}--point {self.point} boots this one in spite of it. If the change was meant: "
            f"`vreplica-sync points {self.said['target']} --accept {self.flagged}`."
        )
        return {**super()._values(), "then": then}


@dataclass(eq=False)
class ChosenLevelTooLow(BootRefused):
    template = (
        "recovery point {point} has the level {level}, {required} is required; nothing was changed"
    )
    remedy = (
        "Choose a point of that level with --point (`vreplica-sync points {target}` lists them), "
        "or lower --require."
    )
    point: str
    level: Level
    required: Level


@dataclass(eq=False)
class NotPossibleNow(FailoverError):
    template = "failover {failover} is {state}: {asked} is not possible; nothing was changed"
    remedy = "`vreplica-sync failover show {target}` shows what happened and what is possible now."
    failover: str
    asked: str
    state: str


@dataclass(eq=False)
class UndoRefused(FailoverError):
    template = (
        "{failover} is not undone, because {source} may not be able to run: {reason}; nothing "
        "was changed, and a replica in service stays so"
    )
    remedy = (
        "Bring the site or host of {source} back, then `vreplica-sync undo {target}`. If {replica} "
        "is to be stopped although nothing may run then: `vreplica-sync undo {target} "
        "--even-without-source`."
    )
    exit_code = 3
    failover: str
    reason: str


@dataclass(eq=False)
class CommitRefused(FailoverError):
    template = (
        "{failover} is not committed: {replica} is off and {source} is on, so the VM does not run "
        "where the commit would keep it; nothing was changed"
    )
    remedy = (
        "If the VM is to stay at {source}: `vreplica-sync undo {target}`, which also keeps what "
        "{replica} wrote. Else save what {source} holds, shut it down, start {replica}, and commit."
    )
    exit_code = 3
    failover: str


@dataclass(eq=False)
class ReplicaCannotShutDown(FailoverError):
    template = (
        "VMware Tools are not running in {replica}, so its guest cannot be shut down; nothing "
        "was changed, and {replica} stays in service"
    )
    remedy = (
        "`vreplica-sync undo {target} --on-shutdown-timeout power-off` powers it off, hard, and "
        "keeps what it has written with the level crash. Or shut it down at its console, then undo."
    )
    exit_code = 3


@dataclass(eq=False)
class ReplicaStaysOn(FailoverError):
    template = (
        "the guest of {replica} did not shut down within {seconds:.0f} s; it was asked to, and may "
        "go off yet; {failover} is not undone"
    )
    remedy = (
        "`vreplica-sync undo {target}` waits on, with --on-shutdown-timeout power-off it powers "
        "{replica} off. While it is on, `vreplica-sync commit {target}` keeps it in service."
    )
    retryable = True
    failover: str
    seconds: float


@dataclass(eq=False)
class NoRoomToKeep(FailoverError):
    template = "what was written in service cannot be kept: {reason}; nothing was changed"
    remedy = (
        "{replica} stays in service. Make room, then `vreplica-sync undo {target}`. "
        "`vreplica-sync undo {target} --discard-written` throws away what was written."
    )
    exit_code = 3
    reason: str


@dataclass(eq=False)
class UndoStopped(FailoverError):
    template = (
        "what was written in service could not be kept ({reason}), so {failover} is not undone; "
        "{replica} is in service again, and {source} was not touched"
    )
    remedy = (
        "Remove the cause, then `vreplica-sync undo {target}`. `vreplica-sync undo {target} "
        "--discard-written` throws away what was written."
    )
    exit_code = 3
    failover: str
    reason: str


@dataclass(eq=False)
class SourceCannotRun(FailoverError):
    template = "VM {vm} is {state}: it cannot be powered on"
    remedy = "Bring its host and its datastore back first."
    vm: str
    state: str


@dataclass(eq=False)
class NothingToAdopt(FailoverError):
    template = (
        "no failover has the replica {vm} of job {job}, and nobody has started it: it is {power}"
    )
    remedy = "`vreplica-sync failover {job}` begins one, `vreplica-sync plan {job}` shows the rest."
    exit_code = 3
    job: str
    vm: str
    power: str


@dataclass(eq=False)
class MarkIsNewer(PreflightError):
    """A failover whose mark on the replica only a newer version reads."""

    template = "failover {failover} of job {job} was marked by a newer version of vreplica"
    remedy = "Upgrade vreplica on this machine, then do this again. Nothing was changed."
    job: str
    failover: str


@dataclass(eq=False)
class MarkTellsTooLittle(FailoverError):
    template = (
        "failback {failover} of job {job} was begun by an older version on {mover}, and its mark "
        "does not tell how far it got; nothing was changed"
    )
    remedy = (
        "Continue it on {mover}. Where that is lost: look at both VMs in vCenter, keep the one "
        "that holds the newest data on, and remove the key vreplica.claim of the original VM."
    )
    exit_code = 3
    job: str
    failover: str
    mover: str


@dataclass(eq=False)
class AdoptedMeanwhile(FailoverError):
    template = (
        "failover {failover} of job {job} is in other hands than a moment ago: {by}; nothing was "
        "changed"
    )
    remedy = "Look who it is, then give the same command again where you mean to take it over."
    exit_code = 3
    job: str
    failover: str
    by: str


@dataclass(eq=False)
class NoFailover(FailoverError):
    template = "job {job} has no failover"
    remedy = (
        "Begin one with `vreplica-sync failover {job}`. One that another mover began, or whose "
        "journal is lost: `vreplica-sync failover adopt {job}`."
    )
    job: str


@dataclass(eq=False)
class FailoverUnderWay(FailoverError):
    template = "{job} has a failover that has not ended: {failover} is {state}"
    remedy = (
        "`vreplica-sync failover show {job}` shows it. If it is running, `vreplica-sync commit "
        "{job}` or `vreplica-sync undo {job}`. If it stopped, `vreplica-sync failover resume "
        "{job}` continues it, and undo goes back."
    )
    job: str
    failover: str
    state: str


@dataclass(eq=False)
class MemberGivenUp(FailoverError):
    template = "the failover of {member} was given up: {reason}"
    remedy = (
        "`vreplica-sync undo group:NAME` puts the other members back. Or fail the others over one "
        "by one, without it."
    )
    member: str
    reason: str


@dataclass(eq=False)
class MemberSilent(FailoverError):
    template = "the replica of {member} is on, but its guest gave no heartbeat in time"
    remedy = (
        "Look at its console. `vreplica-sync failover resume group:NAME` checks it again. Members "
        "that need it wait for it, unless the job file has `heartbeat = false` for it."
    )
    retryable = True
    member: str


@dataclass(eq=False)
class GroupNotRunning(FailoverError):
    template = "group {group} cannot be committed: {still}; nothing was changed"
    remedy = (
        "`vreplica-sync failover resume group:{group}` continues it, `vreplica-sync undo "
        "group:{group}` goes back."
    )
    group: str
    members: dict[str, str]

    def _values(self) -> dict[str, Any]:
        still = ", ".join(f"{name} is {state}" for name, state in self.members.items())
        return {**super()._values(), "still": still}


@dataclass(eq=False)
class Interrupted(FailoverError):
    template = "the failover was interrupted between two steps"
    remedy = "`vreplica-sync failover resume {target}` continues it."
    exit_code = 130


@dataclass(eq=False)
class FailedOverAlready(FailoverError):
    template = "job {job} is failed over (committed by {failover}): its replica is in service"
    remedy = "`vreplica-sync failback {job}` brings the VM back to its original."
    job: str
    failover: str


@dataclass(eq=False)
class NothingToFailBack(FailoverError):
    template = "{job} has no committed failover to go back from: {why}"
    remedy = (
        "A failback follows `vreplica-sync failover {job}` and `vreplica-sync commit {job}`. "
        "Before the commit, `vreplica-sync undo {job}` goes back."
    )
    job: str
    why: str


@dataclass(eq=False)
class OriginalGone(FailoverError):
    template = "the original VM of job {job} ({vm}) is not at its site: {reason}"
    remedy = (
        "If it was unregistered, register it again. If it is lost for good, `vreplica-sync "
        "failback {job} --new-vm DATASTORE` replicates to a new VM in its place."
    )
    job: str
    vm: str
    reason: str


@dataclass(eq=False)
class CustomizationScriptFailed(FailoverError):
    template = "the script for addresses and host name ended with {code}: {output}"
    remedy = "{replica} is in service. Set its addresses and host name at its console."
    code: int | None
    output: str
