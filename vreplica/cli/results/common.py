"""Values that several results hold.

Names end in their unit: `_bytes`; `_s` is a duration in seconds, a number. A time is ISO 8601 in
UTC. What is not known is null. docs/glossary.md says what the words and the counts mean.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, pattern=r"(Z|\+00:00)$")]
Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Literal["crash", "filesystem", "application", "clean-shutdown"]
CopyMode = Literal["full", "delta", "rescan"]


class Document(TypedDict):
    """The keys that every document begins with."""

    version: Literal[1]
    result: str


class ConfigProblem(TypedDict):
    """One problem of a job file, with its line."""

    line: int
    key: str
    what: str
    remedy: str


class Error(TypedDict):
    """The failure, the state of both sides, and the remedy."""

    type: str
    message: str
    remedy: str | None
    exit_code: int
    retryable: bool
    vm: NotRequired[str]
    disk: NotRequired[str]
    offset_bytes: NotRequired[Bytes]
    source_state: NotRequired[str]
    replica_state: NotRequired[str]
    next_run: NotRequired[str]
    file: NotRequired[str]
    problems: NotRequired[list[ConfigProblem] | list[str]]
    point: NotRequired[str]
    format: NotRequired[int]


class ErrorDocument(Document):
    """Printed beside the text on standard error. `job`: the one that failed, where one did."""

    job: NotRequired[str]
    error: Error


class ChangeStats(TypedDict):
    """The counts of one disk in one run.

    `redundant_bytes` and `zero_already_bytes` are null in points of version 0.1, which counted them
    together.
    """

    looked_at_bytes: Bytes
    redundant_bytes: Bytes | None
    zero_already_bytes: Bytes | None
    zeroed_bytes: Bytes
    data_bytes: Bytes
    written_bytes: Bytes
    sampled_pieces: int
    compressibility: float
    high_entropy_share: Share
    allocated_bytes: Bytes
    duration_s: Seconds | None


class PointDisk(TypedDict):
    """One disk of a recovery point. `mode`: how its content was brought over."""

    key: int
    label: str
    uuid: str
    capacity_bytes: Bytes
    change_id: str | None
    mode: str
    written_bytes: Bytes
    root: str
    stats: ChangeStats | None


class Point(TypedDict):
    """A recovery point. `time`: by the source's clock; `taken`: by the mover's."""

    id: str
    job: str
    source_vm: str
    source_name: str
    time: Time
    taken: Time
    level: Level
    requested: Level
    snapshot: str | None
    excluded: list[str]
    nvram: str | None
    """SHA-256 of the firmware's variables that it is started with."""
    not_carried: list[str]
    """Devices and settings of the source that the replica did not get."""
    notes: list[str]
    suspicions: list[str]
    flagged: bool
    overhead_s: Seconds | None
    disks: list[PointDisk]


class DamagedPoint(TypedDict):
    """A point whose description cannot be believed. It is left out; its snapshot is there."""

    id: str
    reason: str


class NewerPoint(TypedDict):
    """A point that a newer version of vreplica wrote, in a format that this one cannot read."""

    id: str
    format: int
    reads_up_to: int


class LiveSide(TypedDict):
    """A VM as it was read. `power`: null where it could not be; `trouble` says why.

    `host_answers`: false where the power state is only what vCenter remembers.
    """

    site: str
    vm: str
    power: str | None
    host_answers: bool
    trouble: str | None


class LiveJob(TypedDict):
    """Both VMs of a job. `booted_by`: the failover that has booted the replica, by its mark."""

    source: LiveSide
    replica: LiveSide
    both_on: bool
    booted_by: str | None
