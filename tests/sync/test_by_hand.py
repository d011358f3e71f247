"""The record of what commands did: whole lines, taken in once, none lost by an error."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vreplica.sync import by_hand
from vreplica.sync.by_hand import HandEntry

NOW = datetime(2026, 11, 30, 22, tzinfo=UTC)
RUN = HandEntry(
    "p1",
    "run",
    "web01",
    "done",
    "alice@dr1",
    NOW - timedelta(seconds=3),
    NOW,
    result={"point": "p1", "taken": NOW.isoformat(), "level": "crash"},
)
FAILED = replace(RUN, id="hand-1", state="failed", error="the host is away\nsecond", result={})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "web01"


def lines(folder: Path) -> list[str]:
    return (folder / "by-hand.jsonl").read_text().splitlines()


def test_what_is_written_is_read_and_taken_in_once(folder: Path) -> None:
    by_hand.write(folder, RUN)
    by_hand.write(folder, FAILED)
    assert by_hand.read(folder) == (RUN, FAILED)
    with by_hand.taken_in(folder) as found:
        assert found == (RUN, FAILED)
    assert by_hand.read(folder) == ()
    by_hand.write(folder, FAILED)
    assert by_hand.read(folder) == (FAILED,)


def test_a_catalog_that_fails_leaves_the_lines(folder: Path) -> None:
    by_hand.write(folder, RUN)
    with pytest.raises(OSError, match="away"), by_hand.taken_in(folder):
        raise OSError("away")
    assert by_hand.read(folder) == (RUN,)


def test_where_nothing_was_done_nothing_is_made(folder: Path) -> None:
    assert by_hand.read(folder) == ()
    with by_hand.taken_in(folder) as found:
        assert found == ()
    assert not folder.exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"v":1}',
        RUN.to_line().replace("+00:00", ""),
        RUN.to_line().replace('"p1"', "7", 1),
        RUN.to_line()[:40],
    ],
)
def test_a_line_that_is_not_whole_hides_no_other(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "by-hand.jsonl").write_text(RUN.to_line() + text.rstrip("\n"))
    by_hand.write(folder, FAILED)
    assert by_hand.read(folder) == (RUN, FAILED)


def test_a_line_of_a_newer_version_stays_for_it(folder: Path) -> None:
    by_hand.write(folder, RUN)
    newer = json.dumps({"v": 2, "id": "x", "more": True})
    with (folder / "by-hand.jsonl").open("a") as file:
        file.write(newer + "\n")
    with by_hand.taken_in(folder) as found:
        assert found == (RUN,)
    assert lines(folder) == [newer]


def test_the_newest_lines_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "KEPT", 3)
    for number in range(5):
        by_hand.write(folder, replace(RUN, id=f"p{number}"))
    assert [entry.id for entry in by_hand.read(folder)] == ["p2", "p3", "p4"]
