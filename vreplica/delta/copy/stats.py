"""Counts of one copy of one disk. Benchmarks, reports and the CLI show the same numbers.

    looked at = redundant + zero already + zeroed + data
                |      not written       |  written   |

Every block that the copy looks at is one of the four. Blocks count whole, up to the capacity.
docs/glossary.md says the same for users.
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

    A time says how long at least one worker was at a stage. Stages overlap, so they add up to
    more than `total_s`.
    """

    looked_at_bytes: int = 0
    """In the blocks that the extents touch."""
    read_bytes: int = 0
    """Asked of the source; zeros that are known without a read are not among them."""
    redundant_bytes: int = 0
    """Data that the target has already."""
    zero_already_bytes: int = 0
    """Zeros that the target has as zeros, or that need no write there."""
    zeroed_bytes: int = 0
    """Written as zeros."""
    data_bytes: int = 0
    """Written, in blocks that are not all zeros."""
    looked_at_blocks: int = 0
    written_blocks: int = 0
    read_requests: int = 0
    write_requests: int = 0
    retries: int = 0
    content: ContentSample = field(default_factory=ContentSample)
    """A sample of the data that was written."""
    read_s: float = 0.0
    hash_s: float = 0.0
    write_s: float = 0.0
    flush_s: float = 0.0
    wait_s: float = 0.0
    """Waiting for a rate limit or in a pause."""
    total_s: float = 0.0

    @property
    def written_bytes(self) -> int:
        return self.zeroed_bytes + self.data_bytes

    @property
    def hashed_bytes(self) -> int:
        """Looked at and not zeros."""
        return self.redundant_bytes + self.data_bytes

    @property
    def busy_s(self) -> float:
        """Time without limits and pauses; at least that of the slowest stage."""
        stages = self.read_s, self.hash_s, self.write_s + self.flush_s
        return max(*stages, self.total_s - self.wait_s)

    def __add__(self, other: CopyStats) -> CopyStats:
        """Adds up several disks, or the parts of a resumed copy."""
        total = CopyStats()
        for entry in fields(self):
            setattr(total, entry.name, getattr(self, entry.name) + getattr(other, entry.name))
        return total

    def duplicate(self) -> CopyStats:
        """A copy that later counts do not change."""
        return replace(self, content=replace(self.content))

    def to_values(self) -> dict[str, float]:
        """The counts for the journal of a digest map, with the sums of the sample.

        The names are those of the first version, which counted the zeros that need no write among
        the redundant bytes: both this mover and an older one read what the other wrote.
        """
        times = {name: getattr(self, name) for name in _SAME_IN_JOURNAL}
        sample = {_SAMPLE + e.name: getattr(self.content, e.name) for e in fields(self.content)}
        return {
            **times,
            **sample,
            "selected_bytes": self.looked_at_bytes,
            "hashed_bytes": self.hashed_bytes,
            "zero_bytes": self.zero_already_bytes + self.zeroed_bytes,
            "redundant_bytes": self.redundant_bytes + self.zero_already_bytes,
            "zeroed_bytes": self.zeroed_bytes,
            "shipped_bytes": self.data_bytes,
            "selected_blocks": self.looked_at_blocks,
            "changed_blocks": self.written_blocks,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, float]) -> Self:
        """Reads what `to_values` gave. A missing count is 0; an unknown one is ignored."""

        def count(name: str) -> int:
            return int(values.get(name, 0))

        found = cls()
        for name in _SAME_IN_JOURNAL:
            setattr(found, name, values.get(name, 0))
        found.looked_at_bytes = count("selected_bytes")
        found.zeroed_bytes = count("zeroed_bytes")
        found.zero_already_bytes = count("zero_bytes") - found.zeroed_bytes
        found.redundant_bytes = count("redundant_bytes") - found.zero_already_bytes
        found.data_bytes = count("shipped_bytes")
        found.looked_at_blocks = count("selected_blocks")
        found.written_blocks = count("changed_blocks")
        for entry in fields(found.content):
            setattr(found.content, entry.name, values.get(_SAMPLE + entry.name, 0))
        return found

    def to_dict(self) -> dict[str, float]:
        """For programs; the sample as `compressibility` and `high_entropy_share`."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        content: ContentSample = values.pop("content")
        return {
            **values,
            "written_bytes": self.written_bytes,
            "hashed_bytes": self.hashed_bytes,
            "sampled_pieces": content.pieces,
            "compressibility": content.compressibility,
            "high_entropy_share": content.high_entropy_share,
        }


_SAME_IN_JOURNAL: Final = (
    *("read_bytes", "read_requests", "write_requests", "retries"),
    *("read_s", "hash_s", "write_s", "flush_s", "wait_s", "total_s"),
)
"""Counts that the journal calls as they are called here."""


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """The progress of a copy: `done_bytes` of `total_bytes` are now right on the target."""

    total_bytes: int
    done_bytes: int
    read_bytes: int
    written_bytes: int
    elapsed_s: float


class Clock:
    """Measures how long at least one thread was inside `with clock:`."""

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
