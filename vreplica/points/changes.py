"""What one cycle changed on one disk, kept with its recovery point.

    changed = redundant + zero + data             whole blocks of 64 KiB

A point also carries the data and the content of the cycles before it (`past`), so that
the next change is judged by the job's history although retention has removed those points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MAX_PAST: Final = 12


@dataclass(frozen=True, slots=True)
class PastChange:
    """One earlier cycle: how much data, how much of that was sampled, and how it looked."""

    data_bytes: int
    sampled_pieces: int
    high_entropy_share: float


@dataclass(frozen=True, slots=True)
class ChangeStats:
    """Sizes in bytes."""

    changed_bytes: int
    """What CBT named, or a full copy or a rescan looked at."""
    redundant_bytes: int
    """Of it, what the replica had already."""
    zero_bytes: int
    """Of it, what became zeros."""
    data_bytes: int
    """Of it, data."""
    sampled_pieces: int
    """Pieces of 4 KiB of that data that were looked at for the two numbers below."""
    compressibility: float
    """Their size after zlib / before: 1.0 cannot be compressed."""
    high_entropy_share: float
    """The share of them that looks encrypted or compressed, 0 to 1."""
    allocated_bytes: int
    """Of the disk, when it was last asked for; its capacity where it never was."""
    past: tuple[PastChange, ...] = ()
    """Earlier cycles of this disk, oldest first; full copies are not among them."""
    seconds: float | None = None
    """What bringing the disk over took, pauses and the waits of limits left out; None: of a point
    that was made before points had it."""

    def to_values(self) -> dict[str, Any]:
        """For a line of a .vmx: short."""
        return {
            "changed": self.changed_bytes,
            "redundant": self.redundant_bytes,
            "zero": self.zero_bytes,
            "shipped": self.data_bytes,
            "sampled": self.sampled_pieces,
            "compress": self.compressibility,
            "random": self.high_entropy_share,
            "allocated": self.allocated_bytes,
            "past": [[p.data_bytes, p.sampled_pieces, p.high_entropy_share] for p in self.past],
            **({"s": self.seconds} if self.seconds is not None else {}),
        }

    @classmethod
    def from_values(cls, value: dict[str, Any]) -> ChangeStats:
        return cls(
            changed_bytes=int(value["changed"]),
            redundant_bytes=int(value["redundant"]),
            zero_bytes=int(value["zero"]),
            data_bytes=int(value["shipped"]),
            sampled_pieces=int(value["sampled"]),
            compressibility=float(value["compress"]),
            high_entropy_share=float(value["random"]),
            allocated_bytes=int(value["allocated"]),
            past=tuple(PastChange(int(b), int(n), float(s)) for b, n, s in value["past"]),
            seconds=float(value["s"]) if "s" in value else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "changed_bytes": self.changed_bytes,
            "redundant_bytes": self.redundant_bytes,
            "zero_bytes": self.zero_bytes,
            "data_bytes": self.data_bytes,
            "sampled_pieces": self.sampled_pieces,
            "compressibility": self.compressibility,
            "high_entropy_share": self.high_entropy_share,
            "allocated_bytes": self.allocated_bytes,
            "seconds": self.seconds,
        }
