"""The failover's journal: durable, in order, and closed to a process with an old epoch."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from errno import ENOSPC
from pathlib import Path

import pytest

from vreplica.failover.machine.errors import (
    EffectUnderWay,
    FailoverTakenOver,
    JournalDamaged,
    JournalIsNewer,
)
from vreplica.failover.machine.journal import FORMAT, Journal, load, state_of
from vreplica.failover.machine.states import FailoverEvent, FailoverState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "failovers" / "f1"


def test_a_journal_tells_its_state_choices_and_facts(folder: Path) -> None:
    journal = Journal.begin(folder, {"who": "alice"})
    journal.write("intent", step="disable", data={})
    journal.write("event", event=FailoverEvent.JOB_DISABLED, data={"was": "enabled"})
    journal.write("event", event=FailoverEvent.POINT_A_MADE, data={"point": "A"})
    assert journal.state is FailoverState.INSURED
    journal.close()
    entries = load(folder)
    assert [e.kind for e in entries] == ["begin", "intent", "event", "event"]
    assert state_of(entries) is FailoverState.INSURED
    again = Journal.take_over(folder)
    assert again.choices == {"who": "alice"}
    assert again.facts() == {"was": "enabled", "point": "A"}
    again.close()


def test_an_event_that_may_not_happen_is_refused_and_not_written(folder: Path) -> None:
    journal = Journal.begin(folder, {})
    with pytest.raises(ValueError, match="replica started may not happen in state ready"):
        journal.write("event", event=FailoverEvent.REPLICA_STARTED, data={})
    assert len(load(folder)) == 1
    journal.close()


def test_who_was_taken_over_can_do_nothing_more(folder: Path) -> None:
    old = Journal.begin(folder, {})
    new = Journal.take_over(folder)
    assert new.epoch == old.epoch + 1
    with pytest.raises(FailoverTakenOver):
        old.write("event", event=FailoverEvent.JOB_DISABLED, data={})
    with pytest.raises(FailoverTakenOver):
        old.check_epoch()
    new.write("event", event=FailoverEvent.JOB_DISABLED, data={})
    assert state_of(load(folder)) is FailoverState.DISABLED
    old.close()
    new.close()


def _take_over(folder: Path, took: str) -> None:
    Journal.take_over(folder).close()
    Path(took).touch()


def test_taking_over_waits_for_the_effect_that_is_under_way(folder: Path) -> None:
    journal = Journal.begin(folder, {})
    took = folder / "took"
    other = multiprocessing.get_context("spawn").Process(target=_take_over, args=(folder, took))
    with journal.effect():
        other.start()
        time.sleep(1.0)
        assert not took.exists()
    other.join(20)
    assert took.exists()
    with pytest.raises(FailoverTakenOver), journal.effect():
        pass
    journal.close()


def test_who_is_frozen_in_an_effect_is_named_to_the_one_who_wants_to_take_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vreplica.failover.machine.journal.TAKE_OVER_S", 0.2)
    journal = Journal.begin(folder, {})
    with journal.effect():
        journal.write("intent", step="PowerOn replica", data={})
        with pytest.raises(EffectUnderWay, match="PowerOn replica") as refused:
            Journal.take_over(folder)
    assert refused.value.pid == os.getpid()
    journal.check_epoch()
    journal.close()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_that_broke_off_is_as_if_not_written(folder: Path, cut: int) -> None:
    journal = Journal.begin(folder, {})
    journal.write("event", event=FailoverEvent.JOB_DISABLED, data={})
    journal.write("event", event=FailoverEvent.POINT_A_MADE, data={"point": "A"})
    journal.close()
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal.take_over(folder)
    assert again.state is FailoverState.DISABLED
    again.write("event", event=FailoverEvent.POINT_A_MADE, data={"point": "A"})
    again.close()
    assert state_of(load(folder)) is FailoverState.INSURED


@pytest.mark.parametrize(
    ("line", "text"),
    [(0, "nonsense"), (1, "{}"), (1, '{"n":5,"epoch":1,"time":"2026-01-01","kind":"x","data":{}}')],
)
def test_a_damaged_journal_is_an_error_that_names_the_line(
    folder: Path, line: int, text: str
) -> None:
    journal = Journal.begin(folder, {})
    journal.write("event", event=FailoverEvent.JOB_DISABLED, data={})
    journal.close()
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(JournalDamaged):
        Journal.take_over(folder)
    with pytest.raises(JournalDamaged, match="cannot be read at line"):
        load(folder)


def test_a_journal_of_a_newer_version_is_named_and_left_to_its_process(folder: Path) -> None:
    journal = Journal.begin(folder, {})
    path = folder / "journal.jsonl"
    line = json.loads(path.read_text()) | {"v": FORMAT + 1, "kind": "of the next format"}
    path.write_text(json.dumps(line) + "\n")
    for ask in (Journal.take_over, load):
        with pytest.raises(JournalIsNewer, match=r"newer version of vreplica \(format 2\)"):
            ask(folder)
    journal.check_epoch()  # nobody has taken it over
    journal.close()


def _write_for_ever(folder: Path) -> None:
    journal = Journal.begin(folder, {})
    journal.write("event", event=FailoverEvent.JOB_DISABLED, data={})
    while True:
        journal.write("note", data={"text": "x" * 500})


def test_kill_9_leaves_a_journal_that_can_be_gone_on_with(folder: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(folder,))
    process.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (folder / "journal.jsonl").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    journal = Journal.take_over(folder)
    assert journal.state is FailoverState.DISABLED
    journal.write("event", event=FailoverEvent.POINT_A_MADE, data={})
    journal.close()
    assert [e.n for e in load(folder)] == list(range(len(load(folder))))


@pytest.mark.parametrize("when", ["in the middle of a line", "once it is there"])
def test_an_entry_that_found_the_disk_full_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A group writes on for its other members, and an undo of the same process comes after."""
    journal = Journal.begin(tmp_path / "f", {"job": "web01"})
    write, room = os.write, [10]

    def fail(*_: object) -> int:
        raise OSError(ENOSPC, "No space left on device")

    def some(fd: int, data: bytes) -> int:
        return write(fd, bytes(data[: room.pop()])) if room else fail()

    with monkeypatch.context() as patched:
        if when == "in the middle of a line":
            patched.setattr(os, "write", some)
        else:
            patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            journal.write("intent", step="PowerOn replica", data={})
    journal.write("note", step="room again", data={})
    journal.close()
    assert [e.step for e in load(tmp_path / "f")] == ["", "room again"]
