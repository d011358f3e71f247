"""Tables of the NFC protocol's frames. Every number of the wire is here and nowhere else.

    classic message   | type u32 | fields ..., zero padded | to 264 bytes
    AIO frame         | magic u32 | type u32 | size u32 | opId u32 | payload (size) | extra |

All integers are little-endian. The extra (path, key, data) follows the payload, and `size` does
not count it; a field of the payload has its length.

Source: the protocol notes of the public projects cloudbase/OpenVixDiskLib and
hystax/OpenVixDiskLib, which observed VDDK 8.0.2 and 8.0.3 against vCenter and ESXi 8.0. What ESXi
6.5 to 7.0.3 do otherwise is in the code of OpenVixDiskLib and of a public Rust client.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from vreplica.units import KIB, MIB


class Layout:
    """A record of fixed size: named little-endian fields at given offsets, zeros between them.

    A field is `(name, offset, code)` with the struct codes I (u32) and Q (u64).
    """

    def __init__(self, name: str, size: int, *fields: tuple[str, int, str]) -> None:
        self.name = name
        self.size = size
        self.fields = fields
        self._names = tuple(field[0] for field in fields)
        parts, at = ["<"], 0
        for _, offset, code in fields:
            parts += [f"{offset - at}x" if offset > at else "", code]
            at = offset + struct.calcsize("<" + code)
        parts.append(f"{size - at}x" if size > at else "")
        self._struct = struct.Struct("".join(parts))
        assert self._struct.size == size, name

    def pack(self, **values: int) -> bytes:
        """Returns the record's bytes; fields that are not given are 0. Raises KeyError."""
        row = [values.pop(name, 0) for name in self._names]
        if values:
            raise KeyError(f"{self.name} has no field {', '.join(values)}")
        return self._struct.pack(*row)

    def unpack(self, data: bytes | bytearray | memoryview) -> dict[str, int]:
        """Returns field values by name. Raises struct.error where the size does not fit."""
        return dict(zip(self._names, self._struct.unpack(data), strict=True))


# -- authd (TCP 902) ------------------------------------------------------------------------

AUTHD_PORT: Final = 902
AUTHD_GREETING: Final = "220 "
AUTHD_OK: Final = "200 "
SHA256_SUPPORTED: Final = "SHA256 supported"
"""In the greeting of hosts that know THUMBPRINT_SHA2. ESXi 6.5 to 7 answer it 530."""
AUTHD_LINE_MAX: Final = 4 * KIB
"""Lines of authd are much shorter; a longer one is garbage."""

BANNER: Final = "BANNER "
"""The space belongs to the command."""
THUMBPRINT: Final = "THUMBPRINT_SHA2 PlainText"
SSL_SERVICE_SUFFIX: Final = "ssl"
"""`PROXY vpxa-nfc` asks for nbd, `PROXY vpxa-nfcssl` for nbdssl."""

# -- classic messages -----------------------------------------------------------------------

CLASSIC_SIZE: Final = 264
PLAIN_TEXT: Final = b"PlainText"
PROTOCOL_VERSION: Final = 11
CLIENT_FEATURES: Final = 0
"""None. VDDK sends 3: it can be interrupted, and follows a host that hands the session over."""


class Classic(IntEnum):
    """Types of the 264-byte messages."""

    SESSION_COMPLETE = 4
    SESSION_PARAMS = 33
    SESSION_PARAMS_REPLY = 36
    HANDSHAKE = 43
    VERSION = 51
    AIO_SESSION = 52
    CONNECTION_DATA = 54
    FEATURES = 55


CLASSIC: Final = Layout("classic message", CLASSIC_SIZE, ("type", 0, "I"))
HANDSHAKE_TEXT_OFFSET: Final = 4
SESSION_PARAMS_REPLY: Final = Layout(
    "session parameters reply", CLASSIC_SIZE, ("type", 0, "I"), ("accepted", 16, "I")
)
VERSION: Final = Layout("version", CLASSIC_SIZE, ("type", 0, "I"), ("version", 4, "I"))
CONNECTION_DATA: Final = Layout(
    "connection data",
    CLASSIC_SIZE,
    ("type", 0, "I"),
    ("name_length", 4, "I"),
    ("operation_length", 8, "I"),
)
FEATURES: Final = Layout("features", CLASSIC_SIZE, ("type", 0, "I"), ("features", 4, "I"))

# -- AIO frames -----------------------------------------------------------------------------

AIO_MAGIC: Final = 0xA100DA7A


class Aio(IntEnum):
    """Types of the AIO frames. A reply has the type and the opId of its request."""

    ERROR = 1
    OPEN_SESSION = 2
    CLOSE_SESSION = 3
    OPEN_FILE = 4
    CLOSE_FILE = 5
    IO = 7
    SET_SOCKET_OPTIONS = 9
    DDB_GET = 11
    ALLOCATED = 13
    SET_RESOURCE_POOL = 22


AIO_HEADER: Final = Layout(
    "AIO header", 16, ("magic", 0, "I"), ("type", 4, "I"), ("size", 8, "I"), ("op_id", 12, "I")
)

OPEN_SESSION: Final = Layout("OPEN_SESSION", 16, ("buffer_bytes", 4, "I"), ("buffer_count", 8, "I"))
OPEN_SESSION_REPLY: Final = Layout("OPEN_SESSION reply", 16, ("status", 0, "I"))
BUFFER_MAX: Final = 2 * MIB
"""The largest buffer that ESXi 8 accepted; 16 MiB was refused."""
SESSION_BUFFERS_MAX: Final = 16 * MIB
"""Size times count of one session's buffers (release notes of VDDK 7.0.3)."""

