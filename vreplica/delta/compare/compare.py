"""Proves that two disks are equal: reads both and compares them byte by byte.

    source  ---- reader thread ---> | a |
                                          memcmp, differing extents, root digest of each side
    target  ---- reader thread ---> | b | -> digest of the target's whole image, where asked for

This uses nothing of the copier: other loops, other buffers, bytes instead of digests. So the check
does not repeat a mistake of the copier. root_digest.py defines the digests. Bytes of the target
that are not compared are read for its image digest only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, islice
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vreplica.delta.compare.root_digest import BLAKE3, ImageDigest, Roots
from vreplica.delta.compare.spot_check import PIECE, SpotCheck, SpotCheckResult
from vreplica.delta.control import Control
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.units import SECTOR

_PIECES: Final = 8
"""Pieces in a round: 8 MiB of each side, beside 8 MiB of the round before, which is digested."""

FIRST_DIFFERENCES: Final = 100

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CompareReport:
    """The result of a comparison. Sizes in bytes.

    capacity = excluded + compared + holes + the rest (outside `extents` or the sample)
    """

    capacity_bytes: int
    compared_bytes: int
    """Read from both sides."""
    hole_bytes: int
    """Not read, because unallocated on both sides: zeros on both."""
    excluded_bytes: int
    different_bytes: int
    """In whole sectors of 512."""
    differences: Extents
    """The first `FIRST_DIFFERENCES` ranges that differ, in whole sectors."""
    algorithm: str
    source_root: str
    target_root: str
    looked_at: Extents
    """The bytes that the roots cover: with holes, unless a sample was taken."""
    image_digest: str | None
    """Of all bytes of the target; None if it was not asked for."""
    spot: SpotCheckResult | None
    """None: no sample was taken."""
    seconds: float

    @property
    def equal(self) -> bool:
        return self.different_bytes == 0


@dataclass(slots=True)
class _Found:
    different_bytes: int = 0
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def add(self, offset: int, a: Bytes, b: Bytes) -> None:
        sectors = (a != b).reshape(-1, SECTOR).any(axis=1)
        self.different_bytes += int(sectors.sum()) * SECTOR
        edges = np.flatnonzero(np.diff(np.concatenate(([False], sectors, [False]))))
        for start, end in (offset + edges.reshape(-1, 2) * SECTOR).tolist():
            if self.pairs and self.pairs[-1][1] == start:
                self.pairs[-1] = (self.pairs[-1][0], end)
            elif len(self.pairs) < FIRST_DIFFERENCES:
                self.pairs.append((start, end))


@dataclass(frozen=True, slots=True)
class _Piece:
    """The ranges to read of one piece of 1 MiB: from both sides, and from the target alone."""

    offset: int
    length: int
    both: list[tuple[int, int]]
    alone: list[tuple[int, int]]


def compare(
    source: Disk,
    target: Disk,
    extents: Extents | None = None,
    *,
    exclude: Extents | None = None,
    sample: SpotCheck | None = None,
    algorithm: str = BLAKE3,
    image: bool = False,
    progress: Callable[[int, int], None] | None = None,
    control: Control | None = None,
) -> CompareReport:
    """Compares both disks over `extents` (default: everything) without `exclude`.

    `sample` limits the reads to a share of what is allocated there. `image` asks for the digest of
    the target's whole image; then everything that the target holds is read. If the capacities
    differ, the part that only the larger disk has must be zeros. One thread uses each disk.
    `progress(done_bytes, total_bytes)`. Raises what the disks raise, and CopyCancelled.
    """
    started = perf_counter()
    capacity = max(source.capacity_bytes, target.capacity_bytes)
    skipped = (exclude or Extents.empty()).clip(0, capacity)
    everything = Extents.of(0, capacity)
    asked = (everything if extents is None else extents.clip(0, capacity)).subtract(skipped)
    on_target = target.allocated().align(SECTOR, capacity)
    wanted = asked.intersect(source.allocated().align(SECTOR, capacity).union(on_target)).align(
        SECTOR, capacity
    )
    spot = None
    looked_at, read = asked, wanted
    if sample is not None:
        read, spot = sample.choose(wanted)
        looked_at = read
    work = _Comparison(
        source, target, control=control or Control(), progress=progress, algorithm=algorithm
    )
    work.run(read, on_target.subtract(read) if image else Extents.empty(), image)
    source_root, target_root = work.roots.hexdigests()
    return CompareReport(
        capacity_bytes=capacity,
        compared_bytes=read.total,
        hole_bytes=asked.total - wanted.total,
        excluded_bytes=skipped.total,
        different_bytes=work.found.different_bytes,
        differences=Extents.from_pairs(work.found.pairs),
        algorithm=algorithm,
        source_root=source_root,
        target_root=target_root,
        looked_at=looked_at,
        image_digest=work.image.finish() if image else None,
        spot=spot,
        seconds=perf_counter() - started,
    )


class _Comparison:
    """Runs a comparison round by round: reads both sides, compares; digests while it reads on."""

    def __init__(
        self,
        source: Disk,
        target: Disk,
        *,
        control: Control,
        progress: Callable[[int, int], None] | None,
        algorithm: str,
    ) -> None:
        self.disks = source, target
        self.control, self.progress = control, progress
        self.capacity = max(source.capacity_bytes, target.capacity_bytes)
        self.found, self.roots = _Found(), Roots(algorithm)
        self.image = ImageDigest(algorithm, target.capacity_bytes, self._check_cancelled)
        self.done = self.total = 0

    def run(self, both: Extents, alone: Extents, image: bool) -> None:
        self.total = both.total + alone.total
        pieces = self._pieces(both, alone)
        sets = [(_buffer(), _buffer()), (_buffer(), _buffer())]
        digesting: list[list[Future[None]]] = [[], []]
        with (
            ThreadPoolExecutor(2, "vreplica-compare") as readers,
            ThreadPoolExecutor(1, "vreplica-root") as root,
            ThreadPoolExecutor(1, "vreplica-image") as whole,
        ):
            for turn in _turns():
                batch = list(islice(pieces, _PIECES))
                for earlier in digesting[turn]:
                    earlier.result()
                if not batch:
                    break
                nbytes = sum(e - s for p in batch for s, e in p.both)
                if not self.control.admit(nbytes):
                    raise self._cancelled()
                a, b = sets[turn]
                reads = [
                    readers.submit(_read, self.disks[0], a, batch, alone=False),
                    readers.submit(_read, self.disks[1], b, batch, alone=True),
                ]
                for each in reads:
                    each.result()
                imaged = [whole.submit(self._digest_image, b, batch)] if image else []
                if any(p.alone for p in batch):
                    for each in imaged:
                        each.result()
                    _blank(b, batch)
                same = self._compare(a, b, batch)
                digesting[turn] = [*imaged, root.submit(self._digest, a, b, batch, same)]
                self.done += nbytes + sum(e - s for p in batch for s, e in p.alone)
                if self.progress is not None:
                    self.progress(self.done, self.total)
            for each in (*digesting[0], *digesting[1]):
                each.result()

    def _pieces(self, both: Extents, alone: Extents) -> Iterator[_Piece]:
        ranges = merge(
            ((start, end, False) for start, end in both.split(PIECE)),
            ((start, end, True) for start, end in alone.split(PIECE)),
        )
        for number, found in groupby(ranges, key=lambda r: r[0] // PIECE):
            offset, parts = number * PIECE, list(found)
            yield _Piece(
                offset,
                min(PIECE, self.capacity - offset),
                [(start, end) for start, end, only in parts if not only],
                [(start, end) for start, end, only in parts if only],
            )

    def _compare(self, a: Bytes, b: Bytes, batch: list[_Piece]) -> list[bool]:
        same = []
        for number, piece in enumerate(batch):
            left, right = _part(a, number, piece), _part(b, number, piece)
            same.append(np.array_equal(left, right))
            if not same[-1]:
                self.found.add(piece.offset, left, right)
        return same

    def _digest(self, a: Bytes, b: Bytes, batch: list[_Piece], same: list[bool]) -> None:
        for number, piece in enumerate(batch):
            left = _part(a, number, piece)
            right = left if same[number] else _part(b, number, piece)
            self.roots.add(piece.offset, left, right)

    def _digest_image(self, b: Bytes, batch: list[_Piece]) -> None:
        for number, piece in enumerate(batch):
            self.image.add(piece.offset, _part(b, number, piece))

    def _check_cancelled(self) -> None:
        if not self.control.admit():
            raise self._cancelled()

    def _cancelled(self) -> CopyCancelled:
        return CopyCancelled(done_bytes=self.done, total_bytes=self.total)


def _turns() -> Iterator[int]:
    while True:
        yield from (0, 1)


def _buffer() -> Bytes:
    return np.zeros(PIECE * _PIECES, np.uint8)


def _part(buffer: Bytes, number: int, piece: _Piece) -> Bytes:
    """The place of piece `number` of a round, which is the same in every buffer."""
    return buffer[number * PIECE : number * PIECE + piece.length]


def _blank(buffer: Bytes, batch: list[_Piece]) -> None:
    """Clears what was read for the image alone, which is not compared."""
    for number, piece in enumerate(batch):
        for start, end in piece.alone:
            _part(buffer, number, piece)[start - piece.offset : end - piece.offset] = 0


def _read(disk: Disk, buffer: Bytes, batch: list[_Piece], *, alone: bool) -> None:
    """Fills the place of each piece; zeros where nothing is read and past the end of the disk."""
    requests = []
    view = buffer.data
    for number, piece in enumerate(batch):
        ranges = [*piece.both, *(piece.alone if alone else ())]
        place = _part(buffer, number, piece)
        if sum(end - start for start, end in ranges) < piece.length or (
            piece.offset + piece.length > disk.capacity_bytes
        ):
            place.fill(0)
        for start, end in ranges:
            inside = min(end, disk.capacity_bytes) - start
            if inside > 0:
                at = number * PIECE + start - piece.offset
                requests.append((start, view[at : at + inside]))
    if not requests:
        return
    try:
        disk.read_many(requests)
    except VReplicaError as error:
        error.at(disk=disk.name, offset_bytes=requests[0][0])
        raise
