"""What one copy counts, exactly defined; benchmarks, reports and the CLI show the same numbers.

    selected = redundant + zeroed + shipped          every block looked at is one of the three

`selected` is what the extents touch, in whole blocks held to the capacity. It also splits
into what was read from the source and what was known to be zeros without a read.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from time import perf_counter
from typing import Final, Self

from vreplica.delta.copy.content_sample import ContentSample

_SAMPLE: Final = "content."


@dataclass(slots=True)
class CopyStats:
    """Counts of one copy of one disk. All sizes in bytes, all times in seconds.

    Times are how long any worker was at a stage; stages overlap, so they add up to more than
    `total_s`.
    """

    selected_bytes: int = 0
    """Bytes in the blocks that the extents touch."""
    read_bytes: int = 0
    """Bytes asked of the source."""
    hashed_bytes: int = 0
    """Bytes digested: those read that were not zeros."""
    zero_bytes: int = 0
    """Bytes of selected blocks that are zeros on the source."""
    redundant_bytes: int = 0
    """Bytes not written because the target holds them already."""
    zeroed_bytes: int = 0
    """Bytes written as zeros."""
    shipped_bytes: int = 0
    """Bytes written that are not all zeros, in whole blocks."""
    selected_blocks: int = 0
    changed_blocks: int = 0
    """Blocks written: shipped or zeroed."""
    read_requests: int = 0
    write_requests: int = 0
    retries: int = 0
    content: ContentSample = field(default_factory=ContentSample)
    """What kind of data was shipped."""
    read_s: float = 0.0
    hash_s: float = 0.0
    write_s: float = 0.0
    flush_s: float = 0.0
    wait_s: float = 0.0
    """Held back by a limit or a pause."""
    total_s: float = 0.0

    @property
    def busy_s(self) -> float:
        """What the copy takes when nothing holds it back; at least what its slowest stage does."""
        stages = self.read_s, self.hash_s, self.write_s + self.flush_s
        return max(*stages, self.total_s - self.wait_s)

    def __add__(self, other: CopyStats) -> CopyStats:
        """Sum of several disks or of the parts of a resumed copy."""
        total = CopyStats()
        for entry in fields(self):
            setattr(total, entry.name, getattr(self, entry.name) + getattr(other, entry.name))
        return total

    def duplicate(self) -> CopyStats:
        """A copy that later counts do not change."""
        return replace(self, content=replace(self.content))

    def to_values(self) -> dict[str, float]:
        """For a journal, with the sums of the sample."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        sample = values.pop("content")
        return values | {_SAMPLE + e.name: getattr(sample, e.name) for e in fields(sample)}

    @classmethod
    def from_values(cls, values: Mapping[str, float]) -> Self:
        """What is not there is 0; what is not known is left out."""
        found = cls()
        for entry in fields(cls):
            if entry.name in values:
                setattr(found, entry.name, values[entry.name])
        for entry in fields(found.content):
            setattr(found.content, entry.name, values.get(_SAMPLE + entry.name, 0))
        return found

    def to_dict(self) -> dict[str, float]:
        """For `--json`; the sample as `compressibility` and `high_entropy_share`."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        content: ContentSample = values.pop("content")
        return {
            **values,
            "sampled_pieces": content.pieces,
            "compressibility": content.compressibility,
            "high_entropy_share": content.high_entropy_share,
        }


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is. `done_bytes` of `selected_bytes` are settled on the target."""

    selected_bytes: int
    done_bytes: int
    read_bytes: int
    written_bytes: int
    elapsed_s: float


class Clock:
    """Adds up the time in which at least one thread was inside `with clock:`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0
        self._inside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Clock:
        with self._lock:
            if not self._inside:
                self._start = perf_counter()
            self._inside += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.seconds += perf_counter() - self._start
