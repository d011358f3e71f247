"""The C ABI of VixDiskLib on Linux x86-64, as data: constants, structs, callbacks, functions.

Right for VMware's libraries 6.7 to 9.0 and for the native library of this package. Sizes in
bytes; "6.5", "7.0" say from which version a field exists. Natural alignment, never packed.

    ConnectParams          Info                    CreateParams        BlockList
    0   vmxSpec            0  biosGeo     (12)     0  diskType         0  numBlocks
    8   serverName         12 physGeo     (12)     4  adapterType      8  blocks[]: offset, length
    16  thumbPrint         24 capacity             8  hwVersion
    24  privateUse         32 adapterType          16 capacity
    32  credType           36 numLinks             -- 24 up to 6.7
    40  creds      (24)    40 parentFileNameHint   24 logicalSectorSize
    64  port               48 uuid                 28 physicalSectorSize
    68  nfcHostPort        -- 56 up to 6.7         -- 32 from 7.0
    72  vimApiVer          56 logicalSectorSize
    -- 80 up to 6.5        60 physicalSectorSize
    80  reserved           -- 64 from 7.0
    88  state
    96  spec       (24)
    120 specType
    -- 128 from 6.7

Layouts and values: the independently written declarations of nbdkit's vddk plugin, and the
VDDK 8.0 Programming Guide. Only the standard library is used here, and little of it: the
helper process imports this module.
"""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    c_char,
    c_char_p,
    c_int,
    c_int32,
    c_long,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple

# -- constants ------------------------------------------------------------------------------

MAJORS: Final = (9, 8, 7, 6)
"""Sonames libvixDiskLib.so.N that are looked for, newest first."""

INIT_VERSION: Final = (6, 5)
"""What InitEx is told. nbdkit and Bareos pass this to every library from 6.5 to 9.0; there is
no exported way to ask a library for its own version."""

SECTOR_SIZES_SINCE: Final = 7
"""Info has sector sizes from this major on; earlier libraries leave garbage there."""

OK: Final = 0
ASYNC: Final = 25000
"""ReadAsync and WriteAsync answer this when the request is queued. Not an error."""


class OpenFlag(IntFlag):
    UNBUFFERED = 1
    SINGLE_LINK = 2
    READ_ONLY = 4
    COMPRESSION_ZLIB = 16
    COMPRESSION_FASTLZ = 32
    COMPRESSION_SKIPZ = 64


class DiskType(IntEnum):
    """Layout of a disk in files. Only the native library makes VMFS types locally."""

    MONOLITHIC_SPARSE = 1
    MONOLITHIC_FLAT = 2
    SPLIT_SPARSE = 3
    SPLIT_FLAT = 4
    VMFS_FLAT = 5
    STREAM_OPTIMIZED = 6
    VMFS_THIN = 7
    VMFS_SPARSE = 8
    UNKNOWN = 256


class Adapter(IntEnum):
    IDE = 1
    BUSLOGIC = 2
    LSILOGIC = 3
    UNKNOWN = 256


HW_VERSION: Final = 13
"""ESX65, the newest value that every supported library knows."""

CRED_UID: Final = 1
CRED_SESSION_ID: Final = 2
SPEC_VMX: Final = 0

MIN_CHUNK_SECTORS: Final = 128
MAX_CHUNK_SECTORS: Final = 131072
MAX_CHUNKS_PER_CALL: Final = 524288
"""Limits of QueryAllocatedBlocks."""


def code_of(error: int) -> int:
    """VIX_ERROR_CODE: the upper 48 bits may carry detail of their own."""
    return error & 0xFFFF


# -- structs --------------------------------------------------------------------------------


class Geometry(Structure):
    _fields_ = [("cylinders", c_uint32), ("heads", c_uint32), ("sectors", c_uint32)]


class UidCreds(Structure):
    _fields_ = [("userName", c_char_p), ("password", c_char_p)]


class SessionCreds(Structure):
    _fields_ = [("cookie", c_char_p), ("userName", c_char_p), ("key", c_char_p)]


