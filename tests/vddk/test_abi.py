"""The layouts of VixDiskLib's structs on Linux x86-64, byte by byte.

The numbers were computed with gcc from nbdkit's independently written declarations; a second
test here lets gcc compute them again from a header of its own.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from ctypes import c_char_p, c_int32, c_uint8, c_uint32, c_uint64, c_void_p, sizeof
from pathlib import Path

import pytest

from vreplica.vddk import abi
from vreplica.vddk.abi import Result

Tool = Callable[[str, str], str]

LAYOUTS = {
    abi.Geometry: (12, {"cylinders": 0, "heads": 4, "sectors": 8}),
    abi.UidCreds: (16, {"userName": 0, "password": 8}),
    abi.SessionCreds: (24, {"cookie": 0, "userName": 8, "key": 16}),
    abi.Creds: (24, {"uid": 0, "sessionId": 0, "ticketId": 0}),
    abi.StorageObjectSpec: (24, {"id": 0, "datastoreMoRef": 8, "ssId": 16}),
    abi.Spec: (24, {"vStorageObjSpec": 0}),
    abi.ConnectParams: (
        128,
        {
            "vmxSpec": 0,
            "serverName": 8,
            "thumbPrint": 16,
            "privateUse": 24,
            "credType": 32,
            "creds": 40,
            "port": 64,
            "nfcHostPort": 68,
            "vimApiVer": 72,
            "reserved": 80,
            "state": 88,
            "spec": 96,
            "specType": 120,
        },
    ),
    abi.Info: (
        64,
        {
            "biosGeo": 0,
            "physGeo": 12,
            "capacity": 24,
            "adapterType": 32,
            "numLinks": 36,
            "parentFileNameHint": 40,
            "uuid": 48,
            "logicalSectorSize": 56,
            "physicalSectorSize": 60,
        },
    ),
    abi.CreateParams: (
        32,
        {
            "diskType": 0,
            "adapterType": 4,
            "hwVersion": 8,
            "capacity": 16,
            "logicalSectorSize": 24,
            "physicalSectorSize": 28,
        },
    ),
    abi.Block: (16, {"offset": 0, "length": 8}),
    abi.BlockList: (24, {"numBlocks": 0, "blocks": 8}),
}

# What nbdkit's plugin cannot do without, in any library since 6.5.
NBDKIT_REQUIRES = {
    *("InitEx", "Exit", "GetErrorText", "FreeErrorText", "FreeConnectParams", "ConnectEx"),
    *("Open", "GetTransportMode", "Close", "Disconnect", "GetInfo", "FreeInfo", "Read", "Write"),
    *("Create", "Flush", "ReadAsync", "WriteAsync", "Wait"),
}


@pytest.mark.parametrize("struct", LAYOUTS, ids=lambda s: s.__name__)
def test_struct_has_the_size_and_offsets_of_the_abi(struct: type[ctypes.Structure]) -> None:
    size, offsets = LAYOUTS[struct]
    assert sizeof(struct) == size
    assert {name: getattr(struct, name).offset for name, *_ in struct._fields_} == offsets


DECLARATIONS = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef struct { uint32_t cylinders, heads, sectors; } Geometry;
typedef struct { char *userName, *password; } UidCreds;
typedef struct { char *cookie, *userName, *key; } SessionCreds;
typedef union { UidCreds uid; SessionCreds sessionId; void *ticketId; } Creds;
typedef struct { char *id, *datastoreMoRef, *ssId; } StorageObjectSpec;
typedef union { StorageObjectSpec vStorageObjSpec; } Spec;
typedef struct {
   char *vmxSpec, *serverName, *thumbPrint; long privateUse; int32_t credType; Creds creds;
   uint32_t port, nfcHostPort; char *vimApiVer; char reserved[8]; void *state; Spec spec;
   int32_t specType;
} ConnectParams;
typedef struct {
   Geometry biosGeo, physGeo; uint64_t capacity; int32_t adapterType, numLinks;
   char *parentFileNameHint, *uuid; uint32_t logicalSectorSize, physicalSectorSize;
} Info;
typedef struct {
   int32_t diskType, adapterType; uint16_t hwVersion; uint64_t capacity;
   uint32_t logicalSectorSize, physicalSectorSize;
} CreateParams;
typedef struct { uint64_t offset, length; } Block;
typedef struct { uint32_t numBlocks; Block blocks[1]; } BlockList;
"""


