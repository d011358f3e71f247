"""What was written in service is kept by an undo, or the undo stops with both sides as they were.

The model's `written` stands for the disks: it is the witness of what was there and where it went.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.failover_model import Killed, Model
from tests.support.reporting import quiet
from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import (
    FailoverChoices,
    FinalSync,
    OnShutdownTimeout,
    UndoChoices,
)
from vreplica.failover.machine.context import StepContext
from vreplica.failover.machine.errors import (
    NoRoomToKeep,
    NoSuchPointToBoot,
    NotPossibleNow,
    ReplicaCannotShutDown,
    ReplicaIsOn,
    ReplicaStaysOn,
    UndoStopped,
)
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.failover.machine.ports import Written
from vreplica.failover.machine.record import outcome_of
from vreplica.failover.machine.runner import (
    begin_failover,
    commit_failover,
    look_before_undo,
    undo_failover,
)
from vreplica.failover.machine.states import FailoverState
from vreplica.points import Level, NewerPoint, RecoveryPoint, Retention
from vreplica.points.side_branch import SideBranch

YES = FailoverChoices(shutdown_timeout_s=30, heartbeat_timeout_s=30)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    real = StepContext

    def work(*args, **kwargs):
        return real(*args, clock=lambda: float(next(ticks)), sleep=lambda _: None, **kwargs)

    monkeypatch.setattr("vreplica.failover.machine.runner.StepContext", work)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fo-1"


@pytest.fixture
def model(folder: Path) -> Model:
    """A replica in service that has written."""
    made = Model(writes="thirteen MB")
    begin_failover(folder, made, YES, quiet)
    return made


def test_what_was_written_in_service_is_kept_and_the_guest_is_shut_down(
    folder: Path, model: Model
) -> None:
    outcome = undo_failover(folder, model, quiet)
    assert outcome.state is FailoverState.UNDONE
    ((branch, content),) = model.sides
    assert (branch.id, content, branch.level) == ("un-1", "thirteen MB", Level.CLEAN_SHUTDOWN)
    kept = {key: outcome.facts[key] for key in ("kept", "kept_level", "written_bytes")}
    assert kept == {"kept": "un-1", "kept_level": "clean-shutdown", "written_bytes": 11}
    assert (model.source_on, model.replica_on, model.job_on) == (True, False, True)
    assert "PowerOff replica" not in model.calls
    order = ["ShutdownGuest replica", "keep un-1", "PowerOn source", "revert to fo-1-b", "enable"]
    assert [c for c in model.calls if c in order] == order


def test_how_much_was_written_is_known_before_the_undo_is_decided(
    folder: Path, model: Model
) -> None:
    calls = list(model.calls)
    assert look_before_undo(folder, model, UndoChoices()) == Written(11, exact=False)
    model.tracking = False
    assert look_before_undo(folder, model, UndoChoices()) == Written(None, exact=False)
    assert (model.calls, model.replica_on) == (calls, True), "it was only looked at"
    model.room = False
    with pytest.raises(NoRoomToKeep):
        look_before_undo(folder, model, UndoChoices())


def test_before_the_replica_was_started_nothing_can_have_been_written(folder: Path) -> None:
    model = Model()
    begin_failover(folder, model, YES, quiet, FailoverState.SYNCED)
    assert look_before_undo(folder, model, UndoChoices()) is None


def test_without_change_tracking_it_is_kept_and_its_size_is_not_known(
    folder: Path, model: Model
) -> None:
    model.tracking = False
    assert undo_failover(folder, model, quiet).facts["written_bytes"] is None
    assert model.sides[0][1] == "thirteen MB"


def test_nothing_written_leaves_no_branch(folder: Path) -> None:
    model = Model(writes="")
    begin_failover(folder, model, YES, quiet)
    outcome = undo_failover(folder, model, quiet)
    assert (outcome.state, outcome.facts["written_bytes"]) == (FailoverState.UNDONE, 0)
    assert model.sides == []


def test_without_room_the_undo_stops_before_anything_is_touched(folder: Path, model: Model) -> None:
    model.room, calls = False, list(model.calls)
    with pytest.raises(NoRoomToKeep) as error:
        undo_failover(folder, model, quiet)
    assert (error.value.exit_code, "--discard-written" in error.value.advice()) == (3, True)
    assert (model.calls, model.replica_on, model.written) == (calls, True, "thirteen MB")
    assert outcome_of(folder).state is FailoverState.RUNNING
    assert undo_failover(folder, model, quiet, UndoChoices(discard_written=True)).state is (
        FailoverState.UNDONE
    )
    assert model.sides == [], "only a word throws it away"


def test_a_snapshot_that_fails_leaves_the_replica_in_service(folder: Path, model: Model) -> None:
    real = model.keep_side_branch

    def full(*_: object) -> None:
        raise VReplicaError

    model.keep_side_branch = full  # type: ignore[method-assign]
    with pytest.raises(UndoStopped) as error:
        undo_failover(folder, model, quiet)
    assert error.value.exit_code == 3
    assert (model.replica_on, model.source_on, model.written) == (True, False, "thirteen MB")
    model.keep_side_branch = real  # type: ignore[method-assign]
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert model.sides[0][1] == "thirteen MB"


def test_a_source_that_somebody_started_meanwhile_is_never_joined_by_the_replica(
    folder: Path, model: Model
) -> None:
    def fails(*_: object) -> None:
        model.started_by_others()
        raise VReplicaError

    model.keep_side_branch = fails  # type: ignore[method-assign]
    with pytest.raises(VReplicaError, match="vm at main is on"):
        undo_failover(folder, model, quiet)
    assert (model.source_on, model.replica_on, model.written) == (True, False, "thirteen MB")


@pytest.mark.parametrize("policy", list(OnShutdownTimeout))
def test_a_guest_that_does_not_shut_down_is_powered_off_only_by_choice(
    folder: Path, model: Model, policy: OnShutdownTimeout
) -> None:
    if policy in (OnShutdownTimeout.USE_QUIESCED, OnShutdownTimeout.WAIT):
        pytest.skip("not an answer of undo, or one that waits for ever")
    model.replica_shuts_down_after = None
    choices = UndoChoices(on_shutdown_timeout=policy, shutdown_timeout_s=10)
    if policy is OnShutdownTimeout.POWER_OFF:
        assert undo_failover(folder, model, quiet, choices).state is FailoverState.UNDONE
        assert (model.sides[0][1], model.sides[0][0].level) == ("thirteen MB", Level.CRASH)
        return
    with pytest.raises(ReplicaStaysOn, match="may go off yet") as error:
        undo_failover(folder, model, quiet, choices)
    assert error.value.exit_code == 9
    assert (outcome_of(folder).state, model.replica_on) == (FailoverState.KEEPING, True)
    model._replica_shutting_down = 1
    assert undo_failover(folder, model, quiet, choices).state is FailoverState.UNDONE
    assert model.sides[0][1] == "thirteen MB"


def test_while_the_replica_is_on_a_commit_ends_an_undo_that_waits(
    folder: Path, model: Model
) -> None:
    model.replica_shuts_down_after = None
    with pytest.raises(ReplicaStaysOn):
        undo_failover(folder, model, quiet, UndoChoices(shutdown_timeout_s=5))
    model.replica_on = False
    with pytest.raises(NotPossibleNow):
        commit_failover(folder, model, quiet)
    model.replica_on, model._replica_shutting_down = True, None
    assert commit_failover(folder, model, quiet).state is FailoverState.COMMITTED
    assert model.written == "thirteen MB"


def test_without_tools_nothing_is_touched_unless_power_off_was_chosen(
    folder: Path, model: Model
) -> None:
    model.replica_tools, calls = False, list(model.calls)
    with pytest.raises(ReplicaCannotShutDown) as error:
        undo_failover(folder, model, quiet)
    assert (error.value.exit_code, model.calls, model.replica_on) == (3, calls, True)
    choices = UndoChoices(on_shutdown_timeout=OnShutdownTimeout.POWER_OFF, shutdown_timeout_s=5)
    assert undo_failover(folder, model, quiet, choices).state is FailoverState.UNDONE
    assert model.sides[0][1] == "thirteen MB"


def test_killed_at_any_call_of_an_undo_what_was_written_is_kept_once(tmp_path: Path) -> None:
    straight = Model(writes="thirteen MB")
    begin_failover(tmp_path / "straight" / "fo-1", straight, YES, quiet)
    first = straight.kill.passed
    undo_failover(tmp_path / "straight" / "fo-1", straight, quiet)
    for kill_at in range(first, straight.kill.passed):
        model, folder = Model(writes="thirteen MB"), tmp_path / str(kill_at) / "fo-1"
        begin_failover(folder, model, YES, quiet)
        model.kill.at = kill_at
        with pytest.raises(Killed):
            undo_failover(folder, model, quiet)
        model.kill.at = None
        undo_failover(folder, model, quiet)
        assert [content for _, content in model.sides] == ["thirteen MB"], kill_at
        assert (model.source_on, model.replica_on, model.job_on) == (True, False, True)


def test_a_replica_that_others_started_is_not_powered_off_by_an_undo(folder: Path) -> None:
    model = Model(source_on=False)
    model.sync = _fails  # type: ignore[method-assign]
    with pytest.raises(VReplicaError):
        begin_failover(folder, model, YES, quiet)
    model.replica_on = True
    with pytest.raises(ReplicaIsOn):
        undo_failover(folder, model, quiet)
    assert model.replica_on


def _fails(*_: object) -> RecoveryPoint:
    raise VReplicaError


def test_a_side_branch_boots_only_where_it_is_named(folder: Path, model: Model) -> None:
    undo_failover(folder, model, quiet)
    no = replace(YES, final_sync=FinalSync.NO)
    newest = begin_failover(folder.parent / "fo-2", model, no, quiet)
    assert newest.facts["point"] == "fo-1-b"
    assert "un-1" not in [p["point"] for p in newest.facts["others"]]
    undo_failover(folder.parent / "fo-2", model, quiet)
    named = replace(no, boot=PointChoice(point="un-1"))
    assert begin_failover(folder.parent / "fo-3", model, named, quiet).facts["point"] == "un-1"
    assert undo_failover(folder.parent / "fo-3", model, quiet).state is FailoverState.UNDONE
    gone = replace(no, boot=PointChoice(point="un-9"))
    with pytest.raises(NoSuchPointToBoot):
        begin_failover(folder.parent / "fo-4", model, gone, quiet)


def test_an_older_version_takes_a_side_branch_for_a_point_of_a_newer_one() -> None:
    """It is not the newest, not a base, not booted and not removed there."""
    made = SideBranch("un-1", "job", "fo-1", "p", Level.CRASH, Model().chain[0].time, None)
    values = made.to_extra_config()
    assert SideBranch.from_extra_config(values) == made
    assert RecoveryPoint.from_extra_config(values) is None
    newer = NewerPoint.from_extra_config(values, name="un-1")
    assert newer is not None
    assert newer.id == "un-1"
    assert json.loads(values["vreplica.side"])["written"] is None


def test_retention_holds_the_point_below_a_branch_and_counts_it() -> None:
    chain = [replace(Model().chain[0], id=str(n)) for n in range(12)]
    gone = [p.id for p in Retention(3).expired(chain, {"4"}, beside=1)]
    assert gone == ["5", "6", "7", "8"], "4 and what is before it stays"
    full = [replace(chain[0], id=str(n)) for n in range(29)]
    free = Retention(28).expired(full, {"4"})
    assert len(Retention(28).expired(full, {"4"}, beside=2)) == len(free) + 2
