"""Counts of what one run changed on one disk, kept with its recovery point.

    looked at = redundant + zero already + zeroed + data         whole blocks of 64 KiB
                |      not written       |  written   |

docs/glossary.md says what each count is. A point also carries the data and the content of the
runs before it (`past`): the next change is judged by the job's history, although retention has
removed those points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from vreplica.stored import Count, Layout, Seconds, Share, Size

MAX_PAST: Final = 12


@dataclass(frozen=True, slots=True)
class PastChange:
    """One earlier run: how much data it wrote, how much of that was sampled, and how it looked."""

    data_bytes: int
    sampled_pieces: int
    high_entropy_share: float


class StatsLayout(Layout):
    """The counts in a line of a .vmx."""

    changed: Size
    redundant: Size
    zero_already: Size | None = Field(None, alias="zeroAlready")
    zero: Size
    shipped: Size
    sampled: Count
    compress: Share
    random: Share
    allocated: Size
    past: tuple[tuple[Size, Count, Share], ...]
    seconds: Seconds | None = Field(None, alias="s")


@dataclass(frozen=True, slots=True)
class ChangeStats:
    """Counts of one disk in one run. Sizes in bytes."""

    looked_at_bytes: int
    """In the blocks that CBT named, or that a full copy or a rescan went through."""
    redundant_bytes: int | None
    """Data that the replica had already. None: in a point of the first version, which did not
    count this and the next one apart."""
    zero_already_bytes: int | None
    """Zeros that the replica had as zeros, or that needed no write. None: as above."""
    zeroed_bytes: int
    """Written as zeros."""
    data_bytes: int
    """Written, in blocks that are not all zeros."""
    sampled_pieces: int
    """Pieces of 4 KiB of that data that were sampled for the two numbers below."""
    compressibility: float
    """Their size after zlib / before: 1.0 cannot be compressed."""
    high_entropy_share: float
    """The share of them that looks encrypted or compressed, 0 to 1."""
    allocated_bytes: int
    """Of the disk, when a run last asked for it; the capacity if none did."""
    past: tuple[PastChange, ...] = ()
    """Earlier runs of this disk, oldest first, without full copies."""
    seconds: float | None = None
    """Time of this disk, without pauses and waits for rate limits. None: in a point that was made
    before points had it."""

    @property
    def written_bytes(self) -> int:
        return self.zeroed_bytes + self.data_bytes

    def to_values(self) -> dict[str, Any]:
        """The counts for a line of a .vmx: short names, which stay as the first version made them.

        `redundant` includes the zeros that need no write, and `shipped` is the data alone.
        """
        not_written = self.looked_at_bytes - self.written_bytes
        apart = self.zero_already_bytes is not None
        return {
            "changed": self.looked_at_bytes,
            "redundant": not_written,
            **({"zeroAlready": self.zero_already_bytes} if apart else {}),
            "zero": self.zeroed_bytes,
            "shipped": self.data_bytes,
            "sampled": self.sampled_pieces,
            "compress": self.compressibility,
            "random": self.high_entropy_share,
            "allocated": self.allocated_bytes,
            "past": [[p.data_bytes, p.sampled_pieces, p.high_entropy_share] for p in self.past],
            **({"s": self.seconds} if self.seconds is not None else {}),
        }

    @classmethod
    def from_layout(cls, value: StatsLayout) -> ChangeStats:
        zero_already = value.zero_already
        return cls(
            looked_at_bytes=value.changed,
            redundant_bytes=None if zero_already is None else value.redundant - zero_already,
            zero_already_bytes=zero_already,
            zeroed_bytes=value.zero,
            data_bytes=value.shipped,
            sampled_pieces=value.sampled,
            compressibility=value.compress,
            high_entropy_share=value.random,
            allocated_bytes=value.allocated,
            past=tuple(PastChange(*each) for each in value.past),
            seconds=value.seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """The values for `--json`."""
        return {
            "looked_at_bytes": self.looked_at_bytes,
            "redundant_bytes": self.redundant_bytes,
            "zero_already_bytes": self.zero_already_bytes,
            "zeroed_bytes": self.zeroed_bytes,
            "data_bytes": self.data_bytes,
            "written_bytes": self.written_bytes,
            "sampled_pieces": self.sampled_pieces,
            "compressibility": self.compressibility,
            "high_entropy_share": self.high_entropy_share,
            "allocated_bytes": self.allocated_bytes,
            "duration_s": self.seconds,
        }
