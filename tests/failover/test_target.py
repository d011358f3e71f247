"""The targets of a failover in this process: a job and a group with the same verbs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.failover_model import Model
from tests.support.reporting import quiet
from vreplica.failover import operations
from vreplica.failover.machine.choices import FailoverChoices, OnError, OnShutdownTimeout
from vreplica.failover.machine.errors import NotPossibleNow, OptionNotForTarget
from vreplica.failover.machine.group_order import Group, Member
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.failover.target import FailoverTarget, GroupTarget, JobTarget
from vreplica.sync.job import Job, Placement
from vreplica.vsphere.model import Endpoint

CHOICES = FailoverChoices(shutdown_timeout_s=0.01, heartbeat_timeout_s=0.01)
NOWHERE = Endpoint("127.0.0.1", "u", "p", "AB" * 32)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Model]:
    made = {name: Model(name, shuts_down_after=1) for name in ("db", "web")}
    monkeypatch.setattr(operations, "VSpherePorts", lambda job, *_: nullcontext(made[job.name]))
    return made


@pytest.fixture(params=["job", "group"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> FailoverTarget:
    jobs = {
        name: Job(name, NOWHERE, name, NOWHERE, Placement("ds", f"{name}-r"), tmp_path)
        for name in ("db", "web")
    }
    if request.param == "job":
        return JobTarget(jobs["web"])
    return GroupTarget(Group("shop", (Member("db"), Member("web", ("db",)))), jobs, tmp_path)


def test_it_is_begun_shown_and_undone(target: FailoverTarget, models: dict[str, Model]) -> None:
    outcome = target.begin(CHOICES, quiet, id_="fo-mine")
    assert (outcome.id, str(outcome.state)) == ("fo-mine", "running")
    assert (outcome.committed, outcome.given_up, outcome.incomplete) == (False, False, False)
    unfinished = target.unfinished()
    assert unfinished is not None
    assert unfinished.id == target.show().to_dict()["failover"] == "fo-mine"
    assert str(target.undo(quiet).state) == "undone"
    assert target.unfinished() is None
    assert [each.id for each in target.history().failovers] == ["fo-mine"]
    assert models["web"].source_on


def test_an_undo_is_previewed_with_what_was_written(
    target: FailoverTarget, models: dict[str, Model]
) -> None:
    target.begin(CHOICES, quiet, id_="fo-mine")
    shown = target.preview_undo().to_dict()
    for one in shown.get("members", [shown]):
        said = {k: one[k] for k in ("vm", "site", "back_to_vm", "written_bytes", "keeps")}
        expected = {"vm": "vm-replica", "site": "dr", "back_to_vm": "vm", "written_bytes": 1}
        assert said == {**expected, "keeps": "un-mine"}
    assert all(model.replica_on for model in models.values() if model.calls)
    target.undo(quiet)
    ended = target.preview_undo().to_dict()
    assert all(not one["started"] for one in ended.get("members", [ended]))


@pytest.mark.usefixtures("models")
def test_a_failover_that_has_ended_is_not_resumed(target: FailoverTarget) -> None:
    target.begin(CHOICES, quiet)
    target.undo(quiet)
    with pytest.raises(NotPossibleNow, match="is undone: to resume it is not possible") as refused:
        target.resume(quiet)
    assert refused.value.exit_code == 9


@pytest.mark.usefixtures("models")
def test_a_commit_with_the_begin_waits_for_the_answer(target: FailoverTarget) -> None:
    assert target.begin(CHOICES, quiet, commit=True).committed


def test_a_guest_that_does_not_answer_is_not_committed(
    target: FailoverTarget, models: dict[str, Model]
) -> None:
    models["web"].heartbeat = False
    assert not target.begin(CHOICES, quiet, commit=True).committed
    assert target.unfinished() is not None


def test_a_guest_that_cannot_be_shut_down_gives_a_job_up_and_stops_a_group(
    target: FailoverTarget, models: dict[str, Model]
) -> None:
    models["web"].tools = False
    outcome = target.begin(replace(CHOICES, on_shutdown_timeout=OnShutdownTimeout.ABORT), quiet)
    alone = isinstance(target, JobTarget)
    assert (outcome.given_up, outcome.incomplete) == (alone, not alone)


def test_a_group_refuses_the_options_of_one_job(tmp_path: Path) -> None:
    target = GroupTarget(Group("shop", (Member("db"),)), {}, tmp_path, OnError.CONTINUE)
    with pytest.raises(OptionNotForTarget, match=r"--point is not possible for group:shop"):
        target.preview(boot=PointChoice("p1"))
    with pytest.raises(OptionNotForTarget, match=r"--point web=ID is not possible"):
        target.preview(boot=PointChoice(members={"web": "p1"}))
    with pytest.raises(OptionNotForTarget, match="--new-vm"):
        target.preview_back(new_vm="ds")
    with pytest.raises(OptionNotForTarget, match="--source-lost"):
        target.resume(quiet, source_lost=True)
    with pytest.raises(OptionNotForTarget, match="--point"):
        target.begin(replace(CHOICES, boot=PointChoice("p1")), quiet)
