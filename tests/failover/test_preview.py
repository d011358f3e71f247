"""What is said before a failover: the change rate where it is known, the steps in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vreplica.failover.estimate import (
    Estimate,
    Measured,
    change_rate,
    estimate,
    measure,
    rate_in_words,
)
from vreplica.failover.machine.record import Record
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.preview import steps_no, steps_yes
from vreplica.points import DiskPoint, Level, RecoveryPoint
from vreplica.points.changes import ChangeStats
from vreplica.units import MIB

START = datetime(2026, 1, 1, tzinfo=UTC)


def point(
    minutes: int, written: int, mode: str = "delta", took: tuple[float, ...] = ()
) -> RecoveryPoint:
    """`took`: seconds of each disk; the bytes are the first one's."""
    disks = tuple(
        DiskPoint(
            2000 + n,
            f"Hard disk {n + 1}",
            "u",
            1 << 30,
            "g/1",
            mode,
            0 if n else written,
            "",
            ChangeStats(written, 0, 0, 0, written, 0, 0.0, 0.0, 1 << 30, (), seconds),
        )
        for n, seconds in enumerate(took or (None,))
    )
    level = Level.APPLICATION
    time = START + timedelta(minutes=minutes)
    overhead = 5.0 if took else None
    return RecoveryPoint(
        str(minutes), "j", "v", "vm", time, level, level, disks, overhead_s=overhead
    )


def test_the_rate_is_what_the_deltas_shipped_over_the_time_between() -> None:
    points = [point(0, 999 * MIB, "full"), point(30, 6 * MIB), point(60, 12 * MIB)]
    assert change_rate(points) == 18 * MIB / 3600
    assert "18 MiB" in rate_in_words(points)


def test_nothing_is_invented_where_nothing_is_known() -> None:
    assert change_rate([]) is None
    assert change_rate([point(0, 1)]) is None
    assert change_rate([point(0, 1), point(0, 1)]) is None
    assert change_rate([point(0, 1), point(30, MIB, "rescan")]) is None
    assert "not known" in rate_in_words([point(0, 1)])


def test_the_source_is_seen_off_right_before_the_replica_starts() -> None:
    for steps in (
        steps_yes("s", "r", running=True, tools=True, disconnect=True),
        steps_no("s", "r", "p", running=True, disconnect=False),
    ):
        assert "confirm that it is off" in steps[-2]
        assert steps[-1].startswith("r: connect")
    off = steps_yes("s", "r", running=False, tools=False, disconnect=False)
    assert not any("shut down" in step for step in off)
    on = steps_yes("s", "r", running=True, tools=True, disconnect=False)
    assert any("ask the guest to shut down" in step for step in on)
    assert not any("power off" in step for step in on)


def test_a_lost_source_is_not_said_to_be_confirmed_off() -> None:
    steps = steps_no("web01", "r", "p", running=False, disconnect=False, lost=True)
    assert steps[-1] == "web01: not contacted, and not stopped"
    assert not any("confirm" in step for step in steps)


def test_a_guest_that_cannot_be_asked_is_not_promised_to_be() -> None:
    steps = steps_yes("s", "r", running=True, tools=False, disconnect=False)
    assert not any("ask the guest" in step or "quiesced snapshot" in step for step in steps)
    assert any("--on-shutdown-timeout" in step for step in steps)


# -- how long ---------------------------------------------------------------------------------

HISTORY = [
    point(0, 999 * MIB, "full", (90.0,)),
    point(30, 1800 * MIB, took=(18.0,)),
    point(60, 1800 * MIB, took=(18.0,)),
]
"""1 MiB a second, copied at 100 MiB a second, 5 s a run beside that."""

LATER = START + timedelta(minutes=60 + 50)
NOTHING = Measured()


def known(measured: Measured = NOTHING, *, running: bool = True) -> Estimate:
    return estimate(HISTORY, measured, running=running, parallel=2, now=LATER)


def test_a_pass_takes_what_changed_before_it_by_what_was_measured() -> None:
    guess = known()
    assert (guess.change_bytes_per_s, guess.copy_bytes_per_s, guess.age_s) == (
        MIB,
        100 * MIB,
        3000.0,
    )
    # 3000 s bring 3000 MiB: 30 s and 5. The final sync brings what those 35 s change.
    assert guess.passes() == (35.0,)
    assert guess.final_s() == pytest.approx(5.35)
    assert guess.downtime_s() is None, "the replica's start was never seen"
    assert guess.to_dict()["final_sync_s"] == pytest.approx(5.35)


def test_what_earlier_failovers_took_comes_on_top() -> None:
    guess = known(Measured(shutdown_s=60.0, start_s=20.0, of=("fo-1",)))
    assert guess.final_s() == pytest.approx(5.95), "the guest writes while it shuts down"
    assert guess.downtime_s() == pytest.approx(25.95)
    off = known(Measured(60.0, 20.0), running=False)
    assert (off.passes(), off.final_s(), off.downtime_s()) == ((), 35.0, 55.0)


def test_passes_are_foreseen_until_one_is_short_or_they_do_not_shrink() -> None:
    assert known().passes(60.0) == (35.0,)
    assert known().passes(6.0) == pytest.approx((35.0, 5.35))
    assert known().passes(5.01) == pytest.approx((35.0, 5.35, 5.0535)), "and no further"
    assert known().final_s(6.0) == pytest.approx(5.0535)


def test_disks_that_are_copied_side_by_side_count_once() -> None:
    two = [point(0, 1, "full", (1.0, 1.0)), point(10, 600 * MIB, took=(6.0, 2.0))]
    assert (
        estimate(two, Measured(), running=True, parallel=2, now=LATER).copy_bytes_per_s == 100 * MIB
    )
    assert (
        estimate(two, Measured(), running=True, parallel=1, now=LATER).copy_bytes_per_s == 75 * MIB
    )


def test_nothing_is_estimated_where_nothing_was_measured() -> None:
    for points in ([], [point(0, 1)], [point(0, 1), point(30, MIB)]):
        guess = estimate(points, Measured(), running=True, parallel=2, now=LATER)
        assert (guess.passes(60.0), guess.final_s(), guess.downtime_s()) == ((), None, None)
    idle = [point(0, 1, "full", (1.0,)), point(30, 0, took=(0.5,))]
    quiet = estimate(idle, Measured(), running=True, parallel=2, now=LATER)
    assert quiet.final_s() == 5.0, "nothing changes, so no speed is needed"


def record(id_: str, shutdown: float | None, parts: dict[str, float], *, answered: bool) -> Record:
    return Record(
        job="j",
        id=id_,
        state=FailoverState.COMMITTED,
        began=START,
        ended=None,
        source_off=START,
        answered=START if answered else None,
        point=None,
        level=None,
        shutdown_s=shutdown,
        parts_s=tuple(parts.items()),
        facts={},
        entries=(),
    )


def test_the_newest_failover_that_came_so_far_is_what_is_believed() -> None:
    parts = {"final sync": 9.0, "fence": 1.0, "power-on": 2.0, "boot": 30.0}
    old = record("fo-1", 40.0, parts, answered=True)
    silent = record("fo-2", 50.0, {**parts, "boot": 300.0}, answered=False)
    no = record("fo-3", None, {"final sync": 0.0}, answered=False)
    assert measure([old, silent, no]) == Measured(50.0, 33.0, ("fo-2", "fo-1"))
    assert measure([]) == Measured()
