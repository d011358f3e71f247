"""Calls the library for one open disk: information, sync and async transfer, allocated blocks.

A transfer is a list of pieces (start sector, sectors, address), each at most MAX_IO long. It runs
in one of three ways:

    sync     Read   Read   Read   ...          one after the other
    many     ReadMany                          the same in one call of the native library
    async    ReadAsync x depth, then one more each time one completes

Async is quicker where there are round trips (NFC). For local files it only adds thread switches,
so the transport mode decides. A batch is over when none of it is in flight; then its first failure
is raised.

Calls on one handle must not overlap (VDDK 8.0 Programming Guide, "Multithreading
considerations"); the owner of a RawDisk makes sure of that.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterator, Sequence
from ctypes import POINTER, byref, c_char_p, c_size_t, c_void_p
from itertools import chain
from queue import SimpleQueue
from typing import Any

from vreplica.units import SECTOR
from vreplica.vddk import abi
from vreplica.vddk.abi import OpenFlag
from vreplica.vddk.binding import CallFailed, encoded
from vreplica.vddk.session import ConnectionHandle, VddkSession

Piece = tuple[int, int, int]
"""(start sector, number of sectors, address of the bytes)"""

MAX_IO = 1024 * 1024
"""Largest request in bytes. VDDK's guide wants at most 1 to 2 MiB with many disks at once. nbdkit's
plugin advises 2 MiB, since under load hostd fails with NFC error 5 on larger ones."""

_MANY = 32
"""Pieces in one call of ReadMany. More pieces would take longer to stop; fewer would wait more
often for the interpreter."""

SYNC_MODES = frozenset({"file"})
"""Transport modes without round trips."""

BUFFER_TOO_SMALL = 24


class Interrupted(Exception):
    """A transfer was stopped between two pieces."""


class RawDisk:
    """An open disk; the constructor opens it. `io_depth`: most async requests in flight."""

    def __init__(self, link: ConnectionHandle, path: str, flags: int, io_depth: int) -> None:
        self.session: VddkSession = link.session
        self._api = link.session.api
        self._depth = io_depth
        self._done: SimpleQueue[tuple[int, int]] = SimpleQueue()
        # One callback for all requests, kept alive with the disk: cbData is the piece's index.
        self._completion = abi.CompletionFunc(self._complete)
        self._sync: dict[bool, Any] = {False: self._api.Read, True: self._api.Write}
        self._many: dict[bool, Any] | None = None
        if self._api.has("ReadMany", "WriteMany"):
            self._many = {False: self._api.ReadMany, True: self._api.WriteMany}
        self._async: dict[bool, Any] = {False: self._api.ReadAsync, True: self._api.WriteAsync}
        self.stop: Callable[[], bool] = bool
        out = c_void_p()
        with self.session.adding_log(link.warnings):
            self._api.Open(link.handle, encoded(path), flags, byref(out))
        self.handle: int | None = out.value
        try:
            self.transport_mode: str = self._api.GetTransportMode(self.handle)
            self.info = self._read_info()
        except BaseException:
            self._api.Close(self.handle)
            raise
        self.use_async = io_depth > 1 and self.transport_mode not in SYNC_MODES

    # -- transfer ---------------------------------------------------------------------------

    def transfer(self, write: bool, pieces: Sequence[Piece]) -> None:
        """Does all pieces. The memory must stay where it is until this returns."""
        self.session.tap.forget()
        try:
            if self.use_async and len(pieces) > 1:
                self._transfer_async(self._async[write], pieces)
            elif self._many is not None and len(pieces) > 1:
                self._transfer_many(self._many[write], pieces)
            else:
                self._transfer_sync(self._sync[write], pieces)
        except CallFailed as failed:
            failed.detail = failed.detail or self.session.tap.detail()
            raise

    def _transfer_sync(self, call: Callable[..., None], pieces: Sequence[Piece]) -> None:
        handle, stop = self.handle, self.stop
        for start, count, address in pieces:
            if stop():
                raise Interrupted
            try:
                call(handle, start, count, address)
            except CallFailed as failed:
                failed.sector = start
                raise

    def _transfer_many(self, call: Callable[..., None], pieces: Sequence[Piece]) -> None:
        for at in range(0, len(pieces), _MANY):
            if self.stop():
                raise Interrupted
            group = pieces[at : at + _MANY]
            rows = array("Q", chain.from_iterable(group))
            done = c_size_t()
            try:
                call(self.handle, rows.buffer_info()[0], len(group), byref(done))
            except CallFailed as failed:
                failed.call = failed.call.removesuffix("Many")
                failed.sector = group[done.value][0]
                raise

    def _transfer_async(self, call: Callable[..., None], pieces: Sequence[Piece]) -> None:
        try:
            failure = self._keep_flying(call, pieces)
        except BaseException:
            # Ctrl-C in this process: the caller's memory may go away, so nothing may be in flight.
            self._api.Wait(self.handle)
            self._done = SimpleQueue()
            raise
        if failure is not None:
            raise failure

    def _keep_flying(
        self, call: Callable[..., None], pieces: Sequence[Piece]
    ) -> CallFailed | Interrupted | None:
        """Keeps `depth` requests in flight until all are done; ends early at the first failure."""
        failure: CallFailed | Interrupted | None = None
        in_flight = 0
        for index, (start, count, address) in enumerate(pieces):
            if in_flight >= self._depth:
                in_flight -= 1
                failure = self._collect(call, pieces)
            if failure is None and self.stop():
                failure = Interrupted()
            if failure is not None:
                break
            try:
                call(self.handle, start, count, address, self._completion, index)
            except CallFailed as refused:  # not queued: its callback will never come
                refused.sector = start
                failure = refused
                break
            in_flight += 1
        for _ in range(in_flight):
            late = self._collect(call, pieces)
            failure = failure or late
        return failure

    def _complete(self, index: int | None, result: int) -> None:
        # This runs on a thread of the library, so it only signals.
        self._done.put((index or 0, result))

    def _collect(self, call: Callable[..., None], pieces: Sequence[Piece]) -> CallFailed | None:
        """Waits for one completion, and returns its failure; None where it succeeded."""
        index, result = self._done.get()
        if result == abi.OK:
            return None
        name = str(call.__name__).removeprefix("VixDiskLib_")
        failed = CallFailed(name, abi.code_of(result), self._api.error_text(result))
        failed.sector = pieces[index][0]
        return failed

    def flush(self) -> None:
        """Calls Wait, then Flush: everything written is on stable storage."""
        with self.session.adding_log():
            self._api.Wait(self.handle)
            self._api.Flush(self.handle)

    # -- allocated blocks -------------------------------------------------------------------

    def query_blocks(self, start: int, count: int, chunk: int) -> bytes:
        """Calls QueryAllocatedBlocks; returns pairs (offset, length) of uint64. All in sectors."""
        out = c_void_p()
        with self.session.adding_log():
            self._api.QueryAllocatedBlocks(self.handle, start, count, chunk, byref(out))
        if not out.value:
            return b""
        try:
            number = abi.BlockList.from_address(out.value).numBlocks
            size = number * ctypes.sizeof(abi.Block)
            return ctypes.string_at(out.value + abi.BLOCKS_OFFSET, size)
        finally:
            self._api.FreeBlockList(out)

    # -- information ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads the information again."""
        self.info = self._read_info()

    def _read_info(self) -> dict[str, Any]:
        """Returns GetInfo's result as plain values, copied before FreeInfo."""
        pointer = POINTER(abi.Info)()
        with self.session.adding_log():
            self._api.GetInfo(self.handle, byref(pointer))
        info = pointer.contents
        sized = self.session.major >= abi.SECTOR_SIZES_SINCE
        try:
            return {
                "capacity_sectors": info.capacity,
                "adapter": info.adapterType,
                "links": info.numLinks,
                "parent_hint": _decoded(info.parentFileNameHint),
                "uuid": _decoded(info.uuid),
                "bios_geometry": _geometry(info.biosGeo),
                "physical_geometry": _geometry(info.physGeo),
                "logical_sector_size": info.logicalSectorSize if sized else None,
                "physical_sector_size": info.physicalSectorSize if sized else None,
            }
        finally:
            self._api.FreeInfo(pointer)

    def metadata_keys(self) -> list[str]:
        def ask(buffer: Any, size: int, needed: Any) -> None:
            self._api.GetMetadataKeys(self.handle, buffer, size, needed)

        return [k.decode("utf-8", "replace") for k in self._sized(ask).split(b"\0") if k]

    def read_metadata(self, key: str) -> str:
        def ask(buffer: Any, size: int, needed: Any) -> None:
            self._api.ReadMetadata(self.handle, encoded(key), buffer, size, needed)

        return self._sized(ask).split(b"\0")[0].decode("utf-8", "replace")

    def write_metadata(self, key: str, value: str) -> None:
        with self.session.adding_log():
            self._api.WriteMetadata(self.handle, encoded(key), encoded(value))

    def _sized(self, ask: Callable[[Any, int, Any], None]) -> bytes:
        """Asks for the size without a buffer, then for the value."""
        needed = c_size_t()
        with self.session.adding_log():
            try:
                ask(None, 0, byref(needed))
            except CallFailed as failed:
                if failed.code != BUFFER_TOO_SMALL:
                    raise
            buffer = ctypes.create_string_buffer(max(needed.value, 1))
            ask(ctypes.cast(buffer, c_char_p), len(buffer), byref(needed))
        return buffer.raw

    def close(self) -> None:
        """Calls Wait and Close. May be called again."""
        handle, self.handle = self.handle, None
        if handle is None:
            return
        with self.session.adding_log():
            try:
                self._api.Wait(handle)
            finally:
                self._api.Close(handle)


def _decoded(text: bytes | None) -> str | None:
    return None if text is None else text.decode("utf-8", "replace")


def _geometry(value: abi.Geometry) -> list[int]:
    return [value.cylinders, value.heads, value.sectors]


def cut(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Yields pieces of at most MAX_IO: (start sector, sectors, bytes after `offset`)."""
    for delta in range(0, length, MAX_IO):
        yield (offset + delta) // SECTOR, min(MAX_IO, length - delta) // SECTOR, delta


def open_flags(*, read_only: bool, single_link: bool) -> int:
    flags = OpenFlag(0)
    if read_only:
        flags |= OpenFlag.READ_ONLY
    if single_link:
        flags |= OpenFlag.SINGLE_LINK
    return int(flags)


def modes_for(configured: str | None, *, read_only: bool) -> str | None:
    """Returns the transport modes for ConnectEx: see VddkConfig.transport_modes."""
    return configured or (None if read_only else "nbdssl")
