"""A run that is going on is paused and resumed from outside, and says so; limits are the job's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.job_file import STATE, job_table, site_table
from tests.support.waiting import until
from vreplica.config import load
from vreplica.config.errors import JobFileInvalid
from vreplica.delta.control import Control
from vreplica.delta.throttle import Throttle, Window
from vreplica.hours import parse
from vreplica.sync.events import ReplicationEvent
from vreplica.sync.job import Job, Limits
from vreplica.sync.job_dir import job_lock
from vreplica.sync.pause import NotRunning, PauseWatch, pause_run, resume_run
from vreplica.units import MIB

CONFIG = STATE + site_table() + job_table("web01")


@pytest.fixture
def job_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Job]:
    monkeypatch.setenv("PASSWORD", "x")

    def make(more: str = "") -> Job:
        file = tmp_path / "jobs.toml"
        file.write_text(CONFIG + more)
        return load(file)["web01"]

    return make


def test_only_a_run_that_is_going_on_can_be_paused(job_of: Callable[..., Job]) -> None:
    job = job_of()
    for ask in (pause_run, resume_run):
        with pytest.raises(NotRunning):
            ask(job)
    with job_lock(job):
        assert pause_run(job) == os.getpid()
    with pytest.raises(NotRunning):
        resume_run(job)


def test_a_paused_run_holds_says_what_grows_and_goes_on(job_of: Callable[..., Job]) -> None:
    job, control, heard, size = job_of(), Control(), list[str](), [5 * MIB]

    def tell(event: ReplicationEvent) -> None:
        heard.append(str(event))

    with job_lock(job), PauseWatch(job, control, tell, poll_s=0.001, repeat_s=0.002) as holding:
        pause_run(job)
        until("it is paused", lambda: control.paused)
        with holding.measuring(lambda: size[0]):
            resume_run(job)
            until("it goes on", lambda: not control.paused)
            pause_run(job)
            until(
                "it is paused and has said so again",
                lambda: control.paused and sum("snapshot grows" in h for h in heard) == 2,
            )
            size[0] += 7 * MIB
            until("growth is said", lambda: any("has grown by 7 MiB" in h for h in heard))
        resume_run(job)
        until("it goes on", lambda: not control.paused)
        pause_run(job)
        until("it is paused", lambda: control.paused)
    assert not control.paused, "the end of a run ends its pause"
    assert not (job.job_dir / "paused").exists()
    assert any("resumed after" in h for h in heard)


def test_a_pause_that_a_killed_run_left_does_not_hold_the_next_one(
    job_of: Callable[..., Job],
) -> None:
    job, control = job_of(), Control()
    with job_lock(job):
        pause_run(job)
    with job_lock(job), PauseWatch(job, control, lambda event: None, poll_s=0.001):
        time.sleep(0.02)
        assert not control.paused


def test_a_run_takes_its_jobs_limits_and_gives_them_back(job_of: Callable[..., Job]) -> None:
    job = job_of("limits = { rate_mib_s = 50 }\n")
    own = Throttle(7.0)
    control = Control(own)
    with PauseWatch(job, control, lambda event: None):
        assert control.throttle is not None
        assert control.throttle.rate() == 50 * MIB
    assert control.throttle is own
    with PauseWatch(job, control, lambda event: None, limited=False):
        assert control.throttle is own
    with PauseWatch(replace(job, limits=Limits()), control, lambda event: None):
        assert control.throttle is own


def test_a_window_of_rate_0_is_told(job_of: Callable[..., Job]) -> None:
    limits = Limits(windows=(Window(0, parse("mon-sun")),))
    heard: list[str] = []
    job = replace(job_of(), limits=limits)
    with PauseWatch(job, Control(), lambda event: heard.append(str(event)), poll_s=0.001):
        until("a window is said", lambda: any("paused by a window" in h for h in heard))


def test_windows_go_by_the_zone_that_the_job_names(job_of: Callable[..., Job]) -> None:
    job = job_of(
        'limits = { timezone = "Asia/Tokyo", rate_mib_s = 9, windows = ['
        '{ when = "08:00-18:00", rate_mib_s = 0 }, { when = "sat,sun" }] }\naudit_percent = 2.5\n'
    )
    assert job.audit_share == 0.025
    noon = datetime(2026, 3, 2, 3, 0, tzinfo=UTC).astimezone(job.limits.zone)
    rates = [w.bytes_per_s for w in job.limits.windows if w.when.holds(noon)]
    assert rates == [0]
    assert job.limits.windows[1].bytes_per_s is None
    assert job.limits.bytes_per_s == 9 * MIB


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits = {}", "limits nothing"),
        ("limits = { rate_mib_s = 0 }", "is below 1"),
        ("limits = { rate_mib_s = 1.5 }", "is not a whole number"),
        ('limits = { timezone = "Berlin", rate_mib_s = 5 }', "is no time zone"),
        ('limits = { windows = [{ when = "mo-fr 8-18" }] }', "is not hours"),
        ("limits = { windows = [{ rate_mib_s = 5 }] }", "is missing"),
        ('limits = { windows = [{ when = "sat", rate = 5 }] }', "Known keys: rate_mib_s."),
        ("limits = { rat_mib_s = 5 }", "Did you mean rate_mib_s?"),
        ("limits = 5", "is not a table"),
        ("audit_percent = 101", "is above 100"),
        ('audit_percent = "a"', "is not a number"),
    ],
)
def test_a_slip_in_limits_is_told_with_its_line(
    text: str, said: str, job_of: Callable[..., Job]
) -> None:
    with pytest.raises(JobFileInvalid) as caught:
        job_of(text + "\n")
    shown = "\n".join([str(caught.value), *caught.value.explain()])
    assert said in shown
    assert f":{CONFIG.count(chr(10)) + 1}:" in shown
