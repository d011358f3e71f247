"""A vSphere disk over NFC, as the Disk protocol that all code above uses.

      read_many / write_many
            |  cut into requests of io_bytes
            v
      admission of the host: how many bytes may be in flight now
            |
            v
      session: up to `depth` requests in flight  --- lost ---> new ticket, new connection,
            |                                                  send what is not done again
            +-- NFC memory short: halve depth and size, send again

Reads and writes of fixed places can be repeated without harm, so a lost connection costs time,
not the run. A write that was answered is on the host's storage: ESXi writes its datastores
through, and the protocol has no flush.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import sleep
from typing import Final

import numpy as np

from vreplica.disk import Arena, Request, check_request
from vreplica.disk_errors import (
    AuthenticationFailed,
    DiskAccessError,
    DiskBusy,
    DiskLocked,
    DiskOutOfRange,
    HostConnection,
    NfcMemory,
)
from vreplica.errors import DiskClosed, ReadOnlyDisk, VReplicaError, VSphereError
from vreplica.extents import Extents
from vreplica.nfc.config import IO_MIN, NfcConfig
from vreplica.nfc.link import HostLink, TicketSource
from vreplica.nfc.requests import (
    AllocatedRequest,
    DdbGetRequest,
    NfcRequest,
    ReadRequest,
    TransferRequest,
    WriteRequest,
)
from vreplica.nfc.wire import CHUNKS_PER_QUERY
from vreplica.units import BLOCK, MIB, SECTOR, TIB

log = logging.getLogger(__name__)

_WAIT_MAX_S: Final = 30.0
_TRANSIENT: Final = (HostConnection, DiskLocked, DiskBusy, AuthenticationFailed)
"""Errors that may pass while connecting again: the host can keep the lock of the lost session."""
_WRITTEN_MAX: Final = 4096
"""Number of extents that are kept one by one before they are united."""


@dataclass(frozen=True, slots=True)
class NfcDiskInfo:
    """Information of the host about a disk. Empty strings where it has no such entry."""

    capacity_bytes: int
    geometry: tuple[int, int, int]
    adapter_type: str
    uuid: str


@dataclass(frozen=True, slots=True)
class NfcStats:
    """Counts since the disk was opened."""

    connections: int
    depth: int
    io_bytes: int


class NfcDisk:
    """A disk at an ESXi host. Implements `vreplica.disk.Disk`; opened with `open_nfc_disk`."""

    def __init__(
        self,
        tickets: TicketSource,
        config: NfcConfig,
        path: str,
        *,
        read_only: bool,
        first_of_two: bool = False,
        on_reopen: Callable[[], object] | None = None,
    ) -> None:
        """Opens the disk. Raises DiskAccessError, TicketRefused, AdmissionTimeout."""
        self._config = config
        self._read_only = read_only
        self._depth = config.depth
        self._io_bytes = config.io_bytes
        self._written: list[tuple[int, int]] = []
        self._closed = False
        self._on_reopen = on_reopen
        self._link = HostLink(tickets, config, path, read_only=read_only, first_of_two=first_of_two)
        self._link.open()
        self._capacity = self._link.file.capacity_bytes

    # -- Disk -------------------------------------------------------------------------------

    round_trips = True
    parallel_reads = 1

    @property
    def name(self) -> str:
        return self._link.path

    @property
    def capacity_bytes(self) -> int:
        return self._capacity

    def read_into(self, offset: int, view: memoryview) -> None:
        self.read_many([(offset, view)])

    def write_from(self, offset: int, view: memoryview) -> None:
        self.write_many([(offset, view)])

    def read_many(self, requests: Sequence[Request]) -> None:
        self._transfer(ReadRequest, self._checked(requests))

    def write_many(self, requests: Sequence[Request]) -> None:
        if self._read_only:
            raise ReadOnlyDisk(name=self.name)
        checked = self._checked(requests)
        # Before the write, since one that fails may have reached the disk.
        self._written += [(offset, offset + view.nbytes) for offset, view in checked]
        if len(self._written) > _WRITTEN_MAX:
            self._written = list(Extents.from_pairs(self._written))
        self._transfer(WriteRequest, checked)

    def allocated(self) -> Extents:
        """Returns the chunks that the host calls allocated, and all that was written here.

        On a handle that has written, the host's answer may be older than the write (as with
        VDDK), hence the second part. Where the host cannot answer, the whole disk is returned.
        """
        self._alive()
        # 64 KiB shows every hole of a VMDK. Beyond 1 TiB larger chunks keep the bitmap small.
        chunk = BLOCK if self._capacity <= TIB else MIB
        whole = self._capacity // chunk
        try:
            found = self._query_allocated(chunk, whole)
        except HostConnection:
            raise
        except DiskAccessError as error:
            log.warning("%s; all of the disk counts as allocated", error)
            return Extents.of(0, self._capacity)
        tail = Extents.of(whole * chunk, self._capacity)
        return found.union(tail, Extents.from_pairs(self._written))

    def register(self, arena: Arena) -> None:
        """Does nothing: bytes come from the socket straight into the caller's buffers."""
        self._alive()

    def flush(self) -> None:
        """Does nothing: the host answers a write when it has stored it."""
        self._alive()

    def close(self) -> None:
        """Closes the disk. Raises DiskAccessError where the host cannot close a written one."""
        if self._closed:
            return
        self._closed = True
        failure = self._link.close()
        if failure and self._written:
            raise failure
        if failure:
            log.info("%s", failure)

    # -- more than a Disk -------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The ESXi host that serves the disk now."""
        return self._link.host

    @property
    def transport_mode(self) -> str:
        """The transport mode as VDDK names it: `nbdssl` or `nbd`."""
        return self._config.mode

    @property
    def stats(self) -> NfcStats:
        return NfcStats(self._link.opens, self._depth, self._io_bytes)

    @property
    def info(self) -> NfcDiskInfo:
        """Reads the entries of the disk's database from the host."""
        return NfcDiskInfo(
            self._capacity,
            self._link.file.geometry,
            self.metadata("adapterType") or "",
            self.metadata("uuid") or "",
        )

    def metadata(self, key: str) -> str | None:
        """Reads one entry of the disk's database; None where it is missing.

        key: without `ddb.` in front.
        """
        self._alive()
        request = self._steady(lambda: DdbGetRequest(self._handle, key, self._config.timeouts))
        return request.extra.decode("utf-8", "replace") or None

    # -- transfers --------------------------------------------------------------------------

    @property
    def _handle(self) -> int:
        return self._link.file.handle

    def _alive(self) -> None:
        if self._closed:
            raise DiskClosed(name=self.name)

    def _checked(self, requests: Sequence[Request]) -> list[Request]:
        self._alive()
        checked = []
        for offset, view in requests:
            flat = view.cast("B")
            check_request(offset, flat.nbytes, self._capacity)
            if flat.nbytes:
                checked.append((offset, flat))
        return checked

    def _transfer(
        self, kind: type[ReadRequest] | type[WriteRequest], requests: Sequence[Request]
    ) -> None:
        """Does all requests; reconnects and asks for less at once within the settings' limits."""
        todo: list[TransferRequest] = self._cut(kind, requests)
        losses = 0
        while todo:
            size = max(request.view.nbytes for request in todo)
            most = min(sum(request.view.nbytes for request in todo), self._depth * size)
            try:
                with self._link.admission.in_flight(size, most) as granted:
                    depth = max(1, min(self._depth, granted // size))
                    self._link.session.run(todo, depth)
            except HostConnection as error:
                done = any(request.done for request in todo)
                losses = self._reconnect(error, 0 if done else losses)
            left = [request for request in todo if not request.done]
            failures = [request.failure for request in left if request.failure]
            if failures and not isinstance(failures[0], NfcMemory):
                raise failures[0].at(offset_bytes=_first_failed(left).offset)
            if failures:
                self._halve(failures[0])
            # Cut again, since buffer, size and handle may be new.
            todo = self._cut(kind, [(request.offset, request.view) for request in left])

    def _cut(
        self, kind: type[ReadRequest] | type[WriteRequest], requests: Sequence[Request]
    ) -> list[TransferRequest]:
        size = self._io_bytes
        buffer = self._link.session.buffer_bytes
        return [
            kind(
                self._handle,
                offset + at,
                view[at : min(at + size, view.nbytes)],
                buffer,
                self._config.timeouts,
            )
            for offset, view in requests
            for at in range(0, view.nbytes, size)
        ]

    def _query_allocated(self, chunk: int, whole: int) -> Extents:
        """Returns the allocated chunks of 0 .. whole - 1 as runs, without a row for each bit."""
        runs = [np.empty((0, 2), np.int64)]
        for first in range(0, whole, CHUNKS_PER_QUERY):
            count = min(CHUNKS_PER_QUERY, whole - first)

            def query(first: int = first, count: int = count) -> AllocatedRequest:
                timeouts = self._config.timeouts
                return AllocatedRequest(self._handle, first * chunk, chunk, count, timeouts)

            answer = np.frombuffer(self._steady(query).extra, np.uint8)
            bits = np.unpackbits(answer, count=count, bitorder="little").astype(np.int8)
            edges = np.flatnonzero(np.diff(bits, prepend=0, append=0))
            runs.append((edges.reshape(-1, 2) + first) * chunk)
        return Extents.from_array(np.concatenate(runs))

    def _steady(self, make: Callable[[], NfcRequest]) -> NfcRequest:
        """Does one request, on a new connection where the first is lost."""
        losses = 0
        while True:
            try:
                return self._link.session.call(make())
            except HostConnection as error:
                losses = self._reconnect(error, losses)

    # -- trouble ----------------------------------------------------------------------------

    def _reconnect(self, cause: VReplicaError, losses: int) -> int:
        """Opens the disk again; returns the number of losses so far. Raises the last failure."""
        while True:
            losses += 1
            self._link.drop()
            if losses > self._config.reconnects:
                self._closed = True
                raise cause
            wait = min(self._config.reconnect_wait_s * 2 ** (losses - 1), _WAIT_MAX_S)
            log.warning("%s; connecting again in %g s (%d)", cause, wait, losses)
            sleep(wait)
            try:
                self._link.open()
            except _TRANSIENT as error:
                cause = error
                continue
            except BaseException as error:
                # vCenter, which gives the ticket, may be away for a while too.
                if isinstance(error, VSphereError) and error.retryable:
                    cause = error
                    continue
                self._closed = True
                raise
            if self._link.file.capacity_bytes != self._capacity:
                self.close()
                raise DiskOutOfRange(
                    host=self.host,
                    path=self.name,
                    doing="opening again",
                    reason=f"it has {self._link.file.capacity_bytes} bytes, not {self._capacity}",
                )
            self._report_reopened()
            return losses

    def _report_reopened(self) -> None:
        """Nothing more is written where the caller may not go on."""
        if self._on_reopen is None:
            return
        try:
            self._on_reopen()
        except BaseException:
            self._closed = True
            self._link.drop()
            raise

    def _halve(self, failure: DiskAccessError) -> None:
        """Asks for less at once from now on. Raises the failure where less is not possible."""
        depth, size = max(1, self._depth // 2), max(IO_MIN, self._io_bytes // 2)
        size -= size % SECTOR
        if (depth, size) == (self._depth, self._io_bytes):
            raise failure
        log.warning("%s; going on with %d requests of %d bytes", failure, depth, size)
        self._depth, self._io_bytes = depth, size
        sleep(self._config.reconnect_wait_s)


def _first_failed(requests: Sequence[TransferRequest]) -> TransferRequest:
    return next(request for request in requests if request.failure)
