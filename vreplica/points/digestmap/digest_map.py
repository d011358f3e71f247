"""Keeps one digest for each block of a replica's disk: 16 bytes for 64 KiB.

    records     | d0 | 00 | d2 | d3 | 00 | ...        of the replica's latest recovery point
    pending     |    |    | e2 |    | e4 |            of the point that is being made

A map belongs to exactly one recovery point. The digests of a run go to a sidecar
(`PendingDigests`), which is folded in only after the point was committed on the replica:

    pending = map.begin_run(point_id)    a run starts
    copy(..., known=map, sink=pending)
    root = map.seal(pending)             durable; goes into the point's description
    <the replica's snapshot is taken>    the commit
    map.apply(point_id)                  folds the sidecar in; may be repeated

Whatever breaks, `open` decides by the replica's latest point:

    map's point   sidecar                        latest point     the map is
    P             none, or of a run after P      P                good (run not committed)
    P             sealed, P -> Q                 Q                folded now, then good
    folding P->Q  sealed, P -> Q                 Q                folded again, then good
    anything else                                                 unusable: rebuild it

A page of records is compared with its page digest when it is first used, and the page digests with
the root when the map is opened. A record that went bad would else let a block be dropped that the
replica does not have. Records of a damaged page are UNKNOWN, so their blocks are written; the map
says so (`has_damage`), and is not sealed any more.

The map is read through mmap and written through pwrite, so that a full disk is an error and
not a SIGBUS. Pages are given back as they are used, so memory does not grow with the capacity.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vreplica.extents import Extents
from vreplica.files import fsync
from vreplica.formats import written_by_newer
from vreplica.points.digestmap.errors import DigestMapUnusable, writing
from vreplica.points.digestmap.file import (
    CLEAN,
    FOLDING,
    MAX_PAGES,
    PAGE,
    PAGE_DIGEST,
    PAGE_RECORDS,
    RECORD,
    RECORDS_AT,
    TABLE_AT,
    VERSION,
    Header,
    merge_table,
    newer_version,
    open_locked,
    page_digest,
    read_header,
    read_table,
    root_digest,
    write_all,
    write_header,
)
from vreplica.points.digestmap.pending import (
    FoundPending,
    PendingDigests,
    PendingHead,
    pending_path,
    read_pending,
    read_records,
)
from vreplica.units import BLOCK, MIB

Digests = NDArray[np.uint8]

_KEEP_MAPPED: Final = 32 * MIB
"""Mapped pages are given back to the page cache after about so much was touched."""

_FAULT_AROUND: Final = 2 * MIB
"""What Linux maps around one page fault of a file at most: 64 KiB (fault_around_bytes), or a large
folio of the page cache; 2 MiB were seen with Linux 6.18."""

UNKNOWN: Final = 0xFF
"""Every byte of a digest that no block has: the next copy writes that block."""

_ALL_UNKNOWN: Final = np.full((PAGE_RECORDS, RECORD), UNKNOWN, np.uint8)

_RUNS: Final = _KEEP_MAPPED // _FAULT_AROUND
"""Places that are looked up before pages are given back."""


class DigestMap:
    """An open digest map. It locks its file; one thread at a time; `close` it at the end."""

    has_damage = False
    """A page was read that does not have its digest: the map is good for this run only."""
    _touched: int
    _pending: PendingDigests | None = None

    def __init__(self, path: Path, fd: int, header: Header) -> None:
        self.path = path
        self._fd = fd
        self._header = header
        self._map_file()

    # -- opening ----------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        capacity_bytes: int,
        algorithm: str,
        seed: int | None = None,
        block: int = BLOCK,
    ) -> Self:
        """Creates the map of a disk of zeros, of no recovery point (""). Replaces an old file.

        `seed` None: a random one. Raises DigestMapBusy, DigestMapWriteFailed.
        """
        if -(-capacity_bytes // block) > MAX_PAGES * PAGE_RECORDS:
            raise ValueError(f"{capacity_bytes} bytes in blocks of {block}: too many for a map")
        if seed is None:
            seed = int.from_bytes(os.urandom(8))
        header = Header(block, algorithm, seed, capacity_bytes, 0, "", bytes(32))
        none = np.empty(0, np.int64), np.empty((0, PAGE_DIGEST), np.uint8)
        header = replace(header, root=root_digest(header, *none))
        with writing(path):
            fd = open_locked(path, os.O_RDWR | os.O_CREAT)
            try:
                pending_path(path).unlink(missing_ok=True)
                os.ftruncate(fd, 0)
                os.ftruncate(fd, header.size)
                header = write_header(fd, header)
                fsync(path.parent)
            except BaseException:
                os.close(fd)
                raise
        return cls(path, fd, header)

    @classmethod
    def open(cls, path: Path, *, latest_point: str) -> Self:
        """Opens the map of the replica's latest recovery point. Folds in a committed sidecar.

        Raises DigestMapUnusable where the map is missing, damaged or of another point.
        """
        fd = _open_file(path, lambda: open_locked(path, os.O_RDWR))
        try:
            found = cls(path, fd, _read_usable_header(path, fd))
        except BaseException:
            os.close(fd)
            raise
        try:
            found._match_point(latest_point)
        except BaseException:
            found.close()
            raise
        return found

    @classmethod
    def check(cls, path: Path, *, latest_point: str) -> Header:
        """Returns the header of the map that `open` would open. Changes nothing, takes no lock.

        Raises DigestMapUnusable as `open` does.
        """
        fd = _open_file(path, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            header = _read_usable_header(path, fd)
        finally:
            os.close(fd)
        if header.state != CLEAN or header.point != latest_point:
            _pending_of(path, header, latest_point)
        return header

    # -- looking ----------------------------------------------------------------------------

    @property
    def point(self) -> str:
        """The recovery point whose content the map describes; "" for a disk of zeros."""
        return self._header.point

    @property
    def seed(self) -> int:
        return self._header.seed

    @property
    def block(self) -> int:
        return self._header.block

    @property
    def capacity_bytes(self) -> int:
        return self._header.capacity

    @property
    def algorithm(self) -> str:
        return self._header.algorithm

    @property
    def root(self) -> str:
        """Root digest, hex: two maps of equal content, seed and capacity have the same."""
        return self._header.root.hex()

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        """Digests of these blocks, ascending; shape (n, 16). UNKNOWN where they are damaged."""
        bad = self._damaged_pages(blocks)
        digests: Digests = np.empty((len(blocks), RECORD), np.uint8)
        runs = [0, *(np.flatnonzero(np.diff(blocks) != 1) + 1).tolist(), len(blocks)]
        for at in range(0, len(runs) - 1, _RUNS):
            group = runs[at : at + _RUNS + 1]
            digests[group[0] : group[-1]] = self._records[blocks[group[0] : group[-1]]]
            self._touched += (len(group) - 1) * _FAULT_AROUND
            if self._touched >= _KEEP_MAPPED:
                self._map.madvise(mmap.MADV_DONTNEED)
                self._touched = 0
        if len(bad):
            digests[np.isin(blocks // PAGE_RECORDS, bad)] = UNKNOWN
        return digests

    def not_zero(self) -> Extents:
        """Bytes of the disk whose blocks are not known to be zeros."""
        rows = [np.empty((0, 2), np.int64)]
        pages, _ = read_table(self._fd, self._header)
        for page in pages.tolist():
            records = self._page(page) if self._is_whole(page) else _ALL_UNKNOWN
            held = np.flatnonzero(records.any(axis=1)) + page * PAGE_RECORDS
            held = held[held < self._header.blocks]
            rows.append(Extents.from_blocks(held, self.block, self.capacity_bytes).array)
        return Extents.from_array(np.concatenate(rows))

    def damaged(self, areas: Extents) -> bool:
        """True where digests of these bytes of the disk are not the ones that were written."""
        first, last = areas.array[:, 0], areas.array[:, 1] - 1
        covered = self.block * PAGE_RECORDS
        pages = {p for a, b in zip(first, last, strict=True) for p in (a // covered, b // covered)}
        return any(
            page_digest(self._page(int(page)).tobytes())
            != os.pread(self._fd, PAGE_DIGEST, TABLE_AT + int(page) * PAGE_DIGEST)
            for page in pages
        )

    # -- one run ----------------------------------------------------------------------------

    def begin_run(self, point: str) -> PendingDigests:
        """Creates the sidecar for the point that a run makes; an old sidecar is discarded."""
        header = self._header
        head = PendingHead(header.point, point, header.seed, header.block, header.capacity)
        self.discard_pending()
        self._pending = PendingDigests.create(pending_path(self.path), head)
        return self._pending

    def resume_run(self) -> PendingDigests | None:
        """Reopens the sidecar of a run that broke off, cut back to its last checkpoint; or None.

        Its `head.point` is the point it would make, its `position` is where the run continues.
        """
        pending = PendingDigests.reopen(pending_path(self.path))
        if pending is not None and not self._follows(pending.head):
            pending.close()
            return None
        self._pending = pending
        return pending

    def seal(self, pending: PendingDigests) -> str:
        """Makes the sidecar complete and durable. Returns the root digest it leads to, hex.

        Raises DigestMapUnusable where a page of the map is damaged.
        """
        root = self._root_with(self._folded(pending.records(), check=True))
        if self.has_damage:
            raise self._unusable("some of its pages are damaged")
        pending.seal(root)
        pending.close()
        with writing(self.path.parent):
            fsync(self.path.parent)
        return root.hex()

    def apply(self, point: str) -> None:
        """Folds in the sealed sidecar of `point`, which the replica has. It may be repeated."""
        if self._header.state == CLEAN and self._header.point == point:
            self.discard_pending()
            return
        found = _pending_of(self.path, self._header, point)
        with writing(self.path):
            folding = replace(self._header, state=FOLDING, next_point=point)
            self._header = write_header(self._fd, folding, records_first=False)
            for page, data, start, end in self._folded(read_records(pending_path(self.path))):
                write_all(self._fd, data[start:end], RECORDS_AT + page * PAGE + start)
                write_all(self._fd, page_digest(data), TABLE_AT + page * PAGE_DIGEST)
            root = self._root_with(iter(()))
            if root != found.root:
                raise self._unusable("its root digest is not the one that was committed")
            self._header = write_header(
                self._fd,
                replace(self._header, state=CLEAN, point=point, next_point="", root=root),
            )
        self.discard_pending()

    def discard_pending(self) -> None:
        """Removes the sidecar of a run that was not committed."""
        self._close_pending()
        # Not made durable: a sidecar that comes back after a crash is known by its head.
        pending_path(self.path).unlink(missing_ok=True)

    def grow(self, capacity_bytes: int) -> None:
        """Grows the map with its disk: new blocks are zeros, a short last block is unknown.

        An unknown block has a digest that no block has, so the next copy writes it, given that
        its extents cover everything from the old capacity on.
        """
        old = self._header
        if capacity_bytes <= old.capacity:
            raise ValueError(f"{capacity_bytes} bytes is not more than {old.capacity}")
        header = replace(old, capacity=capacity_bytes)
        with writing(self.path):
            os.ftruncate(self._fd, header.size)
            if old.capacity % old.block:
                number = old.capacity // old.block
                page = self._page(number // PAGE_RECORDS).copy()
                if page[number % PAGE_RECORDS].any():
                    page[number % PAGE_RECORDS] = UNKNOWN
                write_all(self._fd, page.tobytes(), RECORDS_AT + number // PAGE_RECORDS * PAGE)
                at = TABLE_AT + number // PAGE_RECORDS * PAGE_DIGEST
                write_all(self._fd, page_digest(page.tobytes()), at)
            header = replace(header, root=root_digest(header, *read_table(self._fd, header)))
            self._header = write_header(self._fd, header)
        self._unmap()
        self._map_file()

    def close(self) -> None:
        """Gives up the lock. An open sidecar is closed and kept. It may be called twice."""
        if self._fd < 0:
            return
        self._close_pending()
        self._unmap()
        # Explicitly: a process that is being started shares the descriptor, and so the lock, until
        # exec.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._fd = -1

    # -- inside -----------------------------------------------------------------------------

    def _close_pending(self) -> None:
        if self._pending is not None:
            self._pending.close()
            self._pending = None

    def _map_file(self) -> None:
        self._map = mmap.mmap(self._fd, self._header.size, prot=mmap.PROT_READ)
        # No reading ahead: scattered lookups would fill the page cache with the file's holes.
        self._map.madvise(mmap.MADV_RANDOM)
        self._records = np.frombuffer(self._map, np.uint8, offset=RECORDS_AT).reshape(-1, RECORD)
        self._touched = 0
        self._checked = np.zeros(len(self._records) // PAGE_RECORDS, np.bool_)
        self._bad = np.zeros(len(self._checked), np.bool_)

    def _unmap(self) -> None:
        self._records = np.empty((0, RECORD), np.uint8)
        self._map.close()

    def _match_point(self, latest: str) -> None:
        header = self._header
        if header.state == CLEAN and self._root_with(iter(())) != header.root:
            raise self._unusable("its page digests do not have its root")
        if header.state == CLEAN and header.point == latest:
            found = read_pending(pending_path(self.path))
            if found is not None and not self._follows(found.head):
                # A process that died may have written this header and not made it durable.
                os.fsync(self._fd)
                self.discard_pending()
            return
        _pending_of(self.path, header, latest)
        self.apply(latest)

    def _follows(self, head: PendingHead) -> bool:
        return _follows(self._header, head)

    def _page(self, number: int) -> Digests:
        data = os.pread(self._fd, PAGE, RECORDS_AT + number * PAGE)
        return np.frombuffer(data, np.uint8).reshape(-1, RECORD)

    def _damaged_pages(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the damaged pages of these blocks; each page is checked once."""
        pages = np.unique(blocks // PAGE_RECORDS)
        for page in pages[~self._checked[pages]].tolist():
            self._is_whole(page)
        return pages[self._bad[pages]] if self.has_damage else pages[:0]

    def _is_whole(self, page: int) -> bool:
        """True where the records of a page have the page's digest."""
        if not self._checked[page]:
            data = os.pread(self._fd, PAGE, RECORDS_AT + page * PAGE)
            known = os.pread(self._fd, PAGE_DIGEST, TABLE_AT + page * PAGE_DIGEST)
            self._checked[page] = True
            self._bad[page] = page_digest(data) != known
            self.has_damage = self.has_damage or bool(self._bad[page])
        return not self._bad[page]

    def _folded(
        self, records: Iterator[tuple[NDArray[np.int64], Digests]], *, check: bool = False
    ) -> Iterator[tuple[int, bytes, int, int]]:
        """Yields the pages that the records change, each once: number, content, changed bytes.

        `check`: each page as it is before. Not while a map is being folded: a page may be new and
        its digest still old, and the root decides.
        """
        number, page = -1, np.empty((0, RECORD), np.uint8)
        low, high = PAGE_RECORDS, 0
        for blocks, digests in records:
            pages = blocks // PAGE_RECORDS
            cuts = np.flatnonzero(np.diff(pages)) + 1
            for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(pages)], strict=True):
                if int(pages[start]) != number:
                    if number >= 0:
                        yield number, page.tobytes(), low * RECORD, high * RECORD
                    number, low, high = int(pages[start]), PAGE_RECORDS, 0
                    if check:
                        self._is_whole(number)
                    page = self._page(number).copy()
                rows = blocks[start:end] % PAGE_RECORDS
                page[rows] = digests[start:end]
                low, high = min(low, int(rows[0])), max(high, int(rows[-1]) + 1)
        if number >= 0:
            yield number, page.tobytes(), low * RECORD, high * RECORD

    def _root_with(self, folded: Iterator[tuple[int, bytes, int, int]]) -> bytes:
        """The root digest with some pages replaced; their numbers ascend."""
        changed, made = array("q"), bytearray()
        for page, data, _, _ in folded:
            changed.append(page)
            made += page_digest(data)
        pages, digests = read_table(self._fd, self._header)
        if changed:
            pages, digests = merge_table(pages, digests, np.array(changed, np.int64), made)
        return root_digest(self._header, pages, digests)

    def _unusable(self, reason: str) -> DigestMapUnusable:
        return DigestMapUnusable(path=str(self.path), reason=reason)