SOCKET_OPTIONS: Final = Layout("SET_SOCK_OPTS", 12)
SOCKET_OPTIONS_REPLY: Final = Layout(
    "SET_SOCK_OPTS reply", 12, ("send_bytes", 0, "I"), ("receive_bytes", 4, "I"), ("flag", 8, "I")
)

RESOURCE_POOL: Final = Layout("SET_RES_POOL", 4, ("pool", 0, "I"))
RESOURCE_POOL_DEFAULT: Final = 1

OPEN_FILE: Final = Layout(
    "OPEN_FILE", 60, ("path_length", 0, "I"), ("file_type", 16, "I"), ("flags", 20, "I")
)
OPEN_FILE_REPLY: Final = Layout(
    "OPEN_FILE reply",
    60,
    ("status", 0, "Q"),
    ("handle", 8, "Q"),
    ("file_type", 16, "I"),
    ("flags", 20, "I"),
    ("capacity_bytes", 28, "Q"),
    ("sector_bytes", 36, "I"),
    ("cylinders", 40, "I"),
    ("heads", 44, "I"),
    ("sectors", 48, "I"),
)
FILE_TYPE_DISK: Final = 2
OPEN_READ_ONLY: Final = 0x1E
OPEN_READ_WRITE: Final = 0x1A

DDB_GET: Final = Layout("DDB_GET", 16, ("handle", 0, "Q"), ("key_length", 8, "I"))
DDB_GET_REPLY: Final = Layout("DDB_GET reply", 16, ("status", 0, "Q"), ("value_length", 12, "I"))
DDB_VALUE_MAX: Final = 64 * KIB

READ: Final = Layout(
    "IO read request",
    44,
    ("handle", 0, "Q"),
    ("opcode", 8, "I"),
    ("compression", 12, "I"),
    ("offset", 16, "Q"),
    ("length", 24, "Q"),
    ("length_again", 32, "I"),
    ("wire_length", 36, "I"),
)
FRAGMENT: Final = Layout(
    "IO fragment",
    44,
    ("handle", 0, "Q"),
    ("opcode", 8, "I"),
    ("compression", 12, "I"),
    ("offset", 16, "Q"),
    ("total", 24, "I"),
    ("at", 28, "I"),
    ("length", 32, "I"),
    ("wire_length", 36, "I"),
)
"""A piece of a write request or of a read reply: `length` bytes from byte `at` of a request of
`total` bytes at byte `offset` of the disk. `wire_length` bytes follow.

In a reply the first field is the status: 0 when good (some hosts repeat the handle)."""

OP_WRITE: Final = 0
OP_READ: Final = 1
PLAIN: Final = 0
"""Not compressed."""

ALLOCATED: Final = Layout(
    "allocated blocks",
    48,
    ("handle", 0, "Q"),
    ("chunk_bytes", 16, "Q"),
    ("start", 24, "Q"),
    ("chunk_count", 32, "Q"),
)
ALLOCATED_REPLY: Final = Layout(
    "allocated blocks reply", 48, ("status", 0, "Q"), ("chunk_count", 32, "Q")
)
CHUNK_MIN: Final = 64 * KIB
CHUNK_MAX: Final = 64 * MIB
CHUNKS_PER_QUERY: Final = 524_288
"""Limits of QueryAllocatedBlocks (VDDK 8.0 Programming Guide)."""
BITMAP_UNIT: Final = 4
"""The bitmap of a reply is padded to a multiple of this number of bytes."""

HANDLE: Final = Layout("CLOSE_FILE", 8, ("handle", 0, "Q"))
"""One public client sends and gets 16 bytes for CLOSE_FILE and for CLOSE_SESSION."""
CLOSE_SESSION: Final = Layout("CLOSE_SESSION", 4)

ERROR: Final = Layout("error record", 16, ("code", 0, "Q"), ("zero", 8, "I"), ("length", 12, "I"))
"""The text of `length` bytes is part of the payload, or follows a payload of 16 bytes uncounted.
Then an ordinary reply with the same opId comes as well (ESXi 7.0.3)."""
ERROR_PAYLOAD_MAX: Final = 64 * KIB
REPLY_PAYLOAD_MAX: Final = 4 * KIB
"""Payloads have fixed sizes below 64 bytes; only an error's is not known."""


def bitmap_bytes(chunks: int) -> int:
    """Returns the bytes of a bitmap on the wire: one bit a chunk, least significant bit first."""
    return -(-chunks // (8 * BITMAP_UNIT)) * BITMAP_UNIT


def uncounted_text_bytes(payload: bytes) -> int:
    """Returns the bytes of text that follow an error record's payload, 0 where it has its text."""
    if len(payload) != ERROR.size:
        return 0
    record = ERROR.unpack(payload)
    return record["length"] if record["zero"] == 0 else 0


def bytes_behind(kind: int, payload: bytes) -> int:
    """Returns the bytes that follow an ordinary reply of a type, which `size` does not count."""
    if kind == Aio.IO and len(payload) == FRAGMENT.size:
        values = FRAGMENT.unpack(payload)
        return values["wire_length"] if values["opcode"] == OP_READ else 0
    if kind == Aio.DDB_GET and len(payload) == DDB_GET_REPLY.size:
        return DDB_GET_REPLY.unpack(payload)["value_length"]
    if kind == Aio.ALLOCATED and len(payload) == ALLOCATED_REPLY.size:
        return bitmap_bytes(ALLOCATED_REPLY.unpack(payload)["chunk_count"])
    return 0
