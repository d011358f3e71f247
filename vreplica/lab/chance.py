"""Random numbers for fault rules: the same seed gives the same numbers, also after a restart."""

from __future__ import annotations

import random


class Chance:
    """A random generator that continues after a restart of the lab where it stood."""

    def __init__(self, seed: int = 0, draws: int = 0) -> None:
        """`draws`: how many numbers have been drawn already."""
        self._seed, self._draws = seed, 0
        self._random = random.Random(seed)
        for _ in range(draws):
            self.draw()

    def draw(self) -> float:
        """The next number in [0, 1)."""
        self._draws += 1
        return self._random.random()

    def saved_state(self) -> list[int]:
        """[seed, draws]: the arguments of the constructor that continue from here."""
        return [self._seed, self._draws]
