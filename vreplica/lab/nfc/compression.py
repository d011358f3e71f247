"""Compression of fragments on the wire, as the lab's hosts do it: zlib, FastLZ and SkipZ.

    SkipZ block  | u32 total length | u32 0 | runs |
    run          | u32 offset | u32 length | bytes |       what no run covers is zero

A fragment that does not shrink is sent plain. Source: the public code of the hystax fork of
OpenVixDiskLib.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

import numpy as np

from vreplica.lab.nfc import fastlz

ZLIB: Final = 1
FASTLZ: Final = 2
SKIPZ: Final = 3

_GAP: Final = 16
"""Zeros that end a run. A shorter gap costs less inside a run than a header of eight bytes."""


def compress(kind: int, data: memoryview) -> bytes:
    """Returns the block of a fragment. It may be longer than the data."""
    return _COMPRESS[kind](data)


def decompress(kind: int, block: bytes, size: int) -> bytes:
    """Returns exactly `size` bytes. Raises ValueError for a block that does not have them."""
    return _DECOMPRESS[kind](block, size)


def _unpack_zlib(block: bytes, size: int) -> bytes:
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(block, size)
        # One byte more than asked shows a block that is too long, and never takes more memory.
        rest = machine.decompress(machine.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(data) != size or rest or not machine.eof or machine.unused_data:
        raise ValueError(f"not {size} bytes")
    return data


def _pack_skipz(data: memoryview) -> bytes:
    used = np.flatnonzero(np.frombuffer(data, np.uint8))
    parts = [struct.pack("<II", data.nbytes, 0)]
    if used.size:
        breaks = np.flatnonzero(np.diff(used) > _GAP)
        starts = used[np.concatenate(([0], breaks + 1))]
        ends = used[np.concatenate((breaks, [used.size - 1]))] + 1
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            parts += [struct.pack("<II", start, end - start), bytes(data[start:end])]
    return b"".join(parts)


def _unpack_skipz(block: bytes, size: int) -> bytes:
    if len(block) < 8 or struct.unpack_from("<II", block) != (size, 0):
        raise ValueError(f"the header does not say {size} bytes")
    data, at, filled = bytearray(size), 8, 0
    while at < len(block):
        if len(block) - at < 8:
            raise ValueError("a run is cut off")
        offset, length = struct.unpack_from("<II", block, at)
        at += 8
        if offset < filled or not 0 < length <= size - offset or length > len(block) - at:
            raise ValueError(f"a run of {length} bytes at {offset}")
        data[offset : offset + length] = block[at : at + length]
        at, filled = at + length, offset + length
    return bytes(data)


_COMPRESS: Final[dict[int, Callable[[memoryview], bytes]]] = {
    ZLIB: lambda data: zlib.compress(data, 1),
    FASTLZ: fastlz.compress,
    SKIPZ: _pack_skipz,
}
_DECOMPRESS: Final[dict[int, Callable[[bytes, int], bytes]]] = {
    ZLIB: _unpack_zlib,
    FASTLZ: fastlz.decompress,
    SKIPZ: _unpack_skipz,
}
