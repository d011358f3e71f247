"""Lines on standard error: whose they are, what they look like, how loud they are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from vreplica.cli.render import failover_html, failover_text
from vreplica.cli.render.output import Output, Verbosity
from vreplica.errors import DiskClosed
from vreplica.failover.machine.journal import Entry
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
