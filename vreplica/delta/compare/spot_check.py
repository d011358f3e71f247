"""Looking at a share of a disk: which pieces, and what that is worth. Pure.

    what could be read, in pieces of 1 MiB   |#|.|.|#|.|.|.|#|.|.|    # looked at, by the seed

The same seed over the same ranges chooses the same pieces. A sample of n of N pieces misses d
pieces that differ with the probability C(N-d, n) / C(N, n); `rules_out_pieces` is the smallest d
that it would miss in at most one case of twenty. A single bad piece is found with n / N only:
a sample is no proof of equality, and reports say so.
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
    """What is to be looked at: a share (above 0, up to 1), chosen by `seed`."""

    share: float
    seed: int

    def choose(self, extents: Extents) -> tuple[Extents, SpotChecked]:
        chosen = sample_of(extents, self.share, self.seed)
        return chosen, SpotChecked(self.seed, _pieces(chosen), _pieces(extents))


@dataclass(frozen=True, slots=True)
class SpotChecked:
    """What was looked at: `pieces` of `of_pieces`, each 1 MiB or the part of one that counts."""

    seed: int
    pieces: int
    of_pieces: int
    confidence: float = CONFIDENCE

    @property
    def share(self) -> float:
        return self.pieces / self.of_pieces if self.of_pieces else 1.0

    @property
    def rules_out_pieces(self) -> int:
        """Had so many pieces differed or more, the sample would have shown it, with `confidence`.

        1 after all pieces were looked at; more than `of_pieces` where nothing is ruled out.
        """
        low, high = 1, self.of_pieces - self.pieces + 1
        if not self.pieces:
            return self.of_pieces + 1
        while low < high:
            middle = (low + high) // 2
            if missed(self.of_pieces, self.pieces, middle) <= 1 - self.confidence:
                high = middle
            else:
                low = middle + 1
        return low


def missed(of_pieces: int, pieces: int, different: int) -> float:
    """The probability that none of `different` pieces is among `pieces` drawn of `of_pieces`."""
    if different > of_pieces - pieces:
        return 0.0
    return exp(
        lgamma(of_pieces - different + 1)
        - lgamma(of_pieces - different - pieces + 1)
        - lgamma(of_pieces + 1)
        + lgamma(of_pieces - pieces + 1)
    )


def sample_of(extents: Extents, share: float, seed: int) -> Extents:
    """A random `share` (0 to 1) of `extents`, in pieces of 1 MiB; at least one above 0."""
    if share >= 1:
        return extents
    rows = extents.align(PIECE).array // PIECE
    after = np.cumsum(rows[:, 1] - rows[:, 0])
    total = int(after[-1]) if len(after) else 0
    wanted = min(total, ceil(total * share))
    if not wanted:
        return Extents.empty()
    # Without a list of all pieces, which 62 TiB would make long, where few are wanted; where most
    # are, those that are left out are drawn.
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
    """How many pieces of 1 MiB the extents touch."""
    return extents.align(PIECE).total // PIECE
