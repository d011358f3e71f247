"""The messages between parent and helper process, over one SOCK_SEQPACKET pair.

    request   | op (1) | body                                   one message each
    answer    | state (1) | body                                in the order of the requests

    START     JSON: library, lib_root, major, config_file
    OPEN      JSON: target, path, flags ...; then one message that carries the slots' fd
    ACCESS    JSON: call, target, identity
    ARENA     JSON: region, size; then one message that carries the arena's fd
    FORGET    JSON: region; it is unmapped
    READ, WRITE    n x (start sector u64, sectors u32, region u32, position u64)
    BLOCKS    start, count, chunk u64          answer: number of bytes u64, then a memfd with them
    FLUSH, CLOSE   nothing

Disk data never passes here. A piece names a region of shared memory (0: the slots, 1...: arenas)
and the position in it. The kernel keeps message boundaries; end of file on one side means that the
other process is gone.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any, Final

MESSAGE_MAX: Final = 32 * 1024
PIECE: Final = struct.Struct("<QIIQ")
QUERY: Final = struct.Struct("<QQQ")
SIZE: Final = struct.Struct("<Q")
PIECES_MAX: Final = 64
"""Pieces in one message; one timeout covers them (64 MiB at most)."""

SLOTS: Final = 0
"""Region number of the helper's own slots."""


class Op(IntEnum):
    START = 1
    OPEN = 2
    ACCESS = 3
    ARENA = 4
    FORGET = 5
    READ = 6
    WRITE = 7
    BLOCKS = 8
    FLUSH = 9
    CLOSE = 10


class AnswerState(IntEnum):
    DONE = 0
    FAILED = 1
    """JSON: call, code, text, detail of CallFailed."""
    UNLOADABLE = 2
    """JSON: path, reason, missing of LoadFailed."""
    BROKEN = 3
    """JSON: text; a fault of the helper itself."""


def message(kind: int, body: bytes = b"") -> bytes:
    """Makes one message. Raises ValueError for a long one, which the socket would cut."""
    if len(body) >= MESSAGE_MAX:
        raise ValueError("message to or from the helper process is too long")
    return bytes((kind,)) + body


def dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def load(body: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(body)
    return value
