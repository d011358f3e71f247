"""What the nights of random steps have found (test_nights.py), each as a short story of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.night import Night, on_the_night
from tests.support.night_site import OFF, ON, NightVm
from tests.support.sync_model import UNIT

CONFIRM = ("--confirm", "web")
NO = ("--final-sync", "no", *CONFIRM)


@pytest.fixture
def night() -> Iterator[Night]:
    """Two sites with a job that has two points."""
    with tempfile.TemporaryDirectory(dir=UNIT if UNIT.is_dir() else None) as folder:
        made = Night(Path(folder), 0)
        with on_the_night(made):
            assert made.type_("run")[0] == 0
            made.writes(made.here)
            assert made.type_("run")[0] == 0
            yield made
            made.check()


def replica_of(night: Night) -> NightVm:
    assert night.there.vm is not None
    return night.there.vm


def somebody_uses_the_replica(night: Night) -> None:
    """A colleague starts it by hand, works in it, and switches it off."""
    replica = replica_of(night)
    night.there.set_power(replica, ON)
    night.writes(night.there)
    night.there.set_power(replica, OFF)


def stop_after(night: Night, event: str, *words: str) -> None:
    """Types this; its process is killed at its next call once the journal has that event."""
    steps = night.mover.steps

    def look() -> None:
        journals = night.mover.state.glob("web/failovers/*/journal.jsonl")
        if any(f'"event":"{event}"' in journal.read_text() for journal in journals):
            steps.left = 0

    steps.between = look
    code, shown = night.type_(*words)
    steps.between = lambda: None
    assert code is None, shown


def test_an_undo_does_not_revert_a_replica_that_the_failover_has_not_touched(
    night: Night,
) -> None:
    """Before, the undo took it back to the point that the failover would have booted."""
    oldest = replica_of(night).snapshots[0].info.name
    stop_after(night, "point settled", "failover", "web", *NO, "--point", oldest)
    somebody_uses_the_replica(night)
    assert night.type_("undo", "web", *CONFIRM)[0] == 0
    night.check_tokens()


@pytest.mark.parametrize("standing", ["an older point", "a run that was killed"])
def test_a_run_does_not_revert_a_replica_that_was_started_by_hand(
    night: Night, standing: str
) -> None:
    """Before, that was seen only where the replica stood on its latest point."""
    if standing == "an older point":
        oldest = replica_of(night).snapshots[0].info
        night.there.revert_to_snapshot(replica_of(night).ref, oldest.moref)
    else:
        left = 0
        while not replica_of(night).extra.get("vreplica.leaf"):
            left += 5
            night.writes(night.here)
            assert night.type_("run", left=left)[0] is None
    somebody_uses_the_replica(night)
    code, shown = night.type_("run")
    assert code == 3
    assert "was powered on" in shown


def test_a_commit_is_refused_where_only_the_source_runs(night: Night) -> None:
    """Before, a replica that somebody had started and stopped again could be adopted and committed
    while its source ran: a failback would have dropped what the source wrote from then on."""
    somebody_uses_the_replica(night)
    assert night.type_("failover", "adopt", "web", *CONFIRM)[0] == 0
    code, shown = night.type_("commit", "web", *CONFIRM)
    assert (code, "web-replica at b is off and web at a is on" in " ".join(shown.split())) == (
        3,
        True,
    )
    assert night.type_("undo", "web", *CONFIRM)[0] == 0
    night.check_tokens()
    assert night.type_("run")[0] == 0
