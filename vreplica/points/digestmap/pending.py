"""Keeps the digests of a run that is not committed yet: an append-only, checksummed sidecar file.

    +------+---------+---------+------------+---------+- - - -+------+
    | HEAD | RECORDS | RECORDS | CHECKPOINT | RECORDS |       | SEAL |
    +------+---------+---------+------------+---------+- - - -+------+

    every frame:  kind u8, 3 bytes 0, length u32, payload, BLAKE2b-128 of all before it here

    HEAD        JSON: base point, point that it will belong to, seed, block, capacity
    RECORDS     n times block number i64, then n times digest 16 bytes; ascending over the file
    CHECKPOINT  position u64: every selected byte below it is durable on the replica; counts
    SEAL        count of records u64, root digest of the map after folding, 32 bytes; counts

    counts      JSON object of numbers that the run had counted up to there; or nothing

Only a sealed file may be folded in. A file that broke off is cut back to its last checkpoint, and
the run can be resumed from there, if the source's snapshot still exists.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from vreplica.points.digestmap.errors import writing

_FRAME: Final = struct.Struct("<B3xI")
_SUM_SIZE: Final = 16
_HEAD, _RECORDS, _CHECKPOINT, _SEAL = range(1, 5)
_RECORD_SIZE: Final = 8 + 16

Counts = Mapping[str, float]
NO_COUNTS: Final[Counts] = {}

FLUSH_RECORDS: Final = 8192
"""Records collected before a frame is written: 192 KiB, 512 MiB of disk."""


def pending_path(map_path: Path) -> Path:
    """The sidecar of a digest map."""
    return map_path.with_name(map_path.name + ".pending")


@dataclass(frozen=True, slots=True)
class PendingHead:
    """The map that the records belong to, and the recovery point that they make."""

    base: str
    point: str
    seed: int
    block: int
    capacity: int


class PendingDigests:
    """The sidecar while a run writes it. A digest sink of the copy; one thread at a time."""

    def __init__(
        self,
        path: Path,
        head: PendingHead,
        file: BinaryIO,
        *,
        count: int = 0,
        position: int = 0,
        counts: Counts = NO_COUNTS,
    ) -> None:
        self.path, self.head = path, head
        self.count = count
        self.position = position
        """Byte of the last checkpoint; 0 where there was none."""
        self.counts = counts
        """The counts of that checkpoint, and those for `seal`; empty where there was none."""
        self._file = file
        self._blocks: list[NDArray[np.int64]] = []
        self._digests: list[NDArray[np.uint8]] = []
        self._waiting = 0

    @classmethod
    def create(cls, path: Path, head: PendingHead) -> PendingDigests:
        """Creates the file; an old one is replaced."""
        file: BinaryIO = path.open("wb", buffering=0)
        try:
            os.fchmod(file.fileno(), 0o600)
            _write_frame(file, _HEAD, json.dumps(asdict(head)).encode())
        except BaseException:
            file.close()
            raise
        return cls(path, head, file)

    @classmethod
    def reopen(cls, path: Path) -> PendingDigests | None:
        """Reopens a file that broke off, at its last checkpoint. None: nothing to resume."""
        found = read_pending(path)
        if found is None or found.sealed or not found.position:
            return None
        file = path.open("r+b", buffering=0)
        file.truncate(found.durable_end)
        file.seek(found.durable_end)
        return cls(
            path,
            found.head,
            file,
            count=found.durable_count,
            position=found.position,
            counts=found.counts,
        )

    def add(self, blocks: NDArray[np.int64], digests: NDArray[np.uint8]) -> None:
        """Adds blocks that are on the replica now. They ascend over all calls; digests (n, 16)."""
        self._blocks.append(blocks)
        self._digests.append(digests)
        self._waiting += len(blocks)
        if self._waiting >= FLUSH_RECORDS:
            self._flush()

    def checkpoint(self, position: int, counts: Counts = NO_COUNTS) -> None:
        """Records that every selected byte below `position` is durable on the replica.

        The file is durable on return, except at the end of the disk, where `seal` follows. A
        checkpoint that is lost means work to do again. One that is found is true: it is written
        after the replica's bytes are durable.
        """
        self._flush()
        payload = struct.pack("<Q", position) + json.dumps(counts).encode()
        _write_frame(self._file, _CHECKPOINT, payload)
        if position < self.head.capacity:
            self._sync()
        self.position, self.counts = position, counts

    def seal(self, root: bytes) -> None:
        """Makes the file complete and durable. `root`: the root digest that the map will have."""
        self._flush()
        payload = struct.pack("<Q", self.count) + root + json.dumps(self.counts).encode()
        _write_frame(self._file, _SEAL, payload)
        self._sync()

    def records(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yields the records added so far, a frame at a time."""
        self._flush()
        return read_records(self.path)

    def close(self) -> None:
        self._file.close()

    def _sync(self) -> None:
        with writing(self.path):
            os.fsync(self._file.fileno())

    def _flush(self) -> None:
        if not self._waiting:
            return
        blocks = np.concatenate(self._blocks).astype("<i8", copy=False)
        digests = np.concatenate(self._digests)
        self._blocks, self._digests = [], []
        for start in range(0, len(blocks), FLUSH_RECORDS):
            part = slice(start, start + FLUSH_RECORDS)
            payload = blocks[part].tobytes() + digests[part].tobytes()
            _write_frame(self._file, _RECORDS, payload)
        self.count += self._waiting
        self._waiting = 0