def test_a_c_compiler_lays_the_structs_out_in_the_same_way(tool: Tool, tmp_path: Path) -> None:
    gcc = tool("gcc", "gcc")
    body = ""
    for struct, (_, offsets) in LAYOUTS.items():
        c = struct.__name__
        body += f'printf("{c} %zu", sizeof({c}));'
        body += "".join(f'printf(" %zu", offsetof({c}, {name}));' for name in offsets)
        body += 'printf("\\n");'
    (tmp_path / "layout.c").write_text(f"{DECLARATIONS}\nint main(void) {{ {body} }}")
    program = tmp_path / "layout"
    subprocess.run([gcc, "-o", program, tmp_path / "layout.c"], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    expected = [
        " ".join([struct.__name__, str(size), *map(str, offsets.values())])
        for struct, (size, offsets) in LAYOUTS.items()
    ]
    assert printed.splitlines() == expected


def test_what_older_libraries_know_is_a_prefix_of_the_structs() -> None:
    # ConnectParams was 80 bytes up to 6.5, Info 56 and CreateParams 24 up to 6.7.
    assert abi.ConnectParams.reserved.offset == 80
    assert abi.Info.logicalSectorSize.offset == 56
    assert abi.CreateParams.logicalSectorSize.offset == 24
    assert abi.BLOCKS_OFFSET == 8


def test_constants_of_the_abi() -> None:
    assert {f.name: int(f) for f in abi.OpenFlag} == {
        "UNBUFFERED": 1,
        "SINGLE_LINK": 2,
        "READ_ONLY": 4,
        "COMPRESSION_ZLIB": 16,
        "COMPRESSION_FASTLZ": 32,
        "COMPRESSION_SKIPZ": 64,
    }
    assert [int(t) for t in abi.DiskType] == [1, 2, 3, 4, 5, 6, 7, 8, 256]
    assert [int(a) for a in abi.Adapter] == [1, 2, 3, 256]
    assert (abi.CRED_UID, abi.CRED_SESSION_ID, abi.SPEC_VMX, abi.ASYNC) == (1, 2, 0, 25000)
    assert (abi.MIN_CHUNK_SECTORS, abi.MAX_CHUNK_SECTORS) == (128, 131072)
    assert abi.MAX_CHUNKS_PER_CALL == 524288
    assert abi.MAJORS == (9, 8, 7, 6)


def test_error_codes_are_the_low_16_bits() -> None:
    assert abi.code_of(0x0007_0000_0000_0023) == 35
    assert abi.code_of(16007) == 16007


def test_table_names_every_function_once_and_keeps_required_and_optional_apart() -> None:
    required = {f.name for f in abi.REQUIRED}
    optional = {f.name for f in abi.OPTIONAL}
    assert len(required) == len(abi.REQUIRED)
    assert len(optional) == len(abi.OPTIONAL)
    assert not required & optional
    assert required == NBDKIT_REQUIRES
    assert {"AllocateConnectParams", "QueryAllocatedBlocks", "FreeBlockList"} <= optional


def test_results_are_64_bit_errors_void_text_or_pointers() -> None:
    by_name = {f.name: f for f in (*abi.REQUIRED, *abi.OPTIONAL)}
    assert {n for n, f in by_name.items() if f.result is Result.VOID} == {
        "Exit",
        "FreeErrorText",
        "FreeConnectParams",
        "FreeInfo",
    }
    assert {n for n, f in by_name.items() if f.result is Result.QUEUED} == {
        "ReadAsync",
        "WriteAsync",
    }
    assert {n: f.restype for n, f in by_name.items() if f.result is Result.TEXT} == {
        "GetTransportMode": c_char_p,
        "ListTransportModes": c_char_p,
    }
    assert {n: f.restype for n, f in by_name.items() if f.result is Result.POINTER} == {
        "AllocateConnectParams": c_void_p,
        "GetErrorText": c_void_p,
    }
    assert all(f.restype is c_uint64 for f in by_name.values() if f.result is Result.STATUS)


def test_arguments_of_the_calls_that_move_data() -> None:
    by_name = {f.name: f for f in (*abi.REQUIRED, *abi.OPTIONAL)}
    assert by_name["Read"].arguments == (c_void_p, c_uint64, c_uint64, c_void_p)
    assert by_name["Write"].arguments == by_name["Read"].arguments
    asynchronous = (*by_name["Read"].arguments, abi.CompletionFunc, c_void_p)
    assert by_name["ReadAsync"].arguments == asynchronous
    assert by_name["WriteAsync"].arguments == asynchronous
    assert by_name["ConnectEx"].arguments[1] is c_uint8, "Bool is one byte"
    assert by_name["Open"].arguments[2] is c_uint32
    assert by_name["CreateChild"].arguments[2] is c_int32
    assert by_name["Attach"].arguments == (c_void_p, c_void_p), "parent, child"
