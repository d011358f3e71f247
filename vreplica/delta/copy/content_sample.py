"""Samples the data that a copy writes: how well it compresses, and whether it looks encrypted.

A piece of 4 KiB from the middle of some written blocks goes through zlib at its fastest level, and
its bytes are counted for Shannon's entropy. At first every fourth block is sampled, so that a small
change is judged too; then every 64th, so that a large copy does not wait for it. Text and programs
have 4 to 6.5 bits a byte and shrink to a half or a third; compressed and encrypted data have
almost 8 bits and do not shrink.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

PIECE: Final = 4096
DENSE_PIECES: Final = 32
DENSE, SPARSE = 4, 64
"""One of so many written blocks is sampled, before and after the first 32 pieces."""

_HIGH_ENTROPY_BITS: Final = 7.9
"""4 KiB of random bytes were counted at 7.938 to 7.969 bits a byte, 3,000 times."""


@dataclass(slots=True)
class ContentSample:
    """Sums over all sampled pieces. Samples add up with `+`."""

    seen_blocks: int = 0
    """Written blocks of data, sampled or not."""
    pieces: int = 0
    sampled_bytes: int = 0
    compressed_bytes: int = 0
    entropy_bits: float = 0.0
    """Sum of bits a byte over the pieces."""
    high_entropy: int = 0
    """Pieces that look encrypted or compressed."""

    @property
    def compressibility(self) -> float:
        """Size after zlib / size before; 1.0 without a sample."""
        return self.compressed_bytes / self.sampled_bytes if self.sampled_bytes else 1.0

    @property
    def mean_entropy(self) -> float:
        """Bits a byte, 0 to 8."""
        return self.entropy_bits / self.pieces if self.pieces else 0.0

    @property
    def high_entropy_share(self) -> float:
        return self.high_entropy / self.pieces if self.pieces else 0.0

    def choose(self, written: int) -> range:
        """Says which of the next `written` blocks to give to `add`."""
        every = DENSE if self.pieces < DENSE_PIECES else SPARSE
        first = -self.seen_blocks % every
        self.seen_blocks += written
        return range(first, written, every)

    def add(self, data: memoryview) -> None:
        """Samples one block."""
        at = max(0, (data.nbytes - PIECE) // 2)
        piece = data[at : at + PIECE]
        bits = entropy(np.frombuffer(piece, np.uint8))
        self.pieces += 1
        self.sampled_bytes += piece.nbytes
        self.compressed_bytes += min(piece.nbytes, len(zlib.compress(piece, 1)))
        self.entropy_bits += bits
        self.high_entropy += bits >= _HIGH_ENTROPY_BITS

    def __add__(self, other: ContentSample) -> ContentSample:
        total = ContentSample()
        for entry in fields(self):
            setattr(total, entry.name, getattr(self, entry.name) + getattr(other, entry.name))
        return total


def entropy(data: NDArray[np.uint8]) -> float:
    """Shannon's entropy of the bytes, bits a byte."""
    counts = np.bincount(data, minlength=256)
    shares = counts[counts > 0] / len(data)
    return float(-(shares * np.log2(shares)).sum())
