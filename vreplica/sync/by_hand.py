"""Records the runs and failovers that commands carry out, until a catalog takes them in.

    command ends --> <job>/by-hand.jsonl --taken in by a command or the service--> catalog
                     one JSON line each     a line whose id the catalog has is taken in once

    {"v": 1, "id": "...", "what": "run", "job": "web01", "state": "done", "who": "alice@dr1",
     "began": "...", "ended": "...", "error": null, "result": {"point": ...}}

Where there is no catalog the newest `KEPT` lines stay, and `history` and `status` read them.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from vreplica.stored import Damaged, build, parse_data, parse_moment
from vreplica.sync.job_dir import by_hand_path, in_state_dir

FORMAT: Final = 1
"""Format of a line. Lines of a higher format stay where they are."""
KEPT: Final = 500
"""Lines in a job's folder."""


@dataclass(frozen=True, slots=True)
class HandEntry:
    """A run or a verb of a failover that a command carried out.

    `id`: of the run's point where it made one. `what`: run, failover, failback, resume, undo,
    commit or adopt. `state`: done, failed or cancelled. `who`: user@machine. Times are UTC.
    `result`: of a run {"point", "taken", "level"}; of a failover {"failover", "state"}.
    """

    id: str
    what: str
    job: str
    state: str
    who: str
    began: datetime
    ended: datetime
    error: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        value = {
            "v": FORMAT,
            "id": self.id,
            "what": self.what,
            "job": self.job,
            "state": self.state,
            "who": self.who,
            "began": self.began.astimezone(UTC).isoformat(),
            "ended": self.ended.astimezone(UTC).isoformat(),
            "error": self.error,
            "result": dict(self.result),
        }
        return json.dumps(value, separators=(",", ":")) + "\n"

    def as_history(self) -> dict[str, Any]:
        """The entry as a row of the catalog's history (service/catalog/database.py)."""
        verb = self.what != "run"
        return {
            "id": self.id,
            "kind": "failover" if verb else "run",
            "job": self.job,
            "state": self.state,
            "mover": self.who.rpartition("@")[2],
            "epoch": None,
            "due": self.began,
            "queued": self.began,
            "began": self.began,
            "ended": self.ended,
            "tries": 1,
            "result": dict(self.result),
            "error": self.error,
            "request": {"do": self.what, "who": self.who} if verb else None,
            "resources": [],
            "who": self.who,
        }

    @classmethod
    def from_line(cls, line: str) -> HandEntry | None:
        """None: of a newer version, or it cannot be believed."""
        try:
            value = parse_data(line)
            if value.pop("v", None) != FORMAT:
                return None
            moments = {key: parse_moment(str(value.pop(key, ""))) for key in ("began", "ended")}
            value |= {key: time.isoformat() for key, time in moments.items()}
            return build(cls, value, needs=_NEEDED)
        except Damaged:
            return None


_NEEDED: Final = ("id", "what", "job", "state", "who", "began", "ended")


def write(job_dir: Path, entry: HandEntry) -> None:
    """Adds an entry; the oldest one goes where there are `KEPT`. Raises StateDirUnusable."""
    with in_state_dir():
        job_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(by_hand_path(job_dir), "a+") as file:
            lines = file.readlines()
            if len(lines) >= KEPT:
                file.truncate(0)
                file.writelines(lines[len(lines) - KEPT + 1 :])
            elif lines and not lines[-1].endswith("\n"):
                file.write("\n")  # the writer of the last line was killed
            file.write(entry.to_line())


def read(job_dir: Path) -> tuple[HandEntry, ...]:
    """The entries that no catalog has taken in yet, oldest first."""
    try:
        with _locked(by_hand_path(job_dir), "r") as file:
            return _entries(file)
    except OSError:
        return ()


@contextmanager
def taken_in(job_dir: Path) -> Iterator[tuple[HandEntry, ...]]:
    """The entries, for a catalog; they are removed at the end, unless the block raises."""
    try:
        opened = by_hand_path(job_dir).open("r+", encoding="utf-8")
    except OSError:
        yield ()
        return
    with opened as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.readlines()
        found = tuple(e for line in lines if (e := HandEntry.from_line(line)) is not None)
        yield found
        left = [line for line in lines if _newer(line)]
        with suppress(OSError):  # then they are taken in again, to no effect
            file.seek(0)
            file.writelines(left)
            file.truncate()


def _entries(file: TextIOWrapper) -> tuple[HandEntry, ...]:
    return tuple(entry for line in file if (entry := HandEntry.from_line(line)) is not None)


def _newer(line: str) -> bool:
    try:
        found = json.loads(line)["v"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(found, int) and found > FORMAT


@contextmanager
def _locked(path: Path, mode: str) -> Iterator[TextIOWrapper]:
    with path.open(mode, encoding="utf-8") as file:
        assert isinstance(file, TextIOWrapper)
        fcntl.flock(file, fcntl.LOCK_SH if mode == "r" else fcntl.LOCK_EX)
        file.seek(0)
        yield file