@dataclass(frozen=True, slots=True)
class FoundPending:
    """The content of a sidecar on disk. `durable_*`: up to the last checkpoint."""

    head: PendingHead
    sealed: bool
    root: bytes
    count: int
    position: int
    durable_end: int
    durable_count: int
    counts: Counts
    """Of the seal, or of the last checkpoint."""


def read_pending(path: Path) -> FoundPending | None:
    """Reads and checks the whole file. None where it is missing or its head cannot be read."""
    head: PendingHead | None = None
    count = position = durable_end = durable_count = at = 0
    root, sealed = b"", False
    counts = NO_COUNTS
    for kind, payload in _read_frames(path):
        at += _FRAME.size + len(payload) + _SUM_SIZE
        if head is None:
            if kind != _HEAD:
                return None
            try:
                head = PendingHead(**json.loads(payload))
            except (ValueError, TypeError):  # a newer version wrote it
                return None
        elif kind == _RECORDS:
            count += len(payload) // _RECORD_SIZE
        elif kind == _CHECKPOINT:
            (position,) = struct.unpack_from("<Q", payload)
            counts = json.loads(payload[8:] or b"{}")
            durable_end, durable_count = at, count
        elif kind == _SEAL:
            (sealed_count,) = struct.unpack_from("<Q", payload)
            root, sealed = payload[8:40], sealed_count == count
            counts = json.loads(payload[40:] or b"{}")
    if head is None:
        return None
    return FoundPending(head, sealed, root, count, position, durable_end, durable_count, counts)


def read_records(path: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yields block numbers (n,) and digests (n, 16), a frame at a time, in file order."""
    for kind, payload in _read_frames(path):
        if kind == _RECORDS:
            count = len(payload) // _RECORD_SIZE
            blocks = np.frombuffer(payload, "<i8", count)
            yield blocks, np.frombuffer(payload, np.uint8, offset=count * 8).reshape(-1, 16)


def _write_frame(file: BinaryIO, kind: int, payload: bytes) -> None:
    frame = _FRAME.pack(kind, len(payload)) + payload
    data = memoryview(frame + blake2b(frame, digest_size=_SUM_SIZE).digest())
    with writing(Path(file.name)):
        while data:
            data = data[file.write(data) :]


def _read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the frames up to the first that is not whole."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while True:
            start = file.read(_FRAME.size)
            if len(start) < _FRAME.size:
                return
            kind, length = _FRAME.unpack(start)
            if length > FLUSH_RECORDS * _RECORD_SIZE:
                return
            payload, checksum = file.read(length), file.read(_SUM_SIZE)
            if blake2b(start + payload, digest_size=_SUM_SIZE).digest() != checksum:
                return
            yield kind, payload
