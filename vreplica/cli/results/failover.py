"""Results of failover, failback, undo, commit and test-failover, of a job and of a group."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from vreplica.cli.results.common import Document, Level, LiveJob, Point, Seconds, Time


class PointInShort(TypedDict):
    point: str
    level: Level
    time: Time
    age_s: Seconds


class BootedByNo(PointInShort):
    """The point that boots without a final sync. `others`: the other choices, the newest of each
    level; `newer`: those of them that are newer."""

    newer: list[PointInShort]
    others: list[PointInShort]


class ReachedByYes(TypedDict):
    """`problems`: why a final sync would be refused now, as a run would be."""

    insurance: Level | None
    level: Level | None
    problems: list[str]


class Estimate(TypedDict):
    """From the recent points and failovers of the job. What is not known is null."""

    change_bytes_per_second: float | None
    copy_bytes_per_second: float | None
    overhead_s: Seconds | None
    newest_point_age_s: Seconds | None
    passes_s: list[Seconds]
    final_sync_s: Seconds | None
    shutdown_s: Seconds | None
    start_s: Seconds | None
    downtime_s: Seconds | None
    measured_in: list[str]


class Steps(TypedDict):
    yes: list[str]
    no: list[str]


class Flagged(TypedDict):
    """The newest point holds what the flagged one may have brought: it looks like mass encryption.
    `clean`: the newest point from before it."""

    newest: str
    flagged: str
    reason: str
    clean: str | None


class PreviewValues(TypedDict):
    """`source`, `replica`: their power states; `source` is null where it cannot be read.
    `boots_none`: why no point boots without a final sync; `flagged`: it is flagged. Before a
    failback the source is the VM in service, and the replica its original."""

    job: str
    source_vm: str
    source_site: str
    replica_vm: str
    replica_site: str
    source: str | None
    source_trouble: str | None
    tools_running: bool | None
    replica: str
    points: list[Point]
    yes: ReachedByYes
    no: BootedByNo | None
    boots_none: str | None
    flagged: Flagged | None
    estimate: Estimate
    steps: Steps
    remarks: list[str]
    guest: list[str]


class Preview(Document, PreviewValues):
    """The state of both sides of a job, for the operator's decision."""


class GroupMember(TypedDict):
    job: str
    after: list[str]
    delay_s: Seconds
    heartbeat: bool


class Group(TypedDict):
    name: str
    parallel: int
    on_error: Literal["stop", "continue"]
    members: list[GroupMember]


class GroupPreview(Document):
    """The same for each member of a group."""

    group: Group
    members: list[PreviewValues]
    spread_s: Seconds | None


class UndoPreviewValues(TypedDict):
    """`vm` is taken out of service, and `back_to_vm` runs again. `written_bytes`: what `vm` has
    written in service; null: not known. `written_exact`: by change tracking, which answers for a VM
    that is off; else by the size of its newest disk files. `keeps`: the side branch that keeps it;
    null: nothing is kept."""

    job: str
    failover: str
    state: str
    vm: str
    site: str
    back_to_vm: str
    back_to_site: str
    since: Time | None
    started: bool
    written_bytes: int | None
    written_exact: bool
    keeps: str | None


class UndoPreview(Document, UndoPreviewValues):
    """`undo --dry-run` of a job."""


class GroupUndoPreview(Document):
    """`undo --dry-run` of a group: its members whose failovers have not ended."""

    group: str
    members: list[UndoPreviewValues]


class OutcomeValues(TypedDict):
    """The state of a failover. `job_on`: it has ended, and the job replicates forward again.
    `age_s`: how old the data of the point was when that was chosen.
    `facts`, from its journal: `sides`, both VMs and their sites; `point`, `level` and `taken`, of
    what boots; `runs`, the host, addresses and networks of the VM in service; and more."""

    failover: str
    state: str
    job_on: bool
    downtime_s: Seconds | None
    age_s: Seconds | None
    facts: dict[str, Any]


class Outcome(Document, OutcomeValues):
    """The result of a verb on a job."""


