"""Changed block tracking of one disk link: the time of the last write of each block.

    x-ctk.vmdk    0     4096                                    (a sparse file, memory-mapped)
                  +------+----+----+----+----+----+----+
                  |header| 1  | 0  | 3  | 3  | 0  | 2  | ...    epoch of the last write, 0: never
                  +------+----+----+----+----+----+----+
    header: magic, granularity, capacity, uuid, epoch

    changeId "<uuid>/<epoch>"      changed since <uuid>/1 = blocks with an epoch above 1

A snapshot freezes the map of its link: the new link starts with a copy whose epoch is one
higher. So an answer about a snapshot never has a write that came after it. A map is marked before
the data is written, and the mark survives the death of the process.

Block size: 64 KiB for small disks, growing with the disk (VDDK 8.0 Programming Guide,
"Changed Block Tracking on Virtual Disks"). A new uuid makes all older changeIds invalid.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vreplica.extents import Extents
from vreplica.files import copy_sparse
from vreplica.units import BLOCK

_HEADER = struct.Struct("<8sQQ16sQ")
_MAGIC = b"VRLABCTK"
_START = 4096
BLOCKS_MAX = 4 << 20
"""A disk with more blocks gets larger ones: 64 KiB up to 256 GiB, 16 MiB at 62 TiB."""


class UntrackedDisk(Exception):
    """Raised where there is no usable map: tracking is off, not active yet, or was reset."""


@dataclass(frozen=True, slots=True)
class ChangeId:
    """A changeId such as `52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81`."""

    generation: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.generation}/{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        generation, slash, epoch = text.rpartition("/")
        if not slash or len(generation.replace("-", " ").split()) != 16 or not epoch.isdigit():
            raise ValueError(text)
        return cls(generation, int(epoch))


def format_uuid(raw: bytes) -> str:
    """16 bytes, in the form in which VMware writes the uuid of a disk."""
    text = [f"{b:02x}" for b in raw]
    return " ".join(text[:8]) + "-" + " ".join(text[8:])


def ctk_path(link: Path) -> Path:
    """The file of a link's change map."""
    return link.with_name(f"{link.stem}-ctk.vmdk")


def granularity_for(capacity: int) -> int:
    """Bytes of a block in the map of a disk of this capacity."""
    size = BLOCK
    while capacity > size * BLOCKS_MAX:
        size *= 2
    return size


class ChangeMap:
    """The open map of one link. Raises UntrackedDisk where there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                magic, self.granularity, self.capacity, self._uuid, _ = _HEADER.unpack(
                    file.read(_HEADER.size)
                )
        except (OSError, struct.error):
            raise UntrackedDisk(str(path)) from None
        if magic != _MAGIC:
            raise UntrackedDisk(str(path))
        count = -(-self.capacity // self.granularity)
        self._header = np.memmap(path, np.uint64, "r+", 0, (_START // 8,))
        self._blocks: NDArray[np.uint32] = np.memmap(path, np.uint32, "r+", _START, (count,))

    @classmethod
    def create(cls, path: Path, capacity: int, allocated: Extents) -> ChangeMap:
        """Makes a map with a new uuid. As on ESXi, allocated areas count as changed."""
        size = granularity_for(capacity)
        count = -(-capacity // size)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(_HEADER.pack(_MAGIC, size, capacity, uuid.uuid4().bytes, 1))
            file.truncate(_START + 4 * count)
        fresh.replace(path)
        made = cls(path)
        for start, end in allocated:
            made.mark(start, end - start)
        return made

    @property
    def generation(self) -> str:
        return format_uuid(self._uuid)

    @property
    def epoch(self) -> int:
        return int(self._header[5])

    @property
    def change_id(self) -> str:
        return str(ChangeId(self.generation, self.epoch))

    def mark(self, offset: int, length: int) -> None:
        """Marks bytes [offset, offset + length) as changed. Call it before they are written."""
        if length:
            first, last = offset // self.granularity, (offset + length - 1) // self.granularity
            self._blocks[first : last + 1] = self.epoch

    def changed_since(self, epoch: int) -> Extents:
        """Areas that were written after `epoch`."""
        blocks = np.flatnonzero(self._blocks > epoch).astype(np.int64)
        return Extents.from_blocks(blocks, self.granularity, self.capacity)

    def freeze_into(self, path: Path, *, new_generation: bool = False) -> None:
        """Makes the map of a new link on top of this one: a copy with the next epoch."""
        fresh = path.with_suffix(".new")
        copy_sparse(self.path, fresh)
        generation = uuid.uuid4().bytes if new_generation else self._uuid
        header = _HEADER.pack(_MAGIC, self.granularity, self.capacity, generation, self.epoch + 1)
        with fresh.open("r+b") as file:
            file.write(header)
        fresh.replace(path)

    def grow(self, capacity: int) -> None:
        """Extends the map with its disk. The block size stays; the new area counts as unwritten."""
        count = -(-capacity // self.granularity)
        with self.path.open("r+b") as file:
            file.truncate(_START + 4 * count)
            file.write(_HEADER.pack(_MAGIC, self.granularity, capacity, self._uuid, self.epoch))
        self.__init__(self.path)  # type: ignore[misc]