class Creds(Union):
    _fields_ = [("uid", UidCreds), ("sessionId", SessionCreds), ("ticketId", c_void_p)]


class StorageObjectSpec(Structure):
    _fields_ = [("id", c_char_p), ("datastoreMoRef", c_char_p), ("ssId", c_char_p)]


class Spec(Union):
    _fields_ = [("vStorageObjSpec", StorageObjectSpec)]


class ConnectParams(Structure):
    """Take it from AllocateConnectParams where that exists, since the struct has grown."""

    _fields_ = [
        ("vmxSpec", c_char_p),
        ("serverName", c_char_p),
        ("thumbPrint", c_char_p),
        ("privateUse", c_long),
        ("credType", c_int32),
        ("creds", Creds),
        ("port", c_uint32),
        ("nfcHostPort", c_uint32),
        ("vimApiVer", c_char_p),
        ("reserved", c_char * 8),
        ("state", c_void_p),
        ("spec", Spec),
        ("specType", c_int32),
    ]


class Info(Structure):
    """The last two fields are valid from major SECTOR_SIZES_SINCE on."""

    _fields_ = [
        ("biosGeo", Geometry),
        ("physGeo", Geometry),
        ("capacity", c_uint64),
        ("adapterType", c_int32),
        ("numLinks", c_int32),
        ("parentFileNameHint", c_char_p),
        ("uuid", c_char_p),
        ("logicalSectorSize", c_uint32),
        ("physicalSectorSize", c_uint32),
    ]


class CreateParams(Structure):
    """Always passed whole and zeroed: libraries before 7.0 read only the first 24 bytes."""

    _fields_ = [
        ("diskType", c_int32),
        ("adapterType", c_int32),
        ("hwVersion", c_uint16),
        ("capacity", c_uint64),
        ("logicalSectorSize", c_uint32),
        ("physicalSectorSize", c_uint32),
    ]


class Block(Structure):
    _fields_ = [("offset", c_uint64), ("length", c_uint64)]


class BlockList(Structure):
    """numBlocks entries follow at BLOCKS_OFFSET; C declares one of them."""

    _fields_ = [("numBlocks", c_uint32), ("blocks", Block * 1)]


BLOCKS_OFFSET: Final[int] = BlockList.blocks.offset

# -- callbacks ------------------------------------------------------------------------------

LogFunc = CFUNCTYPE(None, c_void_p, c_void_p)
"""(fmt, va_list). On x86-64 a va_list argument arrives as a pointer: pass it to vsnprintf."""

ProgressFunc = CFUNCTYPE(c_uint8, c_void_p, c_int)
"""(data, percent); the result is ignored."""

CompletionFunc = CFUNCTYPE(None, c_void_p, c_uint64)
"""(data, VixError), on a thread of the library. It may only signal, never call the library."""

# -- functions ------------------------------------------------------------------------------


class Result(IntEnum):
    """Meaning of a function's result, which decides how it is checked."""

    STATUS = 0
    """VixError: 0, or raised as CallFailed."""
    QUEUED = 1
    """VixError: VIX_ASYNC, or raised as CallFailed; the callback then never comes."""
    VOID = 2
    TEXT = 3
    """A static string of the library: decoded, never freed."""
    POINTER = 4
    """An address, to be given back by the matching Free function."""


class Function(NamedTuple):
    """One row of the table. `name`: without the prefix."""

    name: str
    arguments: tuple[Any, ...]
    result: Result = Result.STATUS
    prefix: str = "VixDiskLib_"

    @property
    def restype(self) -> Any:
        return _RESTYPES[self.result]


_RESTYPES: Final[dict[Result, Any]] = {
    Result.STATUS: c_uint64,
    Result.QUEUED: c_uint64,
    Result.VOID: None,
    Result.TEXT: c_char_p,
    Result.POINTER: c_void_p,
}

