"""Keeps the journal of a failover: every effect is on disk before it is done.

A failover has one folder. The journal has one line of JSON for each entry, and each entry is
durable before the next effect:

    <job>/failovers/<id>/journal.jsonl
      {"n": 0, "epoch": 1, "time": ..., "kind": "begin",  "data": {choices...}}
      {"n": 1, "epoch": 1, "time": ..., "kind": "intent", "step": "disable job", "data": {}}
      {"n": 2, "epoch": 1, "time": ..., "kind": "call",   "step": "disable job", "data": {...}}
      {"n": 3, "epoch": 1, "time": ..., "kind": "event",  "event": "job disabled", "data": {}}
      ...
    <job>/failovers/<id>/epoch            epoch and id of the process that may act

A process that takes a failover over writes a higher epoch. From then on every effect of a process
with an older epoch is refused (`Journal.effect`), also in the middle of a copy. While an effect is
under way, nobody can take over: a process that hangs in it could otherwise finish it later. The
error then names the process to end.

Each line ends with a checksum of its own (`sum`); those of the first version do not. A line that
cannot be believed stops everything: a failover never continues from half of what was done. A
damaged `epoch` is begun anew by the next takeover.

A last line that is not whole, because its writer was killed, is cut off: nothing was done for it
yet.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from errno import EEXIST
from pathlib import Path
from typing import Any, Final, Literal, Self

from vreplica.failover.machine.choices import FIRST, FailoverChoices
from vreplica.failover.machine.errors import (
    EffectUnderWay,
    EpochDamaged,
    FailoverTakenOver,
    JournalDamaged,
    JournalIsNewer,
)
from vreplica.failover.machine.group_order import Group
from vreplica.failover.machine.states import FailoverEvent, FailoverState, next_state
from vreplica.files import fsync, make_private_folder, naming, replace_durably
from vreplica.formats import written_by_newer
from vreplica.points import Level
from vreplica.redact import hide_in
from vreplica.stored import (
    Count,
    Damaged,
    Data,
    Id,
    Layout,
    Moment,
    Text,
    build,
    check_json,
    parse_data,
    seal_json,
)

FORMAT: Final = 1
"""Format of the entries. An entry without the key `v` is of format 1."""

TAKE_OVER_S: Final = 30.0
"""How long a takeover waits for an effect of the present process: a power-on takes seconds."""

POLL_S: Final = 0.05

EPOCH_JUMP: Final = 1_000_000
"""Added to the newest epoch that is known, where the file that counts them is damaged."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal: one line of JSON."""

    n: int
    epoch: int
    time: datetime
    kind: str
    """begin | intent (before an effect) | call (its result) | event | choice | note."""
    step: str = ""
    event: FailoverEvent | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def to_line(self) -> bytes:
        value: dict[str, Any] = {
            "n": self.n,
            "epoch": self.epoch,
            "time": self.time.isoformat(),
            "kind": self.kind,
        }
        if self.step:
            value["step"] = self.step
        if self.event is not None:
            value["event"] = self.event.value
        value["data"] = self.data
        return seal_json(json.dumps(value, separators=(",", ":"))).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Raises Damaged, and JournalIsNewer without a path."""
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise Damaged(f"byte {error.start} is not of a text") from None
        value = parse_data(text)
        check_json(text)
        found = value.get("v", FORMAT)
        if isinstance(found, int) and found > FORMAT:
            raise JournalIsNewer("", written_by_newer(found, FORMAT))
        known = _LineLayout.parse(text)
        if known.event is not None:
            build(_Facts, known.data, needs=_NEEDED.get(known.event, ()))
        elif known.kind in ("call", "note"):
            build(_CallData, known.data)
        return cls(
            known.n, known.epoch, known.time, known.kind, known.step, known.event, known.data
        )


class _LineLayout(Layout):
    n: Count
    epoch: Count
    time: Moment
    kind: Literal["begin", "intent", "call", "event", "choice", "note"]
    step: Text = ""
    event: FailoverEvent | None = None
    data: Data


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the events establish, as far as a step works with it."""

    point: Id | None = None
    level: Level | None = None
    point_a: Id | None = None
    level_a: Level | None = None
    use_a: bool | None = None
    off_level: Level | None = None
    off_since: Moment | None = None
    was_off: bool | None = None
    answered: bool | None = None


_NEEDED: Final = {
    FailoverEvent.POINT_SETTLED: ("point",),
    FailoverEvent.SOURCE_SEEN_OFF: ("off_level",),
}
"""Facts that later steps cannot do without."""