class AdoptedValues(TypedDict):
    """`failover`, `state`: null where nothing was under way, and journals were only set aside.
    `mover`: the one that had it. `by_hand`: who started the replica, where no failover did.
    `here`: this machine had it already. `replica`, `source`: power states; `source` is null where
    it cannot be read."""

    job: str
    failover: str | None
    state: str | None
    mover: str | None
    by_hand: str | None
    here: bool
    replica: str
    source: str | None
    source_trouble: str | None
    both_on: bool
    set_aside: list[str]
    facts: dict[str, Any]


class Adopted(Document, AdoptedValues):
    """The result of `failover adopt` on a job."""


class AdoptedGroup(Document):
    """The result of `failover adopt` on a group. `failover`, `state`: of the group's failover; null
    where its members had failovers of their own. `troubles`: job to why it was not adopted."""

    group: str
    failover: str | None
    state: str | None
    members: list[AdoptedValues]
    troubles: dict[str, str]


class RecordValues(OutcomeValues):
    """Everything measured of one failover."""

    job: str
    started: Time
    ended: Time | None
    source_off: Time | None
    answered: Time | None
    shutdown_s: Seconds | None
    downtime_parts_s: dict[str, Seconds]
    point: str | None
    level: Level | None


class Entry(TypedDict):
    """One line of the journal."""

    n: int
    epoch: int
    time: Time
    kind: str
    step: str
    event: str | None
    data: dict[str, Any]


class CheckFinding(TypedDict):
    kind: str
    side: str
    text: str


class Check(TypedDict):
    """The record compared with vCenter's own tasks and events."""

    equal: bool
    agreed: int
    by_events: int
    findings: list[CheckFinding]
    not_asked: list[str]


class Record(Document, RecordValues):
    """`failover show` of a job."""

    entries: list[Entry]
    check: NotRequired[Check]
    live: NotRequired[LiveJob]


class Prefer(TypedDict):
    """The points that boot in place of the newest."""

    level: Level
    max_age_s: Seconds | None


class Choices(TypedDict):
    """The operator's word. `points`: of a group, job -> id of the point that it boots."""

    final_sync: Literal["yes", "no", "cancel"]
    on_shutdown_timeout: Literal["abort", "use-quiesced", "power-off", "wait"]
    shutdown_timeout_s: Seconds
    heartbeat_timeout_s: Seconds
    point: str | None
    as_of: Time | None
    newest: bool
    prefer: Prefer | None
    points: dict[str, str]
    require: Level
    source_lost: bool
    max_downtime_s: Seconds | None
    disconnect_source_nics: bool


class MemberOutcome(TypedDict):
    job: str
    state: str | None
    trouble: str | None
    record: NotRequired[RecordValues]


class GroupOutcomeValues(TypedDict):
    failover: str
    group: Group
    back: bool
    state: str
    choices: Choices
    started: Time | None
    last: Time | None
    members: list[MemberOutcome]


class GroupOutcome(Document, GroupOutcomeValues):
    """The result of a verb on a group, and `failover show`."""

    check: NotRequired[dict[str, Check]]
    live: NotRequired[dict[str, LiveJob]]


class History(Document):
    """`failover list` of a job, oldest first."""

    job: str
    failovers: list[OutcomeValues]


class GroupHistory(Document):
    """`failover list` of a group, oldest first."""

    group: str
    failovers: list[GroupOutcomeValues]


class Script(TypedDict):
    """A program that ran in the guest."""

    exit_code: int | None
    output: str
    truncated: bool
    duration_s: Seconds


class TestFailover(Document):
    """One test failover."""

    job: str
    test: str
    passed: bool
    point: Point
    vm: str
    network: str | None
    started: Time
    duration_s: Seconds
    heartbeat_s: Seconds | None
    host_name: str | None
    addresses: list[str]
    macs: list[str]
    customization_script: Script | None
    script: Script | None
    script_name: str | None
    trouble: str | None
    removed: bool
    kept: bool


class TestsRemoved(Document):
    """The test VM that `test-failover --clean` removed; null: there was none."""

    job: str
    removed: str | None