def _open_file(path: Path, opened: Callable[[], int]) -> int:
    """A file descriptor. Raises DigestMapUnusable where the operating system has no such file."""
    try:
        return opened()
    except FileNotFoundError:
        raise DigestMapUnusable(path=str(path), reason="it is missing") from None
    except OSError as error:
        raise DigestMapUnusable(
            path=str(path), reason=f"it cannot be opened: {error.strerror}"
        ) from error


def _read_usable_header(path: Path, fd: int) -> Header:
    """The header of a whole file of our version. Raises DigestMapUnusable."""
    try:
        # First: a header in our version that a newer one has left beside its own is old.
        if (newer := newer_version(fd)) is not None:
            reason = f"it was {written_by_newer(newer, VERSION)}"
            raise DigestMapUnusable(path=str(path), reason=reason)
        header = read_header(fd)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
        raise DigestMapUnusable(path=str(path), reason=reason) from error
    if header is None or os.fstat(fd).st_size < header.size:
        raise DigestMapUnusable(path=str(path), reason="it is damaged")
    return header


def _pending_of(path: Path, header: Header, point: str) -> FoundPending:
    """The sealed sidecar that leads from the header's point to this one.

    Raises DigestMapUnusable where there is none.
    """

    def unusable(reason: str) -> DigestMapUnusable:
        return DigestMapUnusable(path=str(path), reason=reason)

    if header.state == FOLDING and header.next_point != point:
        raise unusable(
            f"it was being changed to recovery point {header.next_point} when it broke off"
        )
    found = read_pending(pending_path(path))
    if found is None or found.head.point != point:
        raise unusable(
            f"it describes recovery point {header.point or 'none'}, the replica is at {point}"
        )
    if not found.sealed:
        raise unusable(f"it has no sealed digests of recovery point {point}")
    if not _follows(header, found.head):
        raise unusable(f"the digests of {point} do not follow {header.point!r}")
    return found


def _follows(header: Header, head: PendingHead) -> bool:
    return head == PendingHead(header.point, head.point, header.seed, header.block, header.capacity)