@dataclass(frozen=True, slots=True)
class _CallData:
    """What a call's entry says to those who show it, and compare it with vCenter's tasks."""

    result: Text | None = None
    tasks: dict[str, list[Text]] | None = None
    job: Text | None = None
    state: Text | None = None
    trouble: Text | None = None


class Journal:
    """An open journal. This process holds its newest epoch."""

    def __init__(self, folder: Path, entries: list[Entry], epoch: int, fd: int) -> None:
        self.folder = folder
        self.entries = entries
        self.epoch = epoch
        self._fd = fd

    # -- opening ----------------------------------------------------------------------------

    @classmethod
    def begin(cls, folder: Path, data: dict[str, Any]) -> Self:
        """Begins a journal with the operator's choices in `data`.

        Raises FileExistsError. A folder without an entry belongs to a process that died before it
        did anything, and is used.
        """
        make_private_folder(folder)
        journal = cls._open(folder)
        try:
            if journal.entries:
                raise FileExistsError(EEXIST, "there is a failover already", str(folder))
            journal.write("begin", data=data)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def take_over(cls, folder: Path) -> Self:
        """Takes a failover over. The process that had it before can do nothing more.

        Raises EffectUnderWay where that process is in the middle of an effect and stays there.
        """
        return cls._open(folder)

    @classmethod
    def _open(cls, folder: Path) -> Self:
        _read(folder)  # a journal that this version cannot read stays with its process
        epoch = _raise_epoch(folder)
        fd = os.open(folder / "journal.jsonl", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            entries, end = _read(folder)
            os.ftruncate(fd, end)
            os.lseek(fd, end, os.SEEK_SET)
            os.fsync(fd)
            fsync(folder)
            fsync(folder.parent)
        except BaseException:
            os.close(fd)
            raise
        return cls(folder, entries, epoch, fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- looking ----------------------------------------------------------------------------

    @property
    def state(self) -> FailoverState:
        return state_of(self.entries)

    @property
    def choices(self) -> dict[str, Any]:
        """The operator's choices, from the beginning and since."""
        return choices_of(self.entries)

    def facts(self) -> dict[str, Any]:
        """Everything that events have established, later ones over earlier ones."""
        return facts_of(self.entries)

    # -- writing ----------------------------------------------------------------------------

    def write(
        self, kind: str, *, step: str = "", event: FailoverEvent | None = None, data: dict[str, Any]
    ) -> Entry:
        """Appends one entry. It is durable on return.

        Raises FailoverTakenOver, and ValueError for an event that cannot happen in this state.
        """
        if event is not None:
            next_state(self.state, event)
        data = hide_in(data)
        entry = Entry(len(self.entries), self.epoch, datetime.now(UTC), kind, step, event, data)
        with self.effect(), naming(self.folder / "journal.jsonl"):
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            line = memoryview(entry.to_line())
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
                os.fsync(self._fd)
            except OSError:
                # A full disk: the next writer, here or in another process, begins a new line.
                os.ftruncate(self._fd, end)
                os.lseek(self._fd, end, os.SEEK_SET)
                raise
        self.entries.append(entry)
        return entry

    def check_epoch(self) -> None:
        """Raises FailoverTakenOver where another process has a newer epoch."""
        with self.effect():
            pass

    @contextmanager
    def effect(self) -> Iterator[None]:
        """Inside, no other process can take the failover over.

        Raises FailoverTakenOver where one has done so already.
        """
        with _epoch_file(self.folder) as fd:
            fcntl.flock(fd, fcntl.LOCK_SH)
            try:
                newest, _ = _read_epoch(fd)
            except Damaged:
                raise EpochDamaged(path=str(self.folder / "epoch")) from None
            if newest != self.epoch:
                raise FailoverTakenOver(own=self.epoch, newest=newest)
            yield


def load(folder: Path) -> list[Entry]:
    """Reads the entries of a journal. Takes nothing over.

    Raises JournalDamaged and JournalIsNewer.
    """
    return _read(folder)[0]


def write_whole(folder: Path, entries: Sequence[Entry]) -> None:
    """Writes a journal with these entries, numbered anew, into a folder of its own. Durable."""
    make_private_folder(folder)
    lines = [replace(entry, n=n).to_line() for n, entry in enumerate(entries)]
    replace_durably(folder / "journal.jsonl", b"".join(lines).decode())


def choices_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """What the operator has chosen, later over earlier."""
    chosen: dict[str, Any] = {}
    for entry in entries:
        if entry.kind in ("begin", "choice"):
            chosen.update(entry.data)
    return chosen


def facts_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """Everything that the events have established, later ones over earlier ones."""
    facts: dict[str, Any] = {}
    for entry in entries:
        if entry.event is not None:
            facts.update(entry.data)
    return facts


def state_of(entries: Sequence[Entry]) -> FailoverState:
    """The state that the events lead to."""
    state = FailoverState.READY
    for entry in entries:
        if entry.event is not None:
            state = next_state(state, entry.event)
    return state


def _read(folder: Path) -> tuple[list[Entry], int]:
    """The whole entries, and the offset of their end in the file."""
    try:
        data = (folder / "journal.jsonl").read_bytes()
    except FileNotFoundError:
        return [], 0
    end = data.rfind(b"\n") + 1
    entries: list[Entry] = []
    path = str(folder / "journal.jsonl")
    try:
        for line in data[:end].split(b"\n")[:-1]:
            entries.append(Entry.from_line(line))
            if entries[-1].n != len(entries) - 1:
                raise Damaged(f"entry {entries[-1].n} stands at place {len(entries) - 1}")
        _check_begin(entries)
        state_of(entries)
    except JournalIsNewer as error:
        raise JournalIsNewer(path, error.newer) from None
    except ValueError as error:
        line_number = min(len(entries) + 1, data.count(b"\n"))
        raise damaged(folder, str(error), line_number) from error
    return entries, end


def _check_begin(entries: Sequence[Entry]) -> None:
    """Raises Damaged where the choices cannot be believed, of one failover or of a group's."""
    if not entries:
        return
    if entries[0].kind != "begin":
        raise Damaged(f"it begins with {entries[0].kind}")
    chosen = choices_of(entries)
    build(_Number, chosen)
    group = chosen.get("group")
    if group is not None:
        if not isinstance(group, dict) or not isinstance(chosen.get("choices"), dict):
            raise Damaged("it has no members, or no choices")
        Group.from_dict(group)
        chosen = chosen["choices"]
    if group is not None or not chosen.keys().isdisjoint(FIRST):
        FailoverChoices.from_dict(chosen)


@dataclass(frozen=True, slots=True)
class _Number:
    number: Count = 0


def damaged(folder: Path, reason: str, line: int = 1) -> JournalDamaged:
    """The error for a journal that cannot be believed."""
    aside = folder.parent.parent / f"set-aside-{folder.name}"
    path = str(folder / "journal.jsonl")
    return JournalDamaged(path=path, line=line, reason=reason, folder=str(folder), aside=str(aside))


def begun_below(root: Path) -> list[Path]:
    """The folders with a journal, oldest first. A folder without an entry does not count."""
    return [folder for _, _, folder in _begun_below(root)]


def next_number(root: Path) -> dict[str, int]:
    """The next number, for the first entry of a journal: it orders the journals below `root`
    whatever the clock says."""
    return {"number": 1 + max((number for number, _, _ in _begun_below(root)), default=0)}


def _begun_below(root: Path) -> list[tuple[int, datetime, Path]]:
    # Journals of older versions have no number.
    return sorted(
        (entries[0].data.get("number", 0), entries[0].time, folder)
        for folder in (root.iterdir() if root.is_dir() else ())
        if folder.is_dir() and (entries := load(folder))
    )


def _raise_epoch(folder: Path) -> int:
    """Takes the next epoch. Waits for an effect that is under way."""
    with _epoch_file(folder) as fd, naming(folder / "epoch"):
        end = time.monotonic() + TAKE_OVER_S
        while not _locked(fd):
            if time.monotonic() > end:
                begun = [e.step for e in load(folder) if e.kind == "intent"]
                pid = 0
                with suppress(Damaged):
                    _, pid = _read_epoch(fd)
                raise EffectUnderWay(pid=pid, step=begun[-1] if begun else "")
            time.sleep(POLL_S)
        known = max((e.epoch for e in load(folder)), default=0)
        try:
            epoch = max(known, _read_epoch(fd)[0]) + 1
        except Damaged:
            # Far above whatever a process may hold that has written no entry yet.
            epoch = known + EPOCH_JUMP
        os.pwrite(fd, b"%20d %20d\n" % (epoch, os.getpid()), 0)
        os.fsync(fd)
    return epoch


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _epoch_file(folder: Path) -> Iterator[int]:
    fd = os.open(folder / "epoch", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _read_epoch(fd: int) -> tuple[int, int]:
    """The epoch and the id of its process (0: not known). Raises Damaged."""
    words = os.pread(fd, 64, 0).split()
    if not words:
        return 0, 0
    if not all(word.isdigit() for word in words[:2]):
        raise Damaged("the epoch is not a number")
    return int(words[0]), int(words[1]) if len(words) > 1 else 0