Handle = c_void_p
Connection = c_void_p
Bool = c_uint8
Sectors = c_uint64
_PARAMS = POINTER(ConnectParams)
_OUT = POINTER(c_void_p)
_PROGRESS = (ProgressFunc, c_void_p)
_IO = (Handle, Sectors, Sectors, c_void_p)
_MANY = (Handle, c_void_p, c_size_t, POINTER(c_size_t))

REQUIRED: Final[tuple[Function, ...]] = (
    Function("InitEx", (c_uint32, c_uint32, LogFunc, LogFunc, LogFunc, c_char_p, c_char_p)),
    Function("Exit", (), Result.VOID),
    Function("GetErrorText", (c_uint64, c_char_p), Result.POINTER),
    Function("FreeErrorText", (c_void_p,), Result.VOID),
    Function("FreeConnectParams", (_PARAMS,), Result.VOID),
    Function("ConnectEx", (_PARAMS, Bool, c_char_p, c_char_p, _OUT)),
    Function("Disconnect", (Connection,)),
    Function("Open", (Connection, c_char_p, c_uint32, _OUT)),
    Function("Close", (Handle,)),
    Function("GetTransportMode", (Handle,), Result.TEXT),
    Function("GetInfo", (Handle, POINTER(POINTER(Info)))),
    Function("FreeInfo", (POINTER(Info),), Result.VOID),
    Function("Create", (Connection, c_char_p, POINTER(CreateParams), *_PROGRESS)),
    Function("Read", _IO),
    Function("Write", _IO),
    Function("ReadAsync", (*_IO, CompletionFunc, c_void_p), Result.QUEUED),
    Function("WriteAsync", (*_IO, CompletionFunc, c_void_p), Result.QUEUED),
    Function("Flush", (Handle,)),
    Function("Wait", (Handle,)),
)
"""Every library from 6.5 on has these; a library without one of them cannot be used."""

OPTIONAL: Final[tuple[Function, ...]] = (
    Function("AllocateConnectParams", (), Result.POINTER),
    Function("QueryAllocatedBlocks", (Handle, Sectors, Sectors, Sectors, _OUT)),
    Function("FreeBlockList", (c_void_p,)),
    Function("ListTransportModes", (), Result.TEXT),
    Function("Cleanup", (_PARAMS, POINTER(c_uint32), POINTER(c_uint32))),
    Function("PrepareForAccess", (_PARAMS, c_char_p)),
    Function("EndAccess", (_PARAMS, c_char_p)),
    Function("CreateChild", (Handle, c_char_p, c_int32, *_PROGRESS)),
    Function("ReadMetadata", (Handle, c_char_p, c_char_p, c_size_t, POINTER(c_size_t))),
    Function("WriteMetadata", (Handle, c_char_p, c_char_p)),
    Function("GetMetadataKeys", (Handle, c_char_p, c_size_t, POINTER(c_size_t))),
    Function("Unlink", (Connection, c_char_p)),
    Function("Grow", (Connection, c_char_p, Sectors, Bool, *_PROGRESS)),
    Function("Shrink", (Handle, *_PROGRESS)),
    Function("Defragment", (Handle, *_PROGRESS)),
    Function("Rename", (c_char_p, c_char_p)),
    Function(
        "Clone",
        (
            Connection,
            c_char_p,
            Connection,
            c_char_p,
            POINTER(CreateParams),
            *_PROGRESS,
            Bool,
        ),
    ),
    Function("IsAttachPossible", (Handle, Handle)),
    Function("Attach", (Handle, Handle)),
    Function("SpaceNeededForClone", (Handle, c_int32, POINTER(c_uint64))),
    Function("CheckRepair", (Connection, c_char_p, Bool)),
    Function("ReadMany", _MANY, prefix="vreplica_"),
    Function("WriteMany", _MANY, prefix="vreplica_"),
)
"""Called where a library has them; elsewhere the call fails as VIX_E_NOT_SUPPORTED. The last two
are the native library's own: Read and Write of several pieces (start sector, number of sectors,
address; 64 bits each) in one call. The third argument is their number, the fourth says how many
were done."""
