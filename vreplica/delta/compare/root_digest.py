"""Digests of a comparison, which anybody can compute again from a raw image.

    image digest   the algorithm over the disk's bytes, all of them, holes as zeros: what
                   `b3sum` or `xxh128sum` print for the raw image of the disk

    root           pieces of 1 MiB, at multiples of 1 MiB; bytes that were not compared count as
                   zeros; for every piece that is not all zeros, ascending:

                   | offset u64 le | length u64 le | the piece's bytes |   -> the algorithm

    total          over one line per disk, ascending by key: "KEY CAPACITY DIGEST" and a line feed

A root skips holes, so its cost follows what is allocated. An image digest has to digest the holes
too, but they are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vreplica.delta.block_hash import stream
from vreplica.units import MIB

BLAKE3: Final = "blake3"
XXH3: Final = "xxh3-128"
ALGORITHMS: Final = (BLAKE3, XXH3)
"""BLAKE3 is cryptographic: nobody can make other content with the same digest. XXH3 takes half the
time and finds accidents only."""

_ZEROS: Final = memoryview(bytes(8 * MIB))


class Hasher(Protocol):
    def update(self, data: memoryview, /) -> object: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Self: ...


def hasher(algorithm: str) -> Hasher:
    """Starts a digest. `algorithm` is one of ALGORITHMS."""
    if algorithm == BLAKE3:
        # Loaded here, because nothing else needs it.
        from blake3 import blake3

        return blake3()
    if algorithm == XXH3:
        return stream()
    raise ValueError(f"{algorithm!r} is none of {', '.join(ALGORITHMS)}")


def total(algorithm: str, disks: Iterable[tuple[int, int, str]]) -> str:
    """Makes one digest of several disks, each given as (key, capacity in bytes, digest)."""
    lines = "".join(f"{key} {capacity} {digest}\n" for key, capacity, digest in sorted(disks))
    whole = hasher(algorithm)
    whole.update(memoryview(lines.encode("ascii")))
    return whole.hexdigest()


class Roots:
    """Computes the roots of both sides; while they are equal, once for both."""

    def __init__(self, algorithm: str) -> None:
        self._source = self._target = hasher(algorithm)

    def add(self, offset: int, source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Adds the next piece of each side, given as one array if both are equal."""
        if source is target:
            self._update(self._source, offset, source)
            if self._target is self._source:
                return
        elif self._target is self._source:
            self._target = self._source.copy()
            self._update(self._source, offset, source)
        else:
            self._update(self._source, offset, source)
        self._update(self._target, offset, target)

    def hexdigests(self) -> tuple[str, str]:
        return self._source.hexdigest(), self._target.hexdigest()

    @staticmethod
    def _update(root: Hasher, offset: int, piece: NDArray[np.uint8]) -> None:
        if piece.view(np.uint64).any():
            head = offset.to_bytes(8, "little") + len(piece).to_bytes(8, "little")
            root.update(memoryview(head))
            root.update(piece.data)


class ImageDigest:
    """Computes the image digest of a disk from its pieces in ascending order.

    `check_cancelled` is called before each stretch of a hole, and ends the digest by raising.
    """

    def __init__(
        self, algorithm: str, capacity_bytes: int, check_cancelled: Callable[[], None]
    ) -> None:
        self._hasher = hasher(algorithm)
        self._capacity = capacity_bytes
        self._check_cancelled = check_cancelled
        self._position = 0

    def add(self, offset: int, piece: NDArray[np.uint8]) -> None:
        self._hole(offset)
        inside = piece[: max(0, self._capacity - offset)]
        self._hasher.update(inside.data)
        self._position += len(inside)

    def finish(self) -> str:
        self._hole(self._capacity)
        return self._hasher.hexdigest()

    def _hole(self, end: int) -> None:
        while self._position < min(end, self._capacity):
            self._check_cancelled()
            length = min(len(_ZEROS), min(end, self._capacity) - self._position)
            self._hasher.update(_ZEROS[:length])
            self._position += length
