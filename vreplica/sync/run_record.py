"""Records the run whose disks are being written, so that the next run can resume it.

<job>/run.json      written before the first byte, removed by the commit or by the rollback
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from vreplica.files import replace_durably
from vreplica.formats import written_by_newer
from vreplica.stored import Damaged, build, check_json, parse_data, read_text, seal_json
from vreplica.sync.job import Job
from vreplica.sync.job_dir import run_record_path
from vreplica.units import human_size

FORMAT = 1
"""Format of the record. A record without the key `format` is of format 1."""


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """The copy of one disk. `base`: the point that its digest map was of."""

    key: int
    label: str
    capacity_bytes: int
    mode: str
    reason: str
    base: str
    path: str
    """The file of the replica's leaf."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it was before its first byte. `latest`: the replica's latest point then, or ""."""

    run: str
    snapshot: str
    latest: str
    level: str
    requested: str
    notes: tuple[str, ...]
    excluded: tuple[str, ...]
    disks: tuple[DiskRecord, ...]
    overhead_s: float = 0.0
    """Time beside the disks until then."""

    def save(self, job: Job) -> None:
        """Writes the record durably, whole or not at all."""
        replace_durably(run_record_path(job), seal_json(json.dumps(asdict(self))))

    @classmethod
    def load(cls, job: Job) -> Self | None:
        """The job's record; None where there is none, or none that this version can read."""
        try:
            return build(cls, _read(job))
        except (OSError, Damaged):
            return None


def newer_record(job: Job) -> str | None:
    """Says that a newer version wrote the job's record; None where none did."""
    try:
        found = _read(job).get("format", FORMAT)
    except (OSError, Damaged):
        return None
    if not isinstance(found, int) or found <= FORMAT:
        return None
    return f"its record {run_record_path(job)} was {written_by_newer(found, FORMAT)}"


def _read(job: Job) -> dict[str, Any]:
    """Raises Damaged and OSError."""
    text = read_text(run_record_path(job))
    check_json(text)
    return parse_data(text)


def forget_run(job: Job) -> None:
    """Removes the record of a run that was committed or rolled back."""
    # A record that cannot be removed resumes nothing: leaf and snapshot are of no run by then.
    with suppress(OSError):
        run_record_path(job).unlink()


@dataclass(frozen=True, slots=True)
class Resumable:
    """A run that can be resumed, with `done_bytes` of `total_bytes` copied."""

    record: RunRecord
    done_bytes: int
    total_bytes: int

    @property
    def text(self) -> str:
        done, total = human_size(self.done_bytes), human_size(self.total_bytes)
        return f"run {self.record.run} at {done} of {total}"

    def to_dict(self) -> dict[str, Any]:
        record = {"run": self.record.run, "done_bytes": self.done_bytes}
        return {**record, "total_bytes": self.total_bytes}

    def disk(self, key: int) -> DiskRecord:
        return next(d for d in self.record.disks if d.key == key)
