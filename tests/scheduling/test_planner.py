"""The planner: what begins, what waits, what alarms; a pure function of records and the time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from vreplica.hours import Hours, Opening
from vreplica.scheduling.planner import AlarmKind, ConcurrencyLimits, plan_round, point_age
from vreplica.scheduling.schedule import Cron, Every, JobRecord, Rpo, ScheduleRule, due, next_due

NOW = datetime(2026, 11, 28, 3, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
H, M = timedelta(hours=1), timedelta(minutes=1)


def job(rule: ScheduleRule, **known: object) -> JobRecord:
    return JobRecord(**{"name": "web01", "rule": rule, "since": NOW - 100 * H, **known})  # type: ignore[arg-type]


def begins(now: datetime, *jobs: JobRecord, limits: ConcurrencyLimits | None = None) -> list[str]:
    return [s.job for s in plan_round(now, jobs, limits or ConcurrencyLimits()).starts]


# -- cron -----------------------------------------------------------------------------------------


def test_of_many_missed_times_one_is_caught_up() -> None:
    hourly = job(ScheduleRule(Cron("0 * * * *")), last_start=NOW - 20 * H + 5 * M)
    (start,) = plan_round(NOW + 7 * M, [hourly], ConcurrencyLimits()).starts
    assert start.due.at == NOW
    assert begins(NOW + 8 * M, replace(hourly, last_start=NOW + 7 * M)) == []


def test_times_before_a_job_was_known_are_not_caught_up() -> None:
    assert (
        begins(NOW + M, job(ScheduleRule(Cron("0 3 * * *")), since=NOW + timedelta(seconds=1)))
        == []
    )
    assert begins(NOW + 24 * H, job(ScheduleRule(Cron("0 3 * * *")), since=NOW + M)) == ["web01"]


def test_a_time_that_summer_time_skips_comes_at_the_end_of_the_gap_and_once() -> None:
    rule = ScheduleRule(Cron("30 2 * * *"), zone=BERLIN)
    before = datetime(2026, 3, 29, 1, 59, tzinfo=BERLIN).astimezone(UTC)
    record = job(rule, since=before - H, last_start=before - 23 * H)
    assert due(before, record) is None
    found = due(before + 2 * M, record)
    assert found is not None
    assert found.at == datetime(2026, 3, 29, 3, 0, tzinfo=BERLIN)
    assert due(before + 40 * M, replace(record, last_start=before + 2 * M)) is None


def test_a_time_that_comes_twice_when_summer_time_ends_runs_once() -> None:
    rule = ScheduleRule(Cron("30 2 * * *"), zone=BERLIN)
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN).astimezone(UTC)
    record = job(rule, since=first - 5 * H, last_start=first - 24 * H)
    assert due(first, record) is not None
    ran = replace(record, last_start=first)
    assert [m for m in range(1, 180) if due(first + m * M, ran)] == []


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "0 3 * * *", "5 1,2 * * *"])
@pytest.mark.parametrize(
    "day", [datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)]
)
def test_around_a_change_of_the_clock_each_time_comes_once_and_none_is_left_out(
    expression: str, day: datetime
) -> None:
    """Planned minute by minute, a job runs at exactly the times that the expression has."""
    rule = ScheduleRule(Cron(expression), zone=BERLIN)
    record = job(rule, since=day, last_start=day)
    ran = []
    for minute in range(1, 6 * 60):
        now = day + minute * M
        found = next_due(now, record)
        if found.at <= now:
            ran.append(found.at)
            record = replace(record, last_start=now)
        assert next_due(now, record).at > now
    times = (t.astimezone(UTC) for t in CronSim(expression, day.astimezone(BERLIN)))
    assert ran == list(takewhile(lambda t: t < day + 6 * H, times))


def test_what_is_no_cron_expression_is_refused() -> None:
    for text in ("61 * * * *", "* * *", "", "0 0 30 2 *"):
        with pytest.raises(ValueError, match="not a cron expression"):
            Cron(text)


def test_jitter_is_the_jobs_own_and_stays_below_what_was_allowed() -> None:
    rule = ScheduleRule(Cron("0 3 * * *"), jitter=20 * M)
    at = {}
    for name in ("a", "b", "c"):
        record = replace(job(rule, since=NOW - H), name=name)
        at[name] = next(m for m in range(21) if due(NOW + m * M, record))
    assert len(set(at.values())) > 1
    assert all(0 <= m <= 20 for m in at.values())


# -- every and rpo --------------------------------------------------------------------------------


def test_every_counts_from_the_start_of_the_last_run() -> None:
    rule = ScheduleRule(Every(4 * H))
    assert begins(NOW, job(rule)) == ["web01"]
    assert begins(NOW, job(rule, last_start=NOW - 4 * H + M)) == []
    assert begins(NOW, job(rule, last_start=NOW - 4 * H)) == ["web01"]


def test_a_run_for_an_rpo_begins_so_that_it_ends_in_time() -> None:
    """Ten minutes at most: with margin 12.5, slack 1.5, so it begins at an age of one minute."""
    record = job(ScheduleRule(Rpo(15 * M)), point_time=NOW, durations_s=(300.0, 600.0))
    assert due(NOW + timedelta(seconds=59), record) is None
    found = due(NOW + M, record)
    assert found is not None
    assert found.deadline + timedelta(seconds=750) == NOW + 15 * M


def test_without_a_point_a_run_is_due_at_once() -> None:
    assert begins(NOW, job(ScheduleRule(Rpo(15 * M)))) == ["web01"]


def test_failures_in_a_row_are_tried_again_later_and_later() -> None:
    record = job(ScheduleRule(Rpo(15 * M)), last_start=NOW - M, last_end=NOW, failures=1)
    waits = []
    for failures in (1, 2, 3, 12):
        tried = replace(record, failures=failures)
        waits.append(next(m for m in range(100) if due(NOW + m * M, tried)))
    assert waits == [1, 2, 4, 60]


def test_a_failed_nightly_run_is_tried_again_the_same_night() -> None:
    failed = job(ScheduleRule(Cron("0 3 * * *")), last_start=NOW, last_end=NOW + 10 * M, failures=1)
    assert begins(NOW + 10 * M, failed) == []
    assert begins(NOW + 11 * M, failed) == ["web01"]


@pytest.mark.parametrize("when", [Cron("0 * * * *"), Every(H), Rpo(H)])
def test_a_clock_that_was_set_back_makes_no_job_stand_still(when: Cron | Every | Rpo) -> None:
    ahead = NOW + 1000 * H
    for failures in (0, 3):
        record = job(
            ScheduleRule(when),
            since=ahead,
            last_start=ahead,
            last_end=ahead,
            point_time=ahead,
            failures=failures,
        )
        assert begins(NOW, record) == ["web01"]


def test_a_vcenter_whose_clock_is_ahead_does_not_make_its_jobs_run_all_the_time() -> None:
    """Its points are of a time that is still to come."""
    ran = job(ScheduleRule(Rpo(15 * M)), last_start=NOW - M, last_end=NOW, point_time=NOW + 5 * M)
    ran = replace(ran, durations_s=(60.0,))
    assert begins(NOW, ran) == []
    assert begins(NOW + 18 * M, ran) == ["web01"]


def test_what_runs_is_not_begun_again_and_what_is_paused_not_at_all() -> None:
    rule = ScheduleRule(Every(H))
    assert begins(NOW, job(rule, running=True, last_start=NOW - 5 * H)) == []
    assert begins(NOW, job(rule, paused=True)) == []


# -- windows and room -----------------------------------------------------------------------------


def test_outside_its_window_a_run_waits_and_says_until_when() -> None:
    night = ScheduleRule(Every(H), zone=BERLIN, opening=Opening((Hours.parse("22:00-03:00"),)))
    tick = plan_round(NOW, [job(night)], ConcurrencyLimits())
    assert tick.starts == ()
    (waiting,) = tick.waiting
    assert "2026-11-28 21:00:00+00:00" in waiting.why


def test_priority_goes_first_then_the_earliest_deadline() -> None:
    jobs = [
        replace(job(ScheduleRule(Every(H)), last_start=NOW - hours * H), name=name)
        for name, hours in (("a", 2), ("b", 3))
    ]
    jobs.append(replace(job(ScheduleRule(Every(H), priority=1), last_start=NOW - H), name="c"))
    assert begins(NOW, *jobs) == ["c", "b", "a"]


def test_a_full_host_is_named_and_keeps_nothing_else_from_beginning() -> None:
    rule = ScheduleRule(Every(H))
    busy = replace(job(rule, running=True, resources=("host:e1",)), name="busy")
    same = replace(job(rule, resources=("host:e1", "datastore:d")), name="same")
    other = replace(job(rule, resources=("host:e2", "datastore:d")), name="other")
    tick = plan_round(NOW, [busy, same, other], ConcurrencyLimits(per_host=1))
    assert [s.job for s in tick.starts] == ["other"]
    assert [(w.job, w.why) for w in tick.waiting] == [("same", "host:e1 is busy")]


# -- alarms ---------------------------------------------------------------------------------------


def test_a_point_that_is_too_old_is_an_alarm_and_so_is_one_that_will_be() -> None:
    rule = ScheduleRule(Rpo(15 * M))
    old = job(rule, point_time=NOW - 16 * M)
    assert [a.kind for a in plan_round(NOW, [old], ConcurrencyLimits()).alarms] == [
        AlarmKind.VIOLATED
    ]
    late = job(rule, point_time=NOW - 10 * M, durations_s=(600.0,))
    assert [a.kind for a in plan_round(NOW, [late], ConcurrencyLimits()).alarms] == [
        AlarmKind.PREDICTED
    ]
    good = job(rule, point_time=NOW - 10 * M, durations_s=(60.0,))
    assert plan_round(NOW, [good], ConcurrencyLimits()).alarms == ()


def test_a_point_whose_time_lies_ahead_keeps_no_target_and_has_no_age() -> None:
    ahead = job(ScheduleRule(Rpo(H)), point_time=NOW + 26 * H, last_start=NOW - M)
    (alarm,) = plan_round(NOW, [ahead], ConcurrencyLimits()).alarms
    assert (alarm.kind, alarm.age, alarm.ahead) == (AlarmKind.VIOLATED, None, True)
    in_step = replace(ahead, point_time=NOW + timedelta(seconds=5))
    assert plan_round(NOW, [in_step], ConcurrencyLimits()).alarms == ()
    assert point_age(NOW, in_step) == timedelta(0)


def test_a_window_that_opens_too_late_is_predicted_for_any_kind_of_schedule() -> None:
    night = Opening((Hours.parse("22:00-03:00"),))
    rule = ScheduleRule(Cron("0 22 * * *"), opening=night, rpo=12 * H)
    (alarm,) = plan_round(NOW, [job(rule, point_time=NOW - H)], ConcurrencyLimits()).alarms
    assert alarm.kind is AlarmKind.PREDICTED
    assert alarm.at == NOW + 11 * H


@pytest.mark.parametrize("age", [M, 20 * M])
@pytest.mark.parametrize("why", ["paused", "disabled"])
def test_a_job_that_somebody_has_stopped_raises_no_alarm(age: timedelta, why: str) -> None:
    rule = ScheduleRule(Rpo(15 * M))
    stopped = replace(job(rule, point_time=NOW - age), **{why: True})  # type: ignore[arg-type]
    assert plan_round(NOW, [stopped], ConcurrencyLimits()).alarms == ()


# -- for all --------------------------------------------------------------------------------------

RULES = st.builds(
    ScheduleRule,
    st.sampled_from([Cron("*/7 * * * *"), Cron("0 3 * * *"), Every(20 * M), Rpo(15 * M)]),
    zone=st.sampled_from([BERLIN, ZoneInfo("UTC"), ZoneInfo("America/New_York")]),
    opening=st.sampled_from([Opening(), Opening((Hours.parse("mon-fri 22:00-06:00"),))]),
    jitter=st.sampled_from([timedelta(0), 5 * M]),
    priority=st.integers(0, 2),
)
AGES = st.none() | st.integers(0, 3000).map(lambda s: NOW - timedelta(seconds=s))
RESOURCES = st.sets(st.sampled_from(["host:1", "host:2", "datastore:1", "datastore:2"])).map(tuple)
STANDINGS = st.builds(
    JobRecord,
    name=st.just(""),
    rule=RULES,
    since=st.just(NOW - H),
    last_start=AGES,
    last_end=AGES,
    failures=st.integers(0, 5),
    point_time=AGES,
    durations_s=st.lists(st.floats(1, 900), max_size=3).map(tuple),
    running=st.booleans(),
    paused=st.booleans(),
    resources=RESOURCES,
)


@given(st.lists(STANDINGS, max_size=25), st.integers(1, 3), st.integers(1, 3), st.integers(1, 12))
def test_limits_hold_no_job_runs_twice_and_nothing_due_is_forgotten(
    made: list[JobRecord], hosts: int, stores: int, total: int
) -> None:
    jobs = [replace(j, name=f"j{n}") for n, j in enumerate(made)]
    limits = ConcurrencyLimits(hosts, stores, total)
    tick = plan_round(NOW, jobs, limits)
    assert tick == plan_round(NOW, list(jobs), limits)
    by_name = {j.name: j for j in jobs}
    running = [j for j in jobs if j.running]
    started = [by_name[s.job] for s in tick.starts]
    assert not any(j.running or j.paused for j in started)
    before, after = Counter[str](), Counter[str]()
    for j in running:
        before.update(j.resources)
    after.update(before)
    for j in started:
        after.update(j.resources)
    assert all(n <= max(limits.of(r), before[r]) for r, n in after.items())
    assert len(running) + len(started) <= max(total, len(running))
    told = [s.job for s in tick.starts] + [w.job for w in tick.waiting]
    assert len(told) == len(set(told))
    assert set(told) == {j.name for j in jobs if not j.running and not j.paused and due(NOW, j)}
