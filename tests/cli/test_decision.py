"""What the operator is asked before a failover: by names, and a flagged point is asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.support.failover_model import point
from tests.support.vms import make_vm
from vreplica.cli.commands.failover import confirm, decision
from vreplica.cli.commands.failover.options import BeginOptions
from vreplica.cli.commands.failover.point_options import PointOptions
from vreplica.cli.render.output import Output
from vreplica.failover.estimate import Measured, estimate
from vreplica.failover.group.preview import GroupPreview
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.errors import PointIsFlagged
from vreplica.failover.machine.group_order import Group, Member
from vreplica.failover.preview import Preview
from vreplica.failover.target import FailoverPreview
from vreplica.points import Level
from vreplica.vsphere.model import VmRef

NOW = datetime(2026, 1, 1, 6, tzinfo=UTC)
POINTS = tuple(point(f"p{n}", Level.APPLICATION, n) for n in range(3))
FLAGGED = PointIsFlagged(point="p2", flagged="p1", reason="entropy", clean="p0")
OPTIONS = BeginOptions(
    final_sync=None,
    on_shutdown_timeout="abort",
    shutdown_timeout=1,
    heartbeat_timeout=1,
    boot=PointOptions(),
    require="crash",
    max_downtime=None,
    disconnect_source_nics=False,
    source_lost=False,
    dry_run=False,
    confirm=None,
    commit=False,
    on_error=None,
    by_service=False,
)


def known(job: str = "web01", flagged: PointIsFlagged | None = FLAGGED) -> Preview:
    return Preview(
        job=job,
        source=make_vm(VmRef("vm-1", job), power_state="poweredOn", tools_running=True),
        source_trouble=None,
        replica=make_vm(VmRef("vm-2", f"{job}-replica")),
        points=POINTS,
        boots=None if flagged else POINTS[-1],
        boots_none="flagged" if flagged else None,
        insured_level=Level.APPLICATION,
        remarks=(),
        estimate=estimate(POINTS, Measured(), running=True, parallel=1, now=NOW),
        seen=NOW,
        source_vm=job,
        source_site="main",
        replica_site="dr",
        flagged=flagged,
    )


def decide(
    monkeypatch: pytest.MonkeyPatch, what: FailoverPreview, typed: str, options: BeginOptions
) -> tuple[FailoverChoices | None, str]:
    """The decision of somebody at a terminal who types these words, and the questions."""
    words, asked = iter(typed.split()), list[str]()

    def prompt(question: str, **_: object) -> str:
        asked.append(question)
        return next(words)

    for module in (decision, confirm):
        monkeypatch.setattr(module, "can_ask", lambda _: True)
        monkeypatch.setattr(module, "prompt", prompt)
    made = decision.decide(Output(), what, options, "web01")
    assert next(words, None) is None, "all that was typed was asked for"
    return made, "\n".join(asked)


@pytest.mark.parametrize(
    ("typed", "booted"),
    [("2 1 web01", "p0"), ("2 2 web01", "p2"), ("no what 1 web01", "p0"), ("2 c", None)],
)
def test_a_flagged_newest_point_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, typed: str, booted: str | None
) -> None:
    made, asked = decide(monkeypatch, known(), typed, OPTIONS)
    assert (made.boot.point if made is not None else None) == booted
    assert "Which point of web01 boots? 1 p0, the newest from before it, 2 p2" in asked


def test_where_the_answer_is_an_option_it_is_asked_for_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = replace(OPTIONS, final_sync="no", confirm="web01")
    made, asked = decide(monkeypatch, known(), "1", options)
    assert made is not None
    assert (made.boot.point, asked.count("Which point")) == ("p0", 1)


def test_of_a_group_each_flagged_member_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group("shop", (Member("db01"), Member("web01")))
    members = (known("db01", None), known("web01"))
    made, asked = decide(monkeypatch, GroupPreview(group, (), members), "2 1 web01", OPTIONS)
    assert made is not None
    assert dict(made.boot.members) == {"web01": "p0"}
    assert "Which point of db01" not in asked


def test_without_a_terminal_it_is_left_to_the_refusal() -> None:
    options = replace(OPTIONS, final_sync="no", confirm="web01")
    made = decision.decide(Output(as_json=True), known(), options, "web01")
    assert made is not None
    assert made.boot.point is None, "exit 3, before anything is changed (test_point_choice)"


def test_the_question_and_the_preview_name_both_sides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, asked = decide(monkeypatch, known(flagged=None), "c", OPTIONS)
    assert made is None
    assert asked.startswith("How shall web01 move to dr? 1 planned, 2 emergency")
    shown = capsys.readouterr().out
    assert "web01 at main, poweredOn" in shown
    assert "web01-replica at dr, poweredOff" in shown
    value = known().to_dict()
    names = [value[k] for k in ("source_vm", "source_site", "replica_vm", "replica_site")]
    assert names == ["web01", "main", "web01-replica", "dr"]
    assert value["flagged"]["clean"] == "p0"


def test_before_a_failback_the_vm_in_service_and_its_original_are_named_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    back = replace(known(flagged=None), back=True)
    decide(monkeypatch, back, "c", OPTIONS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["in", "service", "web01", "at", "main,", "poweredOn,", "Tools", "running"] in lines
    assert ["original", "web01-replica", "at", "dr,", "poweredOff"] in lines
