"""Results of check, plan, run, points, seed and verify."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from vreplica.cli.results.common import (
    Bytes,
    CopyMode,
    DamagedPoint,
    Document,
    Level,
    NewerPoint,
    Point,
    Seconds,
    Share,
    Time,
)


class Finding(TypedDict):
    area: str
    verdict: Literal["good", "note", "problem"]
    text: str
    remedy: str


class Check(Document):
    """Everything that a job needs, tried. `good`: there is no problem."""

    job: str
    good: bool
    findings: list[Finding]


class PlannedDisk(TypedDict):
    key: int
    label: str
    capacity_bytes: Bytes
    mode: CopyMode
    reason: str
    digest_map_problem: str | None
    """A delta without a digest map cannot audit change tracking."""


class ResumedRun(TypedDict):
    """The run that broke off and is continued."""

    run: str
    done_bytes: Bytes
    total_bytes: Bytes


class NotCarried(TypedDict):
    """One thing that a replica does not get. `means`: at a failover."""

    what: str
    means: str


class Plan(Document):
    """The plan of the next run. With `problems` it does not start, and `steps` is empty."""

    job: str
    source_vm: str
    replica_vm: str
    replica_exists: bool
    disks: list[PlannedDisk]
    excluded: list[str]
    transport: str
    expected_level: Level
    base_point: str | None
    steps: list[str]
    expiring: list[str]
    warnings: list[str]
    problems: list[str]
    foreign_changes: list[str]
    resumes: ResumedRun | None
    not_carried: list[NotCarried]
    """What the source has and the replica does not get."""
    not_looked_at: list[str]
    """What vCenter keeps beside a VM, and nobody compares."""


class CopiedDisk(TypedDict):
    """looked_at = redundant + zero_already + zeroed + data; written = zeroed + data."""

    key: int
    label: str
    mode: CopyMode
    reason: str
    capacity_bytes: Bytes
    allocated_bytes: Bytes | None
    looked_at_bytes: Bytes
    read_bytes: Bytes
    redundant_bytes: Bytes
    zero_already_bytes: Bytes
    zeroed_bytes: Bytes
    data_bytes: Bytes
    written_bytes: Bytes
    audited_bytes: Bytes
    duration_s: Seconds
    compressibility: float | None
    high_entropy_share: Share | None
    retries: int
    digest_map_problem: NotRequired[str | None]
    """As in a plan. Runs that earlier versions recorded do not have it."""


class Sample(TypedDict):
    """A comparison of a share of the blocks. `rules_out_pieces`: more of them would be noticed."""

    seed: int
    pieces: int
    of_pieces: int
    confidence: Share
    share: Share
    rules_out_pieces: int


class ComparedDisk(TypedDict):
    key: int
    label: str
    equal: bool
    capacity_bytes: Bytes
    compared_bytes: Bytes
    changed_since_bytes: Bytes
    different_bytes: Bytes
    first_differences: list[list[int]]
    source_root: str
    replica_root: str
    image_digest: str | None
    sample: Sample | None
    looked_at: list[list[int]]


class Totals(TypedDict):
    source_root: str
    replica_root: str
    image_digest: str | None


class Comparison(TypedDict):
    """A point compared with its source, block by block."""

    job: str
    equal: bool
    coverage: Literal["full", "sample"]
    source: str
    replica: str
    point: Point
    started: Time
    duration_s: Seconds
    algorithm: str
    totals: Totals
    disks: list[ComparedDisk]


class Verify(Document, Comparison):
    """The result of `verify`."""


class VerifyReport(Document):
    """A signed report whose signature is good. `report`: as it was signed."""

    file: str
    signature: Literal["good"]
    report: dict[str, object]


class RunValues(TypedDict):
    """One run: the point that it made, and what it copied."""

    job: str
    point: Point
    disks: list[CopiedDisk]
    recovered: list[str]
    removed_points: list[str]
    warnings: list[str]
    verified: Comparison | None
    points: int
    started: Time
    duration_s: Seconds


class Run(Document, RunValues):
    """The result of `run`."""


class SideBranch(TypedDict):
    """What a replica wrote in service during `failover`, kept by its undo. It stands on `point`."""

    id: str
    failover: str
    point: str
    level: Level
    time: Time
    written_bytes: Bytes | None
    snapshot: str | None


class Points(Document):
    """The points of a job, oldest first. `newer`: only a newer version can read them.

    `damaged`: their descriptions cannot be believed.
    `warnings`: times of points that cannot be right.
    """

    job: str
    points: list[Point]
    newer: list[NewerPoint]
    damaged: list[DamagedPoint]
    side_branches: list[SideBranch]
    warnings: list[str]


class KeptPoint(TypedDict):
    id: str
    stays: bool
    reasons: list[str]


class Retention(Document):
    """The reasons that keep each point. A point without a reason may be removed."""

    job: str
    keep: str
    points: list[KeptPoint]
    newer: list[NewerPoint]
    damaged: list[DamagedPoint]


class SeededDisk(TypedDict):
    key: int
    label: str
    path: str
    read_bytes: Bytes


class Seed(Document):
    """The replica that was made. `empty`: disks that the next run copies in full."""

    job: str
    replica: str
    disks: list[SeededDisk]
    empty: list[str]


class Demo(Document):
    runs: list[RunValues]
    guest_wrote: dict[str, int]
    verified: Comparison
    points: list[Point]
    equal: bool
    duration_s: Seconds


class AskedRun(Document):
    """`pause` or `resume` was asked of the run in this process."""

    job: str
    process: int
    asked: Literal["pause", "resume"]
