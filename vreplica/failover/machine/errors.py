"""What a failover can refuse or fail with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vreplica.errors import ConfigError, PreflightError, VReplicaError
from vreplica.points import Level


class FailoverError(VReplicaError):
    """A failover could not go on; its journal says how far it got."""

    exit_code = 9


@dataclass(eq=False)
class OptionNotForTarget(ConfigError):
    """An option of one job that was given for a group, or for a failover by the service."""

    template = "{option} is not possible for {target}: it is for one job, from this process"
    remedy = "Leave it out, or fail the job over by itself."
    option: str
    """As a parameter: `source_lost`."""
    target: str

    def _values(self) -> dict[str, Any]:
        return {**super()._values(), "option": f"--{self.option.replace('_', '-')}"}


@dataclass(eq=False)
class FailoverTakenOver(FailoverError):
    template = "another process has taken this failover over (epoch {newest}, ours is {own})"
    remedy = "Nothing more is done here. `vreplica-sync failover show` tells how it goes on."
    own: int
    newest: int


@dataclass(eq=False)
class EffectUnderWay(FailoverError):
    template = "process {pid} is in the middle of `{step}` of this failover"
    remedy = (
        "Wait until it is done. If that process hangs or was stopped, end it (`kill -9 {pid}`) and "
        "do this again: what it had begun is looked at first, and done once."
    )
    retryable = True
    pid: int
    step: str


@dataclass(eq=False)
class JournalDamaged(FailoverError):
    template = "journal {path} cannot be read at line {line}: {reason}"
    remedy = (
        "Do not power on either VM before you have looked at both in vCenter; "
        "the readable lines say what was done."
    )
    path: str
    line: int
    reason: str


@dataclass(eq=False)
class JournalIsNewer(PreflightError):
    """A journal in a format that only a newer version reads."""

    template = "journal {path} was {newer}"
    remedy = "Upgrade vreplica on this machine, then do this again. Nothing was changed."
    path: str
    newer: str


@dataclass(eq=False)
class SourceIsOn(FailoverError):
    template = "the source is on; the replica is not started beside it"
    remedy = (
        "Somebody or something (HA, an administrator) powered it on. Find out who, then undo "
        "the failover: the source keeps what it has written since."
    )


@dataclass(eq=False)
class SourceRan(FailoverError):
    template = "the source was started at {time}: what it wrote is not in point {point}"
    remedy = (
        "Find out who started it, then undo the failover and begin another. Where the source is "
        "gone for good, `vreplica-sync failover resume JOB --source-lost` boots without that."
    )
    time: str
    point: str


@dataclass(eq=False)
class ReplicaIsOn(FailoverError):
    template = "the replica is on already, and this failover has not started it"
    remedy = (
        "Somebody started it by hand, and what it writes is in no recovery point. Find out who, "
        "save what it holds if that is to be kept, and power it off; then do this again."
    )
    exit_code = 3


@dataclass(eq=False)
class ReplicaTouched(FailoverError):
    template = "the replica {vm} was changed by others since point {point}: {changes}"
    remedy = (
        "That is in no recovery point: clone the VM if any of it is to be kept. Then set "
        '`on_replica_change = "discard"` for the job, which takes the replica back to its point, '
        "and do this again."
    )
    exit_code = 3
    vm: str
    point: str
    changes: str


@dataclass(eq=False)
class LevelTooLow(FailoverError):
    template = "recovery point {point} is {level} consistent, {required} is required"
    remedy = "Undo the failover, or begin another with a point of that level."
    point: str
    level: Level
    required: Level


@dataclass(eq=False)
class NoPointToBoot(FailoverError):
    template = "the replica has no such recovery point: {wanted}"
    remedy = "`vreplica-sync points` lists them; undo this failover and name one of those."
    wanted: str


class BootRefused(FailoverError):
    """What the operator chose cannot boot; refused before anything was changed."""

    exit_code = 3


@dataclass(eq=False)
class NoSuchPointToBoot(BootRefused):
    template = "the replica has no recovery point {wanted}; nothing was changed"
    remedy = "`vreplica-sync points` lists them."
    wanted: str


@dataclass(eq=False)
class ChosenLevelTooLow(BootRefused):
    template = (
        "recovery point {point} is {level} consistent, {required} is required; nothing was changed"
    )
    remedy = (
        "Name one of that level with --point (`vreplica-sync points` lists them), or take "
        "--require back."
    )
    point: str
    level: Level
    required: Level


@dataclass(eq=False)
class NotPossibleNow(FailoverError):
    template = "failover {failover} is {state}: {asked} is not possible"
    remedy = "`vreplica-sync failover show JOB` tells what happened and what is possible."
    failover: str
    asked: str
    state: str


@dataclass(eq=False)
class NoFailover(FailoverError):
    template = "job {job} has no failover"
    remedy = "`vreplica-sync failover {job}` begins one."
    job: str


@dataclass(eq=False)
class FailoverUnderWay(FailoverError):
    template = "job {job} has a failover already: {failover} is {state}"
    remedy = (
        "`vreplica-sync failover show {job}` says how far it is. Where it is running: "
        "`vreplica-sync commit {job}` or `vreplica-sync undo {job}`; where it stopped on the way: "
        "`vreplica-sync failover resume {job}`, or undo it."
    )
    job: str
    failover: str
    state: str


@dataclass(eq=False)
class MemberGivenUp(FailoverError):
    template = "the failover of {member} was given up: {reason}"
    remedy = "Undo the group, or fail the others over by themselves."
    member: str
    reason: str


@dataclass(eq=False)
class MemberSilent(FailoverError):
    template = "the replica of {member} runs, but gave no heartbeat within its time"
    remedy = (
        "Look at its console. `vreplica-sync failover resume` asks it once more; who needs it "
        "waits, unless the group says `heartbeat = false` for it."
    )
    retryable = True
    member: str


@dataclass(eq=False)
class GroupNotRunning(FailoverError):
    template = "group {group} cannot be committed: {still}"
    remedy = "Resume the group, or undo it."
    group: str
    members: dict[str, str]

    def _values(self) -> dict[str, Any]:
        still = ", ".join(f"{name} is {state}" for name, state in self.members.items())
        return {**super()._values(), "still": still}


@dataclass(eq=False)
class Interrupted(FailoverError):
    template = "interrupted between two steps"
    remedy = "`vreplica-sync failover resume` goes on with it."
    exit_code = 130


@dataclass(eq=False)
class TrialRefused(FailoverError):
    """A test failover was refused before anything was made."""

    exit_code = 3


@dataclass(eq=False)
class NoRoomForTest(TrialRefused):
    template = "datastore {datastore} has {free} free, copies of the point may need {needed}"
    remedy = (
        "Free some space there, or name a vCenter as the destination's site: it clones a point "
        "without copying it."
    )
    datastore: str
    free: str
    needed: str


@dataclass(eq=False)
class VmInTheWay(TrialRefused):
    template = "there is a VM {vm} already"
    remedy = (
        "If it is a test VM that was kept, `vreplica-sync test-failover {job} --clean` removes "
        "it; otherwise rename it."
    )
    job: str
    vm: str


@dataclass(eq=False)
class ProductionNetwork(TrialRefused):
    template = "network {network} is one that the replica of {job} itself is connected to"
    remedy = (
        "Name an isolated network (test_network, --network). A test VM beside the real one "
        "answers for it; --force allows that all the same."
    )
    network: str
    job: str


@dataclass(eq=False)
class NoGuestLogin(TrialRefused):
    template = "job {job} has no login for its guest, which a script needs"
    remedy = "Give [jobs.{job}.guest] a user and a password of the guest itself."
    job: str


@dataclass(eq=False)
class FailedOverAlready(FailoverError):
    template = "job {job} was failed over for good by {failover}: its replica is in service"
    remedy = "`vreplica-sync failback {job}` brings it back to the original VM."
    job: str
    failover: str


@dataclass(eq=False)
class NothingToFailBack(FailoverError):
    template = "job {job} is not failed over for good: {why}"
    remedy = (
        "A failback follows a committed failover: `vreplica-sync failover {job}`, then "
        "`vreplica-sync commit {job}`; before the commit `vreplica-sync undo {job}` goes back."
    )
    job: str
    why: str


@dataclass(eq=False)
class OriginalGone(FailoverError):
    template = "the original VM of job {job} ({vm}) is not at its site: {reason}"
    remedy = (
        "If it was only unregistered, register it again. If it is lost for good, "
        "`vreplica-sync failback {job} --new-vm` replicates to a new VM in its place."
    )
    job: str
    vm: str
    reason: str


@dataclass(eq=False)
class CustomizationScriptFailed(FailoverError):
    template = "the script for addresses and host name ended with {code}: {output}"
    remedy = "The guest runs: set its addresses at its console."
    code: int | None
    output: str
