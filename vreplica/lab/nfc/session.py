"""One NFC session of a client: the classic handshake, then AIO requests side by side.

The thread of the connection answers all requests but IO, in their order. IO is done by
`transfers`.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Final

import numpy as np

from vreplica.lab.nfc import store
from vreplica.lab.nfc.connection import ClientConnection, ReplySuppressed
from vreplica.lab.nfc.host import NfcHost
from vreplica.lab.nfc.profile import Announced
from vreplica.lab.nfc.store import Refused
from vreplica.lab.nfc.tickets import Grant
from vreplica.lab.nfc.transfers import OpenFile, ProtocolViolation, Transfers
from vreplica.nfc import wire
from vreplica.nfc.wire import Aio, Classic
from vreplica.units import KIB, SECTOR

PATH_MAX: Final = 4 * KIB
SOCKET_BYTES: Final = 256 * KIB


class AioSession:
    """The session of one client, from the handshake to its end."""

    def __init__(
        self,
        client: ClientConnection,
        grant: Grant,
        host: NfcHost,
    ) -> None:
        self._client = client
        self._grant = grant
        self._store = host.store
        self._faults = host.faults
        self._profile = host.profile
        self._announced = host.announced
        self._files: dict[int, OpenFile] = {}
        self._transfers = Transfers(client, host.faults, host.memory, host.profile.compressions)

    def serve(self) -> None:
        """Serves until the client ends the session. Raises where the connection ends before."""
        try:
            self._handshake()
            while self._step():
                pass
        finally:
            self._transfers.stop()
            for file in self._files.values():
                with suppress(Refused):
                    file.stored.close()

    # -- classic ----------------------------------------------------------------------------

    def _receive_message(self, kind: Classic, layout: wire.Layout = wire.CLASSIC) -> dict[str, int]:
        values = layout.unpack(self._client.receive(layout.size))
        if values["type"] != kind:
            raise ProtocolViolation(f"message {values['type']} instead of {kind}")
        return values

    def _handshake(self) -> None:
        hello = self._client.receive(wire.CLASSIC_SIZE)
        start = wire.HANDSHAKE_TEXT_OFFSET
        encoding = hello[start:].rstrip(b"\0")
        if wire.CLASSIC.unpack(hello)["type"] != Classic.HANDSHAKE or encoding != wire.PLAIN_TEXT:
            raise ProtocolViolation("no handshake")
        self._receive_message(Classic.SESSION_PARAMS)
        late = self._profile.late_acknowledgement
        if not late:
            self._acknowledge()
        theirs = self._receive_message(Classic.VERSION, wire.VERSION)["version"]
        if late:
            self._acknowledge()
        version = self._profile.nfc_version
        self._client.send(wire.VERSION.pack(type=Classic.VERSION, version=version))
        lengths = self._receive_message(Classic.CONNECTION_DATA, wire.CONNECTION_DATA)
        names = []
        for name in ("name_length", "operation_length"):
            if lengths[name] > PATH_MAX:
                raise ProtocolViolation(f"{name} {lengths[name]}")
            names.append(self._client.receive(lengths[name]).decode("utf-8", "replace"))
        features = self._receive_message(Classic.FEATURES, wire.FEATURES)["features"]
        self._announced.append(Announced(names[0], names[1], theirs, features))
        self._receive_message(Classic.AIO_SESSION)
        self._client.send(wire.CLASSIC.pack(type=Classic.AIO_SESSION))

    def _acknowledge(self) -> None:
        reply = wire.SESSION_PARAMS_REPLY.pack(type=Classic.SESSION_PARAMS_REPLY, accepted=1)
        self._client.send(reply)

    # -- frames -----------------------------------------------------------------------------

    def _step(self) -> bool:
        """Handles one frame. Returns False when the session has ended."""
        values = wire.AIO_HEADER.unpack(self._client.receive(wire.AIO_HEADER.size))
        if values["magic"] != wire.AIO_MAGIC or values["size"] > wire.REPLY_PAYLOAD_MAX:
            raise ProtocolViolation(f"frame {values}")
        kind, op_id = values["type"], values["op_id"]
        payload = self._client.receive(values["size"])
        try:
            match kind:
                case Aio.OPEN_SESSION:
                    self._open_session(op_id, payload)
                case Aio.SET_SOCKET_OPTIONS:
                    sizes = {"send_bytes": SOCKET_BYTES, "receive_bytes": SOCKET_BYTES}
                    self._client.reply(kind, op_id, wire.SOCKET_OPTIONS_REPLY.pack(**sizes, flag=1))
                case Aio.SET_RESOURCE_POOL:
                    self._client.reply(kind, op_id, payload)
                case Aio.OPEN_FILE:
                    self._open_file(op_id, payload)
                case Aio.DDB_GET:
                    self._ddb_get(op_id, payload)
                case Aio.ALLOCATED:
                    self._query(op_id, payload)
                case Aio.IO:
                    self._transfers.start(op_id, payload, self._files)
                case Aio.CLOSE_FILE:
                    self._close_file(op_id, payload)
                case Aio.CLOSE_SESSION:
                    self._client.reply(kind, op_id, payload)
                    self._receive_message(Classic.SESSION_COMPLETE)
                    return False
                case _:
                    raise Refused(store.INVALID_ARGUMENT, f"message type {kind}")
        except struct.error as error:
            raise ProtocolViolation(f"payload of type {kind}: {error}") from error
        except Refused as refused:
            self._client.send_error(kind, op_id, refused)
        except ReplySuppressed:
            pass
        return True

    # -- requests ---------------------------------------------------------------------------

    def _open_session(self, op_id: int, payload: bytes) -> None:
        values = wire.OPEN_SESSION.unpack(payload)
        # Zeros, which one public client sends, mean the default of VDDK.
        size, count = values["buffer_bytes"] or 64 * KIB, values["buffer_count"] or 4
        if (
            size > self._profile.buffer_max
            or size * count > wire.SESSION_BUFFERS_MAX
            or size % SECTOR
        ):
            raise Refused(store.OUT_OF_MEMORY, f"Failed to allocate the requested {size} bytes")
        self._transfers.buffer_bytes = size
        self._client.reply(Aio.OPEN_SESSION, op_id, wire.OPEN_SESSION_REPLY.pack())

    def _open_file(self, op_id: int, payload: bytes) -> None:
        values = wire.OPEN_FILE.unpack(payload)
        if values["path_length"] > PATH_MAX:
            raise ProtocolViolation(f"a path of {values['path_length']} bytes")
        path = self._client.receive(values["path_length"]).decode("utf-8", "replace")
        flags = values["flags"]
        if not self._transfers.buffer_bytes or values["file_type"] != wire.FILE_TYPE_DISK:
            raise Refused(store.INVALID_ARGUMENT, "no session or not a disk")
        if flags not in (wire.OPEN_READ_ONLY, wire.OPEN_READ_WRITE):
            raise Refused(store.INVALID_ARGUMENT, f"flags {flags:#x}")
        fault = self._client.apply_fault(self._faults, "open")
        writable = flags == wire.OPEN_READ_WRITE
        if not self._grant.allows(path):
            raise Refused(store.FILE_ACCESS, "NfcFssrvrOpen: the ticket does not cover this file")
        if writable and not self._grant.writable:
            raise Refused(store.FILE_READ_ONLY, "the ticket does not allow writing")
        stored = self._store.open(path, read_only=not writable)
        handle = 0x5000 + op_id
        self._files[handle] = OpenFile(stored, writable, stored.disk.allocated())
        capacity = stored.disk.capacity_bytes
        heads, sectors = 255, 63
        reply = wire.OPEN_FILE_REPLY.pack(
            handle=handle,
            file_type=wire.FILE_TYPE_DISK,
            flags=flags,
            capacity_bytes=capacity if self._profile.tells_capacity else 0,
            sector_bytes=SECTOR,
            cylinders=min(capacity // (heads * sectors * SECTOR), 0xFFFFFFFF),
            heads=heads,
            sectors=sectors,
        )
        self._client.reply(Aio.OPEN_FILE, op_id, reply, fault=fault)

    def _file(self, handle: int) -> OpenFile:
        file = self._files.get(handle)
        if file is None:
            raise Refused(store.INVALID_ARGUMENT, f"handle {handle:#x}")
        return file

    def _ddb_get(self, op_id: int, payload: bytes) -> None:
        values = wire.DDB_GET.unpack(payload)
        if values["key_length"] > PATH_MAX:
            raise ProtocolViolation(f"a key of {values['key_length']} bytes")
        key = self._client.receive(values["key_length"]).decode("ascii", "replace")
        file = self._file(values["handle"])
        fault = self._client.apply_fault(self._faults, "ddb")
        with file.lock:
            value = (file.stored.metadata(key) or "").encode()
        reply = wire.DDB_GET_REPLY.pack(value_length=len(value))
        self._client.reply(Aio.DDB_GET, op_id, reply, value, fault)

    def _query(self, op_id: int, payload: bytes) -> None:
        values = wire.ALLOCATED.unpack(payload)
        file = self._file(values["handle"])
        chunk, start, count = values["chunk_bytes"], values["start"], values["chunk_count"]
        capacity = file.stored.disk.capacity_bytes
        if (
            not wire.CHUNK_MIN <= chunk <= wire.CHUNK_MAX
            or start % chunk
            or not 0 < count <= wire.CHUNKS_PER_QUERY
            or start + count * chunk > capacity
        ):
            raise Refused(store.INVALID_ARGUMENT, "start and count are not whole chunks")
        fault = self._client.apply_fault(self._faults, "allocated")
        # As of the open: the answer of a host, too, may lack what this handle has written.
        rows = file.allocated.clip(start, start + count * chunk).align(chunk).array
        edges = np.zeros(count + 1, np.int8)
        edges[(rows[:, 0] - start) // chunk] += 1
        edges[(rows[:, 1] - start) // chunk] -= 1
        bits = np.cumsum(edges[:-1], dtype=np.int8)
        bitmap = np.packbits(bits.astype(bool), bitorder="little").tobytes()
        bitmap = bitmap.ljust(wire.bitmap_bytes(count), b"\0")
        self._client.reply(
            Aio.ALLOCATED, op_id, wire.ALLOCATED_REPLY.pack(chunk_count=count), bitmap, fault
        )

    def _close_file(self, op_id: int, payload: bytes) -> None:
        # One public client sends 8 bytes and another one 16.
        (handle,) = struct.unpack_from("<Q", payload)
        file = self._file(handle)
        self._transfers.wait_idle(file)
        del self._files[handle]
        fault = self._client.apply_fault(self._faults, "close")
        file.stored.close()
        self._client.reply(Aio.CLOSE_FILE, op_id, payload, fault=fault)
