"""Chooses a random share of a disk to compare, and says what the result is worth. Pure.

    pieces of 1 MiB that hold something   |#|.|.|#|.|.|.|#|.|.|    # compared, chosen by the seed

The same seed over the same ranges chooses the same pieces. A sample of n of N pieces misses d
different pieces with the probability C(N-d, n) / C(N, n). `rules_out_pieces` is the smallest d that
a sample misses in one case of twenty at most. A single different piece is found with the
probability n / N only: a sample is no proof of equality, and reports say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, lgamma
from typing import Final

import numpy as np

from vreplica.extents import Extents
from vreplica.units import MIB

PIECE: Final = MIB
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """The order for a sample: a share (above 0, up to 1), chosen by `seed`."""

    share: float
    seed: int

    def choose(self, extents: Extents) -> tuple[Extents, SpotCheckResult]:
        chosen = sample_of(extents, self.share, self.seed)
        return chosen, SpotCheckResult(self.seed, _pieces(chosen), _pieces(extents))


@dataclass(frozen=True, slots=True)
class SpotCheckResult:
    """The sample that was taken: `pieces` of `of_pieces`, each 1 MiB or the asked part of one."""

    seed: int
    pieces: int
    of_pieces: int
    confidence: float = CONFIDENCE

    @property
    def share(self) -> float:
        return self.pieces / self.of_pieces if self.of_pieces else 1.0

    @property
    def rules_out_pieces(self) -> int:
        """If so many pieces differed, or more, the sample would show it, with `confidence`.

        1 if all pieces were compared; more than `of_pieces` if nothing is ruled out.
        """
        low, high = 1, self.of_pieces - self.pieces + 1
        if not self.pieces:
            return self.of_pieces + 1
        while low < high:
            middle = (low + high) // 2
            if miss_probability(self.of_pieces, self.pieces, middle) <= 1 - self.confidence:
                high = middle
            else:
                low = middle + 1
        return low


def miss_probability(of_pieces: int, pieces: int, different: int) -> float:
    """The probability that a sample of `pieces` of `of_pieces` has none of `different` pieces."""
    if different > of_pieces - pieces:
        return 0.0
    return exp(
        lgamma(of_pieces - different + 1)
        - lgamma(of_pieces - different - pieces + 1)
        - lgamma(of_pieces + 1)
        + lgamma(of_pieces - pieces + 1)
    )


def sample_of(extents: Extents, share: float, seed: int) -> Extents:
    """Takes a random `share` (0 to 1) of `extents`, in pieces of 1 MiB; above 0 at least one."""
    if share >= 1:
        return extents
    rows = extents.align(PIECE).array // PIECE
    after = np.cumsum(rows[:, 1] - rows[:, 0])
    total = int(after[-1]) if len(after) else 0
    wanted = min(total, ceil(total * share))
    if not wanted:
        return Extents.empty()
    # Draws what is wanted, or, if that is the larger part, what is left out: a list of all pieces
    # would be long for 62 TiB.
    few = min(wanted, total - wanted)
    rng = np.random.default_rng(seed)
    chosen = np.unique(rng.integers(0, total, few))
    while len(chosen) < few:
        chosen = np.unique(np.concatenate((chosen, rng.integers(0, total, few - len(chosen)))))
    if few < wanted:
        chosen = np.delete(np.arange(total), chosen)
    row = np.searchsorted(after, chosen, side="right")
    pieces = rows[row, 1] - (after[row] - chosen)
    return Extents.from_blocks(pieces, PIECE, extents.end).intersect(extents)


def _pieces(extents: Extents) -> int:
    """The number of pieces of 1 MiB that the extents touch."""
    return extents.align(PIECE).total // PIECE
