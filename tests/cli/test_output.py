"""Lines on standard error: whose they are, what they look like, how loud they are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from vreplica.cli.render import failover_html, failover_text
from vreplica.cli.render.output import Output, Verbosity
from vreplica.errors import DiskClosed
from vreplica.failover.machine.journal import Entry
from vreplica.failover.machine.progress import in_words
from vreplica.failover.machine.record import Outcome, record_of
from vreplica.failover.machine.states import FailoverEvent, FailoverState
from vreplica.sync.errors import JobBusy

TIME = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
log = logging.getLogger("vreplica.vddk")


@pytest.mark.parametrize(
    ("job", "vm", "told"),
    [
        ("db", None, "error: db: [ds] db01/db01.vmdk is closed\n"),
        ("db", "db01", "error: db: db01: [ds] db01/db01.vmdk is closed\n"),
        ("db01", "db01", "error: db01: [ds] db01/db01.vmdk is closed\n"),
    ],
)
def test_an_error_names_its_job_also_where_other_names_contain_that(
    job: str, vm: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Output().error(DiskClosed("[ds] db01/db01.vmdk").at(vm=vm), job)
    assert capsys.readouterr().err.startswith(told)


def test_an_error_that_tells_of_its_job_is_not_told_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output().error(JobBusy(job="db", pid="7"), "db")
    assert capsys.readouterr().err.startswith("error: job db is already running")


@pytest.mark.parametrize(
    ("verbosity", "debug", "told"),
    [
        (Verbosity.QUIET, False, []),
        (Verbosity.NORMAL, False, ["warning: lost"]),
        (Verbosity.VERBOSE, False, ["warning: lost", "open"]),
        (Verbosity.NORMAL, True, ["warning: lost", "open", "VixDiskLib: detail"]),
    ],
)
def test_what_is_logged_has_the_form_and_the_loudness_of_other_lines(
    verbosity: Verbosity, debug: bool, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Output(verbosity=verbosity, debug=debug).showing_logs():
        log.warning("lost")
        log.info("open")
        log.debug("VixDiskLib: detail")
    assert capsys.readouterr().err.splitlines() == told


@pytest.mark.parametrize(
    ("events", "state", "label"),
    [
        ([FailoverEvent.POINT_SETTLED], FailoverState.SYNCED, "point"),
        (
            [
                FailoverEvent.POINT_SETTLED,
                FailoverEvent.FENCE_CHECKED,
                FailoverEvent.REPLICA_STARTED,
            ],
            FailoverState.BOOTING,
            "booted",
        ),
        (
            [FailoverEvent.POINT_SETTLED, FailoverEvent.UNDO_ASKED, FailoverEvent.BOTH_PUT_BACK],
            FailoverState.UNDONE,
            "point",
        ),
    ],
)
def test_only_a_point_that_runs_is_said_to_be_booted(
    events: list[FailoverEvent],
    state: FailoverState,
    label: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = [FailoverEvent.JOB_DISABLED, FailoverEvent.SOURCE_SEEN_OFF]
    entries = [Entry(1, 1, TIME, "begin", "", None, {})]
    for n, event in enumerate([*before, *events], 2):
        settled = {"point": "p1", "level": "crash"} if event is FailoverEvent.POINT_SETTLED else {}
        entries.append(Entry(n, 1, TIME, "event", "", event, settled))
    record = record_of("web01", "fo-1", entries)
    assert record.state is state
    Output().show(*failover_text.record(record))
    assert f"  {label}" in capsys.readouterr().out
    assert f"<dt>{label}</dt><dd>p1 (crash)</dd>" in failover_html.job(record)
    facts = {**record.facts, "source": "powered off"}
    Output().show(*failover_text.outcome("web01", Outcome("fo-1", state, facts)))
    told = capsys.readouterr().out
    assert ("p1" in told) == (label == "booted")
    assert ("powered off" in told) == (state is not FailoverState.UNDONE), "it is as before"


SIDES = {
    "source": {"vm": "web01", "site": "main"},
    "replica": {"vm": "web01-replica", "site": "dr"},
}


@pytest.mark.parametrize(
    ("id_", "state", "more", "told"),
    [
        (
            "fo-1",
            FailoverState.RUNNING,
            {"source": "powered off"},
            [
                "web01: in service at dr (not committed), fo-1",
                "runs web01-replica at dr, host esx7, network dr net, address 10.2.0.5",
                "booted p1 (crash, data from 2026-03-01 12:30:00Z, 2 min 36 s old",
                "downtime 12.0 s",
                "replication off, until commit or undo",
            ],
        ),
        (
            "fo-1",
            FailoverState.COMMITTED,
            {},
            ["web01: in service at dr (failover committed)", "replication off, until a failback"],
        ),
        ("fb-1", FailoverState.COMMITTED, {}, ["replication on again"]),
        (
            "fo-1",
            FailoverState.UNDONE,
            {"source_now": "on", "kept": "un-1", "kept_level": "crash", "written_bytes": 13 << 20},
            [
                "web01: put back to main, fo-1",
                "web01 on",
                "13 MiB written in service",
                "replication on again",
            ],
        ),
    ],
)
def test_an_outcome_names_site_host_address_age_downtime_and_what_replication_does(
    id_: str,
    state: FailoverState,
    more: dict[str, Any],
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = {
        "sides": SIDES,
        "point": "p1",
        "level": "crash",
        "taken": TIME.isoformat(),
        "answered": True,
        "runs": {"host": "esx7", "addresses": ["10.2.0.5"], "networks": ["dr net"]},
        **more,
    }
    Output().show(*failover_text.outcome("web01", Outcome(id_, state, facts, 12.0, 156.0)))
    said = " ".join(capsys.readouterr().out.split())
    assert all(text in said for text in told), said


def test_steps_are_counted_and_name_both_sides() -> None:
    facts = {"sides": SIDES, "point": "p1", "level": "crash", "source": "shut down by its guest"}
    assert in_words(FailoverEvent.JOB_DISABLED, facts) == "1/6 schedule paused"
    said = in_words(FailoverEvent.FENCE_CHECKED, facts)
    assert said == "5/6 web01 at main confirmed off, web01-replica at dr stands on p1"
    lost = {**facts, "source": "declared lost by the operator"}
    assert "confirmed" not in in_words(FailoverEvent.FENCE_CHECKED, lost), "nobody asked it"
    for event in FailoverEvent:
        assert in_words(event, {}), "journals of older versions have no names"
