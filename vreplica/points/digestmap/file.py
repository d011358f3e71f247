"""Reads and writes the file of a digest map: its parts, and a header that changes at once.

    0      header A, 4 KiB  }  the valid one with the higher generation counts; a new header
    4096   header B, 4 KiB  }  goes over the other one, so a torn write loses nothing
    8192   page digests, 32 bytes a page, zeros for a page of zeros       (sparse)
    ...    records, 16 bytes a block of the disk, zeros for zeros         (sparse)

A page is 1,024 records (16 KiB): the digests of 64 MiB of disk at blocks of 64 KiB. The page
digests have room for 64 TiB of blocks of 64 KiB, so a disk can grow without moving records.

    page digest = zeros if all its records are zeros, else SHA-256 of the page
    root digest = SHA-256 of "vreplica-root-1\0", algorithm 16s, seed u64, block u32, capacity u64,
                  then (page number u64, page digest) of every page that is not zeros, ascending

All integers are little-endian. The root says which content the map stands for; it does not
depend on how the file is laid out or which of its holes are allocated.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vreplica.points.digestmap.errors import DigestMapBusy

MAGIC: Final = b"vrdigmap"
VERSION: Final = 1
RECORD: Final = 16
PAGE_RECORDS: Final = 1024
PAGE: Final = PAGE_RECORDS * RECORD
PAGE_DIGEST: Final = 32

HEADER: Final = 4096
TABLE_AT: Final = 2 * HEADER
MAX_PAGES: Final = 1 << 20
RECORDS_AT: Final = TABLE_AT + MAX_PAGES * PAGE_DIGEST

CLEAN: Final = 0
FOLDING: Final = 1

_HEADER: Final = struct.Struct("<8sHHI16sQQQ64s64s32s")
_SUM: Final = 16
_ZEROS: Final = bytes(PAGE)


@dataclass(frozen=True, slots=True)
class Header:
    """`point` is the recovery point whose content the records describe ("": an empty disk).

    `state` FOLDING: records are being changed from `point` to `next_point`.
    """

    block: int
    algorithm: str
    seed: int
    capacity: int
    generation: int
    point: str
    root: bytes
    state: int = CLEAN
    next_point: str = ""

    @property
    def blocks(self) -> int:
        return -(-self.capacity // self.block)

    @property
    def size(self) -> int:
        """Bytes of the whole file: whole pages of records."""
        return RECORDS_AT + -(-self.blocks // PAGE_RECORDS) * PAGE

    def pack(self) -> bytes:
        body = _HEADER.pack(
            MAGIC,
            VERSION,
            self.state,
            self.block,
            self.algorithm.encode(),
            self.seed,
            self.capacity,
            self.generation,
            _name(self.point),
            _name(self.next_point),
            self.root,
        )
        return (body + blake2b(body, digest_size=_SUM).digest()).ljust(HEADER, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> Self | None:
        """None where `data` is not a whole header of this version."""
        body, checksum = data[: _HEADER.size], data[_HEADER.size : _HEADER.size + _SUM]
        if len(data) < HEADER or blake2b(body, digest_size=_SUM).digest() != checksum:
            return None
        (magic, version, state, block, algorithm, seed, capacity, generation, *rest) = (
            _HEADER.unpack(body)
        )
        if magic != MAGIC or version != VERSION:
            return None
        point, next_point, root = rest
        return cls(
            block=block,
            algorithm=algorithm.rstrip(b"\0").decode(),
            seed=seed,
            capacity=capacity,
            generation=generation,
            point=point.rstrip(b"\0").decode(),
            root=root,
            state=state,
            next_point=next_point.rstrip(b"\0").decode(),
        )


def read_header(fd: int) -> Header | None:
    """The header that counts of the two; None where neither is valid."""
    found = [Header.unpack(os.pread(fd, HEADER, at)) for at in (0, HEADER)]
    valid = [header for header in found if header is not None]
    return max(valid, key=lambda header: header.generation, default=None)


def newer_version(fd: int) -> int | None:
    """The version of a file that a newer version of vreplica wrote; None for any other file."""
    magic_and_version = struct.Struct("<8sH")
    for at in (0, HEADER):
        data = os.pread(fd, magic_and_version.size, at)
        if len(data) == magic_and_version.size:
            magic, version = magic_and_version.unpack(data)
            if magic == MAGIC and version > VERSION:
                return int(version)
    return None


def write_header(fd: int, header: Header, *, records_first: bool = True) -> Header:
    """Writes the header, durably, so that it counts. Returns it with its new generation.

    `records_first`: records that were written before are durable before the header is. Without
    such records it saves a sync, which is a flush of the device's cache.
    """
    header = replace(header, generation=header.generation + 1)
    if records_first:
        os.fsync(fd)
    write_all(fd, header.pack(), HEADER * (header.generation % 2))
    os.fsync(fd)
    return header


def write_all(fd: int, data: bytes | memoryview, at: int) -> None:
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def page_digest(page: bytes) -> bytes:
    """32 bytes; zeros for a page of zeros."""
    return bytes(PAGE_DIGEST) if page == _ZEROS else sha256(page).digest()


def root_digest(header: Header, pages: NDArray[np.int64], digests: NDArray[np.uint8]) -> bytes:
    """Root over page numbers (n,), ascending, and their digests (n, 32), none of them zeros."""
    rows = np.empty((len(pages), 8 + PAGE_DIGEST), np.uint8)
    rows[:, :8] = pages.astype("<u8").view(np.uint8).reshape(-1, 8)
    rows[:, 8:] = digests
    identity = struct.pack(
        "<16sQIQ", header.algorithm.encode(), header.seed, header.block, header.capacity
    )
    state = sha256(b"vreplica-root-1\0" + identity)
    state.update(rows.data)
    return state.digest()


def read_table(fd: int, header: Header) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Numbers (n,) and digests (n, 32) of the pages that are not zeros, ascending.

    Holes of the file are skipped, so this costs what the map holds.
    """
    numbers, digests = [np.empty(0, np.int64)], [np.empty((0, PAGE_DIGEST), np.uint8)]
    end = TABLE_AT + -(-header.blocks // PAGE_RECORDS) * PAGE_DIGEST
    at = TABLE_AT
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole from here on
            break
        if start >= end:
            break
        stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        start -= (start - TABLE_AT) % PAGE_DIGEST
        stop += -(stop - TABLE_AT) % PAGE_DIGEST
        rows = np.frombuffer(os.pread(fd, stop - start, start), np.uint8).reshape(-1, PAGE_DIGEST)
        held = np.flatnonzero(rows.any(axis=1))
        numbers.append(held + (start - TABLE_AT) // PAGE_DIGEST)
        digests.append(rows[held])
        at = stop
    return np.concatenate(numbers), np.concatenate(digests)


def merge_table(
    pages: NDArray[np.int64],
    digests: NDArray[np.uint8],
    new_pages: NDArray[np.int64],
    new_digests: bytes | bytearray,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """A table as `read_table` gives it, with some pages replaced; pages of zeros drop out."""
    kept = ~np.isin(pages, new_pages)
    pages = np.concatenate((pages[kept], new_pages))
    rows = np.frombuffer(new_digests, np.uint8).reshape(-1, PAGE_DIGEST)
    digests = np.concatenate((digests[kept], rows))
    order = np.argsort(pages, kind="stable")
    order = order[digests[order].any(axis=1)]
    return pages[order], digests[order]


def _name(text: str) -> bytes:
    name = text.encode()
    if len(name) > 64 or b"\0" in name:
        raise ValueError(f"{text!r} is too long for the id of a recovery point")
    return name


def open_locked(path: Path, flags: int) -> int:
    """A file descriptor. Raises OSError, and DigestMapBusy where another process has the map."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise DigestMapBusy(path=str(path)) from error
    return fd
