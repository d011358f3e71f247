"""The bytes of a session, recorded between client and host, against the published tables.

The offsets and numbers here are written out by hand and not taken from the code under test, so
that a slip in its tables shows. Source: protocol notes of cloudbase/OpenVixDiskLib and
hystax/OpenVixDiskLib (VDDK 8.0.2 against vCenter and ESXi 8.0).
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from vreplica.disk import MemoryDisk
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc import wire
from vreplica.nfc.open import open_nfc_disk
from vreplica.units import KIB, MIB, SECTOR

PATH = "[datastore0] web01/web01.vmdk"
CAPACITY = 10 * MIB


class Tap:
    """A proxy for one connection that keeps what went each way."""

    def __init__(self, port: int) -> None:
        self.sent = bytearray()
        self.received = bytearray()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        with client, server:
            back = threading.Thread(target=self._pump, args=(server, client, self.received))
            back.start()
            self._pump(client, server, self.sent)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, keep: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(MIB):
                keep += data
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()
        self._thread.join()


@dataclass
class Stream:
    """Recorded bytes, taken from the front."""

    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        assert len(piece) == size
        self.at += size
        return piece

    def u32(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self.take(4 * count))


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Stream, Stream, int]:
    """(client's bytes, host's bytes) of a plain session after authd, and the file handle."""
    with StandaloneHost(tmp_path) as host:
        disk = host.store.disks[PATH] = MemoryDisk(CAPACITY)
        disk.write_from(MIB, memoryview(b"A" * SECTOR))
        host.store.ddb[PATH] = {"uuid": "60 00 C2 9d"}
        tap = Tap(host.server.port)
        host.connect_to = ("127.0.0.1", tap.port)
        config = host.config(mode="nbd", buffer_bytes=64 * KIB)
        with closing(open_nfc_disk(host, path=PATH, read_only=False, config=config)) as client:
            handle = client._handle
            assert client.metadata("uuid") == "60 00 C2 9d"
            client.write_from(0, memoryview(b"W" * 129 * SECTOR))
            back = bytearray(129 * SECTOR)
            client.read_into(0, memoryview(back))
            assert back == b"W" * 129 * SECTOR
            client.allocated()
        tap.close()
        sent, received = bytes(tap.sent), bytes(tap.received)
    # The TLS part of authd has ended where the first classic message begins.
    return Stream(sent, sent.index(struct.pack("<I", 43) + b"PlainText")), _host(received), handle


def _host(received: bytes) -> Stream:
    reply = struct.pack("<5I", 36, 0, 0, 0, 1).ljust(264, b"\0")
    return Stream(received, received.index(reply))


def _aio(stream: Stream, kind: int, size: int, op_id: int) -> bytes:
    assert stream.u32(4) == (0xA100DA7A, kind, size, op_id)
    return stream.take(size)


def test_every_field_of_a_session_stands_where_the_tables_say(
    recorded: tuple[Stream, Stream, int],
) -> None:
    client, host, handle = recorded

    # Classic messages: 264 bytes, zero padded.
    assert client.take(264) == (struct.pack("<I", 43) + b"PlainText").ljust(264, b"\0")
    assert client.take(264) == struct.pack("<I", 33).ljust(264, b"\0")
    assert host.take(264) == struct.pack("<IIIII", 36, 0, 0, 0, 1).ljust(264, b"\0")
    assert client.take(264) == struct.pack("<II", 51, 11).ljust(264, b"\0")
    assert host.take(264) == struct.pack("<II", 51, 11).ljust(264, b"\0")
    kind, name, operation = client.u32(3)
    assert (kind, client.take(252)) == (54, bytes(252))
    assert client.take(name) == b"vreplica"
    assert client.take(operation) == b"replication"
    assert client.take(264) == struct.pack("<II", 55, 0).ljust(264, b"\0")
    assert client.take(264) == struct.pack("<I", 52).ljust(264, b"\0")
    assert host.take(264) == struct.pack("<I", 52).ljust(264, b"\0")

    # AIO: session, socket options, resource pool.
    assert _aio(client, 2, 16, 0) == struct.pack("<IIII", 0, 65536, 4, 0)
    assert _aio(host, 2, 16, 0) == bytes(16)
    assert _aio(client, 9, 12, 1) == bytes(12)
    assert len(_aio(host, 9, 12, 1)) == 12
    assert _aio(client, 22, 4, 2) == struct.pack("<I", 1)
    _aio(host, 22, 4, 2)

    # OPEN_FILE for writing; the path is behind the payload and not counted.
    opened = _aio(client, 4, 60, 3)
    assert struct.unpack_from("<I", opened, 0) == (len(PATH),)
    assert struct.unpack_from("<II", opened, 16) == (2, 0x1A)
    assert not any(opened[4:16] + opened[24:])
    assert client.take(len(PATH)) == PATH.encode()
    answer = _aio(host, 4, 60, 3)
    assert struct.unpack_from("<Q", answer, 8) == (handle,)
    assert struct.unpack_from("<II", answer, 16) == (2, 0x1A)
    assert struct.unpack_from("<QIIII", answer, 28) == (CAPACITY, 512, 1, 255, 63)

    # DDB_GET: key without `ddb.`, value unpadded.
    assert _aio(client, 11, 16, 4) == struct.pack("<QII", handle, 4, 0)
    assert client.take(4) == b"uuid"
    assert _aio(host, 11, 16, 4) == struct.pack("<IIII", 0, 0, 0, 11)
    assert host.take(11) == b"60 00 C2 9d"

    # A write of 129 sectors: two fragments under one opId, one reply without data.
    first = struct.pack("<QQQIIIII", handle, 0, 0, 66048, 0, 65536, 65536, 0)
    assert _aio(client, 7, 44, 5) == first
    assert client.take(65536) == b"W" * 65536
    second = struct.pack("<QQQIIIII", handle, 0, 0, 66048, 65536, 512, 512, 0)
    assert _aio(client, 7, 44, 5) == second
    assert client.take(512) == b"W" * 512
    written = struct.unpack("<QQQIIIII", _aio(host, 7, 44, 5))
    assert written == (0, 0, 0, 66048, 0, 66048, 66048, 0)

    # A read of 129 sectors: one request, two fragments with its opId in any order.
    request = struct.pack("<QQQQIII", handle, 1, 0, 66048, 66048, 66048, 0)
    assert _aio(client, 7, 44, 6) == request
    pieces = set()
    for _ in range(2):
        values = struct.unpack("<QQQIIIII", _aio(host, 7, 44, 6))
        at, length = values[4:6]
        assert values == (0, 1, 0, 66048, at, length, length, 0)
        assert host.take(length) == b"W" * length
        pieces.add((at, length))
    assert pieces == {(0, 65536), (65536, 512)}

    # Allocated blocks: 160 chunks of 64 KiB, bitmap LSB first, padded to four bytes.
    query = struct.pack("<QQQQQQ", handle, 0, 65536, 0, 160, 0)
    assert _aio(client, 13, 48, 7) == query
    assert struct.unpack_from("<Q", _aio(host, 13, 48, 7), 32) == (160,)
    assert host.take(20) == bytes([0, 0, 1]).ljust(20, b"\0")  # chunk 16, as of the open

    # Close: file, session, then the last classic message.
    assert _aio(client, 5, 8, 8) == struct.pack("<Q", handle)
    _aio(host, 5, 8, 8)
    assert _aio(client, 3, 4, 9) == bytes(4)
    _aio(host, 3, 4, 9)
    assert client.take(264) == struct.pack("<I", 4).ljust(264, b"\0")
    assert client.at == len(client.data)
    assert host.at == len(host.data)


def test_a_layout_packs_and_unpacks_its_fields() -> None:
    layout = wire.Layout("sample", 20, ("first", 4, "I"), ("second", 8, "Q"))
    data = layout.pack(first=0x01020304, second=0x1112131415161718)
    assert data == bytes(4) + b"\x04\x03\x02\x01" + bytes(range(0x18, 0x10, -1)) + bytes(4)
    assert layout.unpack(data) == {"first": 0x01020304, "second": 0x1112131415161718}
    with pytest.raises(KeyError):
        layout.pack(third=1)
    with pytest.raises(struct.error):
        layout.unpack(data[:-1])


def test_bitmaps_are_padded_to_four_bytes() -> None:
    assert [wire.bitmap_bytes(n) for n in (1, 16, 32, 33, 16384)] == [4, 4, 4, 8, 2048]
