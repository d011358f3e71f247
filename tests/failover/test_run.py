"""Failover against a model of both sites that dies at every call: rules R1 to R5, all paths."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.failover_model import Killed, Model, point
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
    ChosenLevelTooLow,
    FailoverTakenOver,
    GuestRulesDoNotFit,
    GuestStaysOn,
    LevelTooLow,
    NoPointToBoot,
    NoSuchPointToBoot,
    NotPossibleNow,
    ReplicaIsOn,
    SourceIsOn,
    SourceNotReached,
    SourceRan,
    UndoRefused,
)
from vreplica.failover.machine.journal import Journal, load
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.runner import (
    begin_failover,
    commit_failover,
    resume_failover,
    undo_failover,
)
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.machine.steps.finish import settle_direction
from vreplica.points import Level, RecoveryPoint
from vreplica.points.preference import Preference
from vreplica.sync.errors import PreflightFailed


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by itself: every look at the clock is a second later."""
    ticks = itertools.count()
    real = StepContext

    def work(*args, **kwargs):
        return real(*args, clock=lambda: float(next(ticks)), sleep=lambda _: None, **kwargs)

    monkeypatch.setattr("vreplica.failover.machine.runner.StepContext", work)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "f1"


class Fault(VReplicaError):
    """Whatever vCenter, a host or a datastore can fail with."""


def break_at(model: Model, method: str, number: int) -> Callable[..., object]:
    """Have that call of a method raise Fault, counted from 0; the real method."""
    real, calls = getattr(model, method), itertools.count()

    def broken(*args: object) -> object:
        if next(calls) == number:
            raise Fault
        return real(*args)

    setattr(model, method, broken)
    return real


YES = FailoverChoices(shutdown_timeout_s=30, heartbeat_timeout_s=30)
NO = replace(YES, final_sync=FinalSync.NO)


def test_yes_shuts_the_guest_down_and_boots_a_point_of_its_own(folder: Path) -> None:
    model = Model()
    outcome = begin_failover(folder, model, YES, quiet)
    assert outcome.state is FailoverState.RUNNING
    assert model.calls == [
        "disable",
        "sync f1-a",
        "ShutdownGuest",
        "sync f1-b",
        "PowerOn replica",
    ]
    assert [p.id for p in model.chain] == ["old", "f1-a", "f1-b"]
    assert model.chain[-1].level is Level.CLEAN_SHUTDOWN
    assert outcome.facts["answered"] is True
    assert commit_failover(folder, model, quiet).state is FailoverState.COMMITTED


@pytest.mark.parametrize(
    ("policy", "state", "booted", "level"),
    [
        (OnShutdownTimeout.ABORT, FailoverState.ABORTED, None, None),
        (OnShutdownTimeout.USE_QUIESCED, FailoverState.RUNNING, "f1-a", Level.APPLICATION),
        (OnShutdownTimeout.POWER_OFF, FailoverState.RUNNING, "f1-b", Level.CRASH),
    ],
)
@pytest.mark.parametrize("trouble", ["hangs", "no tools"])
def test_a_guest_that_does_not_shut_down(
    folder: Path,
    policy: OnShutdownTimeout,
    state: FailoverState,
    booted: str | None,
    level: Level | None,
    trouble: str,
) -> None:
    model = Model(shuts_down_after=None) if trouble == "hangs" else Model(tools=False)
    if trouble == "hangs" and policy is OnShutdownTimeout.ABORT:
        return  # it was asked: test_an_abort_after_the_guest_was_asked...
    outcome = begin_failover(folder, model, replace(YES, on_shutdown_timeout=policy), quiet)
    assert outcome.state is state
    assert outcome.facts.get("point") == booted
    assert [p.id for p in model.chain][:2] == ["old", "f1-a"], "the insurance stays"
    if state is FailoverState.ABORTED:
        assert model.source_on
        assert model.job_on
        assert "PowerOff source" not in model.calls
    else:
        assert outcome.facts["level"] == level.value
        assert model.replica_on


@pytest.mark.parametrize("then", ["resume", "undo", "undo too early"])
def test_an_abort_after_the_guest_was_asked_does_not_switch_the_job_on(
    folder: Path, then: str
) -> None:
    """The guest may go off a minute later: with the job on, both VMs were off and no way back."""
    model = Model(shuts_down_after=None)
    with pytest.raises(GuestStaysOn, match="may go off yet") as error:
        begin_failover(folder, model, YES, quiet)
    assert error.value.exit_code == 9
    assert all(verb in error.value.advice() for verb in ("resume", "undo"))
    assert outcome_of(folder).state is FailoverState.SHUTTING_DOWN
    assert (model.source_on, model.replica_on, model.job_on) == (True, False, False)
    with pytest.raises(GuestStaysOn):
        resume_failover(folder, model, quiet)
    if then != "undo too early":
        model.source_on = False  # the guest goes off at last
    if then == "resume":
        assert resume_failover(folder, model, quiet).state is FailoverState.RUNNING
        assert (model.source_on, model.replica_on) == (False, True)
        return
    outcome = undo_failover(folder, model, quiet)
    assert outcome.state is FailoverState.UNDONE
    assert (model.source_on, model.replica_on, model.job_on) == (True, False, True)
    late = then == "undo too early"
    assert ("may do so yet" in outcome.facts["source_now"]) == late
    assert "PowerOff source" not in model.calls


def test_waiting_on_is_what_wait_does(folder: Path) -> None:
    model = Model(shuts_down_after=100)
    choices = replace(YES, on_shutdown_timeout=OnShutdownTimeout.WAIT)
    assert begin_failover(folder, model, choices, quiet).state is FailoverState.RUNNING
    assert "PowerOff source" not in model.calls


@pytest.mark.parametrize(
    ("seconds", "limit", "made"),
    [
        ([300], 600, ["f1-a"]),
        ([900, 300, 50], 100, ["f1-a", "f1-a2", "f1-a3"]),
        ([900, 800], 100, ["f1-a", "f1-a2"]),
        ([6400, 3200, 1600, 800, 400, 200], 10, ["f1-a", "f1-a2", "f1-a3", "f1-a4", "f1-a5"]),
    ],
)
def test_passes_are_repeated_until_one_is_short_or_they_do_not_shrink(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[int],
    limit: float,
    made: list[str],
) -> None:
    model = Model()
    now = [0.0]
    real = model.sync

    def sync(id_: str, known_level: Level | None, fence: Callable[[], None]) -> RecoveryPoint:
        now[0] += seconds.pop(0) if seconds else 1
        return real(id_, known_level, fence)

    def work(*args, **kwargs):
        return StepContext(*args, clock=lambda: now[0], sleep=lambda s: None, **kwargs)

    model.sync = sync  # type: ignore[method-assign]
    monkeypatch.setattr("vreplica.failover.machine.runner.StepContext", work)
    outcome = begin_failover(folder, model, replace(YES, max_downtime_s=limit), quiet)
    assert [p.id for p in model.chain] == ["old", *made, "f1-b"]
    assert outcome.facts["point_a"] == made[-1]


@pytest.mark.parametrize(
    ("prefer", "booted"),
    [(None, ("f1-a2", "crash")), (Preference(Level.APPLICATION), ("f1-a", "application"))],
)
def test_use_quiesced_boots_the_newest_of_its_own_points_unless_another_is_preferred(
    folder: Path, prefer: Preference | None, booted: tuple[str, str]
) -> None:
    model = Model(shuts_down_after=None)
    real = model.sync

    def sync(id_: str, known_level: Level | None, fence: Callable[[], None]) -> RecoveryPoint:
        made = real(id_, known_level, fence)
        model.quiesced = Level.CRASH
        return made

    model.sync = sync  # type: ignore[method-assign]
    policy = OnShutdownTimeout.USE_QUIESCED
    boot = PointChoice(prefer=prefer)
    choices = replace(YES, on_shutdown_timeout=policy, max_downtime_s=0, boot=boot)
    outcome = begin_failover(folder, model, choices, quiet)
    assert (outcome.facts["point"], outcome.facts["level"]) == booted


def test_a_source_whose_cards_were_disconnected_gets_them_back_by_undo(folder: Path) -> None:
    model = Model()
    begin_failover(folder, model, replace(YES, disconnect_source_nics=True), quiet)
    assert not model.source_connected
    assert model.calls.index("disconnect source") < model.calls.index("PowerOn replica")
    undo_failover(folder, model, quiet)
    assert model.source_connected
    assert model.calls.index("connect source") < model.calls.index("PowerOn source")


@pytest.mark.parametrize("ends", ["at the console", "by tools that come back"])
def test_wait_goes_on_without_tools_until_it_is_off(folder: Path, ends: str) -> None:
    model = Model(tools=False)
    looks = itertools.count()

    def can_shut_down() -> bool:
        if next(looks) == 5:
            if ends == "at the console":
                model.source_on = False
            else:
                model.tools = True
        return model.tools

    model.source_can_shut_down = can_shut_down  # type: ignore[method-assign]
    choices = replace(YES, on_shutdown_timeout=OnShutdownTimeout.WAIT)
    outcome = begin_failover(folder, model, choices, quiet)
    assert outcome.state is FailoverState.RUNNING
    assert "PowerOff source" not in model.calls
    # How a source that nobody asked went down is not known.
    level = Level.CRASH if ends == "at the console" else Level.CLEAN_SHUTDOWN
    assert outcome.facts["level"] == level.value


def test_a_plug_that_somebody_else_pulls_meanwhile_counts_as_crash(folder: Path) -> None:
    model = Model(pulled=True)
    outcome = begin_failover(folder, model, YES, quiet)
    assert (outcome.facts["source"], outcome.facts["level"]) == ("powered off by others", "crash")


def test_undo_leaves_a_source_off_that_was_off_before(folder: Path) -> None:
    model = Model(source_on=False)
    begin_failover(folder, model, YES, quiet)
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert not model.source_on
    assert not model.replica_on
    assert model.job_on


def test_undo_says_where_a_guest_that_was_asked_has_not_shut_down(folder: Path) -> None:
    model = Model(shuts_down_after=None)

    def fails_once_it_was_asked() -> bool:
        if outcome_of(folder).state is FailoverState.INSURED:
            return True
        raise Fault

    model.source_can_shut_down = fails_once_it_was_asked  # type: ignore[method-assign]

    policy = OnShutdownTimeout.WAIT
    with pytest.raises(Fault):
        begin_failover(folder, model, replace(YES, on_shutdown_timeout=policy), quiet)
    outcome = undo_failover(folder, model, quiet)
    assert outcome.state is FailoverState.UNDONE
    assert "may do so yet" in outcome.facts["source_now"]
    assert (model.source_on, model.job_on) == (True, True)


def test_undo_leaves_the_replica_in_service_where_the_source_cannot_be_read(folder: Path) -> None:
    model = Model()
    begin_failover(folder, model, YES, quiet)
    calls, off = list(model.calls), model.source_is_off

    def gone() -> bool:
        raise Fault

    model.source_is_off = gone  # type: ignore[method-assign]
    with pytest.raises(UndoRefused) as refused:
        undo_failover(folder, model, quiet)
    assert (refused.value.exit_code, "--even-without-source" in refused.value.advice()) == (3, True)
    assert (outcome_of(folder).state, model.calls, model.replica_on) == (
        FailoverState.RUNNING,
        calls,
        True,
    )
    model.source_is_off = off  # type: ignore[method-assign]
    outcome = undo_failover(folder, model, quiet)
    assert (outcome.state, outcome.facts["source_now"]) == (FailoverState.UNDONE, "on")


@pytest.mark.parametrize("lost", [True, False])
def test_only_a_word_stops_the_replica_without_a_source_that_can_run(
    folder: Path, lost: bool
) -> None:
    """Also after --source-lost: then the source may be the one that does not exist any more."""
    model = Model(source_on=not lost)
    begin_failover(folder, model, replace(YES, source_lost=lost), quiet)

    def gone() -> bool:
        raise Fault

    model.source_is_off = gone  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(UndoRefused):
            undo_failover(folder, model, quiet)
        assert model.replica_on
        assert outcome_of(folder).state is FailoverState.RUNNING
    outcome = undo_failover(folder, model, quiet, UndoChoices(even_without_source=True))
    assert (outcome.state, model.replica_on, model.job_on) == (FailoverState.UNDONE, False, True)
    assert outcome.facts["source_now"] == "not asked, and left as it is"
    assert "PowerOn source" not in model.calls
    said = [str(entry.event) for entry in load(folder) if entry.event is not None]
    assert not any("both" in event for event in said)


def test_an_undo_of_a_lost_source_that_answers_again_starts_it(folder: Path) -> None:
    model = Model(source_on=False)
    begin_failover(folder, model, replace(YES, source_lost=True), quiet)
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert (model.source_on, model.replica_on) == (True, False)


def test_a_host_that_is_lost_during_the_undo_keeps_the_replica_in_service(folder: Path) -> None:
    """Each step looks again: what was read before the undo began may be over."""
    model = Model()
    begin_failover(folder, model, YES, quiet)
    looks, real = itertools.count(), model.source_is_off

    def lost_at_once() -> bool:
        if next(looks) > 0:
            raise Fault
        return real()

    model.source_is_off = lost_at_once  # type: ignore[method-assign]
    with pytest.raises(UndoRefused):
        undo_failover(folder, model, quiet)
    assert model.replica_on
    model.source_is_off = real  # type: ignore[method-assign]
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE


def test_an_undo_whose_point_is_gone_leaves_the_replica_in_service(folder: Path) -> None:
    model = Model()
    begin_failover(folder, model, YES, quiet)
    model.chain = [p for p in model.chain if p.id != "f1-b"]
    with pytest.raises(NoPointToBoot):
        undo_failover(folder, model, quiet)
    assert (model.replica_on, outcome_of(folder).state) == (True, FailoverState.RUNNING)


def test_an_undo_starts_the_source_before_the_replica_goes_back(folder: Path) -> None:
    """A revert that fails leaves a VM that runs."""
    model = Model()
    begin_failover(folder, model, YES, quiet)
    break_at(model, "put_replica_on", 0)
    with pytest.raises(Fault):
        undo_failover(folder, model, quiet)
    assert (model.source_on, model.replica_on) == (True, False)
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE


def test_wait_asks_the_guest_again(folder: Path) -> None:
    model = Model(shuts_down_after=None)
    real = model.shut_down_source

    def shut_down() -> None:
        real()
        if model.calls.count("ShutdownGuest") == 3:
            model.shutting_down = 1

    model.shut_down_source = shut_down  # type: ignore[method-assign]
    choices = replace(YES, on_shutdown_timeout=OnShutdownTimeout.WAIT)
    assert begin_failover(folder, model, choices, quiet).state is FailoverState.RUNNING
    assert model.calls.count("ShutdownGuest") == 3
    assert "PowerOff source" not in model.calls


def test_no_boots_the_newest_point_whatever_its_level(folder: Path) -> None:
    model = Model(
        chain=[
            point("crash1", Level.CRASH, 0),
            point("app", Level.APPLICATION, 1),
            point("crash2", Level.CRASH, 2),
        ],
        leaf="crash2",
    )
    outcome = begin_failover(folder, model, replace(YES, final_sync=FinalSync.NO), quiet)
    assert outcome.facts["point"] == "crash2"
    assert model.calls == ["disable", "PowerOff source", "PowerOn replica"]
    assert [(p["point"], p["level"]) for p in outcome.facts["others"]] == [("app", "application")]


def test_no_boots_the_point_that_was_chosen(folder: Path) -> None:
    model = Model(chain=[point("p1", Level.CRASH, 0), point("p2", Level.APPLICATION, 1)], leaf="p2")
    choices = replace(YES, final_sync=FinalSync.NO, boot=PointChoice("p1"))
    assert begin_failover(folder, model, choices, quiet).facts["point"] == "p1"


def test_a_lost_source_is_not_contacted(folder: Path) -> None:
    model = Model()

    def never(*_: object) -> bool:
        raise AssertionError("the source was contacted")

    for name in ("source_is_off", "source_can_shut_down", "shut_down_source", "power_off_source"):
        setattr(model, name, never)
    model.source_on = False
    outcome = begin_failover(folder, model, replace(YES, source_lost=True), quiet)
    assert outcome.state is FailoverState.RUNNING
    assert outcome.facts["point"] == "old"


LOST_AT = {
    FailoverState.DISABLED: ("sync", 0),
    FailoverState.INSURED: ("source_can_shut_down", 0),
    FailoverState.SHUTTING_DOWN: ("source_is_off", 2),
    FailoverState.SOURCE_OFF: ("sync", 1),
    FailoverState.SYNCED: ("replica_stands_on", 0),
    FailoverState.FENCED: ("power_on_replica", 0),
}


@pytest.mark.parametrize("state", LOST_AT)
def test_a_source_that_is_lost_on_the_way_is_not_contacted_any_more(
    folder: Path, state: FailoverState
) -> None:
    model, (method, at) = Model(), LOST_AT[state]
    real = break_at(model, method, at)
    with pytest.raises(Fault):
        begin_failover(folder, model, YES, quiet)
    assert outcome_of(folder).state is state
    setattr(model, method, real)

    def never(*_: object) -> bool:
        raise AssertionError("the source was contacted")

    for name in ("source_is_off", "source_can_shut_down", "shut_down_source", "power_off_source"):
        setattr(model, name, never)
    model.source_on = False
    outcome = resume_failover(folder, model, quiet, source_lost=True)
    assert outcome.state is FailoverState.RUNNING
    settled = state in (FailoverState.SYNCED, FailoverState.FENCED)
    newest = "old" if state is FailoverState.DISABLED else "f1-a"
    assert outcome.facts["point"] == ("f1-b" if settled else newest)
    with pytest.raises(NotPossibleNow, match="lost"):
        resume_failover(folder, model, quiet, source_lost=True)
    alone = UndoChoices(even_without_source=True)
    assert undo_failover(folder, model, quiet, alone).state is FailoverState.UNDONE
    assert not model.source_on


def test_a_source_that_was_off_already_is_synced_and_called_crash(folder: Path) -> None:
    model = Model(source_on=False)
    outcome = begin_failover(folder, model, YES, quiet)
    assert outcome.facts["point"] == "f1-b"
    assert outcome.facts["level"] == "crash"


def test_a_level_that_is_too_low_stops_before_the_replica_starts(folder: Path) -> None:
    model = Model(shuts_down_after=None)
    choices = replace(
        YES, on_shutdown_timeout=OnShutdownTimeout.POWER_OFF, require=Level.APPLICATION
    )
    with pytest.raises(LevelTooLow):
        begin_failover(folder, model, choices, quiet)
    assert not model.replica_on
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert model.source_on
    assert model.job_on


@pytest.mark.parametrize(
    ("choices", "refused"),
    [
        (replace(NO, boot=PointChoice("nope")), NoSuchPointToBoot),
        (replace(NO, boot=PointChoice("old"), require=Level.CLEAN_SHUTDOWN), ChosenLevelTooLow),
        (replace(NO, require=Level.CLEAN_SHUTDOWN), ChosenLevelTooLow),
        (replace(YES, source_lost=True, boot=PointChoice("nope")), NoSuchPointToBoot),
    ],
)
def test_a_point_that_cannot_boot_is_refused_while_the_source_runs(
    folder: Path, choices: FailoverChoices, refused: type[Exception]
) -> None:
    model = Model()
    with pytest.raises(refused) as error:
        begin_failover(folder, model, choices, quiet)
    assert error.value.exit_code == 3
    assert (model.source_on, model.job_on, model.replica_on) == (True, True, False)
    assert not folder.exists(), "there is nothing to undo"


def test_a_source_that_comes_back_is_never_joined_by_the_replica(folder: Path) -> None:
    model = Model()
    real = model.sync

    def sync(id_: str, known_level: Level | None, fence: Callable[[], None]) -> RecoveryPoint:
        made = real(id_, known_level, fence)
        if id_ == "f1-b":
            model.source_on, model.shutting_down = True, None
        return made

    model.sync = sync  # type: ignore[method-assign]
    with pytest.raises(SourceIsOn):
        begin_failover(folder, model, YES, quiet)
    assert not model.replica_on
    with pytest.raises(SourceIsOn):
        resume_failover(folder, model, quiet)
    assert not model.replica_on


@pytest.mark.parametrize("at", [("replica_stands_on", 0), ("power_on_replica", 0)])
def test_what_a_source_wrote_after_the_final_sync_is_not_left_behind_without_a_word(
    folder: Path, at: tuple[str, int]
) -> None:
    model, (method, number) = Model(), at
    break_at(model, method, number)
    with pytest.raises(Fault):
        begin_failover(folder, model, YES, quiet)
    model.started_by_others()
    model.source_on = False
    with pytest.raises(SourceRan, match="f1-b"):
        resume_failover(folder, model, quiet)
    assert not model.replica_on
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert model.source_on


def test_it_may_be_left_behind_where_another_point_was_to_boot_anyway(folder: Path) -> None:
    model = Model()
    model.power_on_replica = lambda: (_ for _ in ()).throw(Fault)  # type: ignore[method-assign]
    with pytest.raises(Fault):
        begin_failover(folder, model, NO, quiet)
    del model.power_on_replica  # type: ignore[attr-defined]
    model.started_by_others()
    model.source_on = False
    assert resume_failover(folder, model, quiet).state is FailoverState.RUNNING


def test_a_source_that_comes_back_before_the_final_sync_is_not_synchronised(folder: Path) -> None:
    model = Model()
    real = model.sync

    def sync(id_: str, known_level: Level | None, fence: Callable[[], None]) -> RecoveryPoint:
        if id_ == "f1-b":
            raise Fault
        return real(id_, known_level, fence)

    model.sync = sync  # type: ignore[method-assign]
    with pytest.raises(Fault):
        begin_failover(folder, model, YES, quiet)
    model.sync = real  # type: ignore[method-assign]
    model.started_by_others()
    with pytest.raises(SourceIsOn):
        resume_failover(folder, model, quiet)
    assert outcome_of(folder).state is FailoverState.SOURCE_OFF
    assert "f1-b" not in [p.id for p in model.chain]


@pytest.mark.parametrize("choices", [NO, replace(YES, source_lost=True)])
def test_a_replica_that_somebody_started_is_not_taken_for_ours(
    folder: Path, choices: FailoverChoices
) -> None:
    model = Model(source_on=not choices.source_lost, replica_on=False)
    on = model.source_on
    model.replica_is_on = lambda: True  # type: ignore[method-assign]
    with pytest.raises(ReplicaIsOn):
        begin_failover(folder, model, choices, quiet)
    assert not folder.exists(), "the source runs on, and there is nothing to undo"
    assert (model.source_on, model.calls) == (on, [])


def test_a_replica_that_is_started_between_the_fence_and_the_power_on_is_not_ours(
    folder: Path,
) -> None:
    model = Model()
    model.replica_is_on = lambda: outcome_of(folder).state is FailoverState.FENCED  # type: ignore[method-assign]
    with pytest.raises(ReplicaIsOn):
        begin_failover(folder, model, YES, quiet)
    assert outcome_of(folder).state is FailoverState.FENCED
    # Off again: what it wrote is discarded, as the job says.
    del model.replica_is_on  # type: ignore[attr-defined]
    model.touched = True
    assert resume_failover(folder, model, quiet).state is FailoverState.RUNNING
    assert model.calls[-2:] == ["revert to f1-b", "PowerOn replica"]


def test_what_prepares_the_replica_comes_before_its_start_and_the_last_look(folder: Path) -> None:
    model = Model()
    prepare = [("connect", lambda: model.calls.append("connect"))]
    finish = [("address", lambda: model.calls.append("address"))]
    model.before_power_on = lambda: prepare  # type: ignore[method-assign,assignment,return-value]
    model.after_heartbeat = lambda: finish  # type: ignore[method-assign,assignment,return-value]
    begin_failover(folder, model, YES, quiet)
    assert model.calls[-3:] == ["connect", "PowerOn replica", "address"]

    other = Model()

    def meddled() -> None:
        other.source_on, other.shutting_down = True, None

    prepare = [("connect", meddled)]
    other.before_power_on = lambda: prepare  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(SourceIsOn):
        begin_failover(folder.with_name("f2"), other, YES, quiet)
    assert not other.replica_on


def test_a_silent_replica_is_said_and_can_still_be_undone(folder: Path) -> None:
    model = Model(heartbeat=False)
    outcome = begin_failover(folder, model, YES, quiet)
    assert outcome.facts["answered"] is False
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert model.source_on
    assert not model.replica_on
    assert model.leaf == "f1-b"


def test_what_is_not_possible_is_refused_without_a_trace(folder: Path) -> None:
    model = Model(tools=False)
    begin_failover(folder, model, YES, quiet)
    before = (folder / "journal.jsonl").read_bytes()
    for ask in (undo_failover, commit_failover):
        with pytest.raises(NotPossibleNow, match="aborted"):
            ask(folder, model, quiet)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_undo_after_a_commit_is_refused(folder: Path) -> None:
    model = Model()
    begin_failover(folder, model, YES, quiet)
    commit_failover(folder, model, quiet)
    with pytest.raises(NotPossibleNow):
        undo_failover(folder, model, quiet)


def test_who_is_taken_over_in_the_middle_of_a_copy_writes_nothing_more(folder: Path) -> None:
    model = Model()
    model.on_fence = lambda: Journal.take_over(folder).close()
    with pytest.raises(FailoverTakenOver):
        begin_failover(folder, model, YES, quiet)
    assert [p.id for p in model.chain] == ["old"]
    model.on_fence = None
    assert resume_failover(folder, model, quiet).state is FailoverState.RUNNING


SCENARIOS: dict[str, tuple[Callable[[], Model], FailoverChoices]] = {
    "yes": (Model, YES),
    "no tools, abort": (lambda: Model(tools=False), YES),
    "hangs, use-quiesced": (
        lambda: Model(shuts_down_after=None),
        replace(YES, on_shutdown_timeout=OnShutdownTimeout.USE_QUIESCED),
    ),
    "hangs, power-off": (
        lambda: Model(shuts_down_after=None),
        replace(YES, on_shutdown_timeout=OnShutdownTimeout.POWER_OFF),
    ),
    "no tools, power-off": (
        lambda: Model(tools=False),
        replace(YES, on_shutdown_timeout=OnShutdownTimeout.POWER_OFF),
    ),
    "no": (Model, replace(YES, final_sync=FinalSync.NO)),
    "lost": (lambda: Model(source_on=False), replace(YES, source_lost=True)),
    "back": (lambda: Model(frozen=False), YES),
    "passes": (Model, replace(YES, max_downtime_s=0.5)),
    "disconnected": (Model, replace(YES, disconnect_source_nics=True)),
}


def drive(folder: Path, model: Model, choices: FailoverChoices) -> Outcome:
    """Begin, and after each kill resume, as an operator would."""
    try:
        return begin_failover(folder, model, choices, quiet)
    except Killed:
        model.kill.at = None
        if not (folder / "journal.jsonl").exists():
            return begin_failover(folder, model, choices, quiet)
        return resume_failover(folder, model, quiet)


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_call_it_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    make, choices = SCENARIOS[name]
    straight = make()
    expected = begin_failover(tmp_path / "straight" / "f1", straight, choices, quiet)
    for kill_at in range(straight.kill.passed):
        model = make()
        model.kill.at = kill_at
        outcome = drive(tmp_path / str(kill_at) / "f1", model, choices)
        assert model.kill.at is None, "it was not killed"
        assert outcome.state is expected.state, kill_at
        assert outcome.facts == expected.facts, kill_at
        assert (model.source_on, model.replica_on, model.job_on) == (
            straight.source_on,
            straight.replica_on,
            straight.job_on,
        )
        assert [(p.id, p.level) for p in model.chain] == [
            (p.id, p.level) for p in straight.chain
        ], kill_at
        harmless = {"disable", "enable", "ShutdownGuest", "revert to app", "PowerOff source"}
        harmless |= {"disconnect source"}
        once = [c for c in model.calls if c not in harmless]
        assert len(once) == len(set(once)), f"{kill_at}: an effect happened twice: {model.calls}"


@pytest.mark.parametrize("name", ["yes", "no", "hangs, use-quiesced", "back", "disconnected"])
def test_killed_at_any_call_of_an_undo_both_are_put_back(name: str, tmp_path: Path) -> None:
    make, choices = SCENARIOS[name]
    straight = make()
    begin_failover(tmp_path / "straight" / "f1", straight, choices, quiet)
    first = straight.kill.passed
    undo_failover(tmp_path / "straight" / "f1", straight, quiet)
    assert straight.kill.passed > first
    for kill_at in range(first, straight.kill.passed):
        model, folder = make(), tmp_path / str(kill_at) / "f1"
        begin_failover(folder, model, choices, quiet)
        model.shutting_down = None
        model.kill.at = kill_at
        with pytest.raises(Killed):
            undo_failover(folder, model, quiet)
        model.kill.at = None
        assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
        assert model.source_on
        assert not model.replica_on
        assert model.job_on
        assert model.leaf == straight.leaf
        assert outcome_of(folder).state is FailoverState.UNDONE


@pytest.mark.parametrize("name", ["yes", "back"])
def test_killed_at_any_call_of_a_commit_it_is_committed_by_the_next(
    name: str, tmp_path: Path
) -> None:
    make, choices = SCENARIOS[name]
    straight = make()
    begin_failover(tmp_path / "straight" / "f1", straight, choices, quiet)
    first = straight.kill.passed
    commit_failover(tmp_path / "straight" / "f1", straight, quiet)
    assert straight.kill.passed > first
    for kill_at in range(first, straight.kill.passed):
        for go_on in (commit_failover, resume_failover):
            model, folder = make(), tmp_path / f"{kill_at}-{go_on.__name__}" / "f1"
            begin_failover(folder, model, choices, quiet)
            model.kill.at = kill_at
            with pytest.raises(Killed):
                commit_failover(folder, model, quiet)
            model.kill.at = None
            with pytest.raises(NotPossibleNow, match="committing"):
                undo_failover(folder, model, quiet)
            assert go_on(folder, model, quiet).state is FailoverState.COMMITTED
            assert model.settled == "f1"
            assert model.replica_on
            assert not model.source_on


@pytest.mark.parametrize("at", ["PowerOn replica", "commit"])
def test_a_process_that_was_frozen_does_nothing_once_another_has_taken_over(
    folder: Path, at: str
) -> None:
    """Stopped (SIGSTOP) right before an effect; meanwhile another process takes over."""
    model = Model()
    if at == "commit":
        begin_failover(folder, model, YES, quiet)
        journal = Journal.take_over(folder)
        undo_failover(folder, model, quiet)
        calls = list(model.calls)
        work = StepContext("f1", model, journal, YES, quiet)
        with pytest.raises(FailoverTakenOver):
            settle_direction(work)
    else:
        real, looks = model.source_is_off, itertools.count()

        def thawed_after_an_undo() -> bool:
            # The second look there is the last one before the power-on.
            if outcome_of(folder).state is FailoverState.FENCED and next(looks) == 1:
                model.source_is_off = real  # type: ignore[method-assign]
                off = real()
                undo_failover(folder, model, quiet)
                return off
            return real()

        model.source_is_off = thawed_after_an_undo  # type: ignore[method-assign]
        with pytest.raises(FailoverTakenOver):
            begin_failover(folder, model, YES, quiet)
        calls = list(model.calls)
        assert "PowerOn replica" not in calls
        assert model.source_on, "the undo started it; the one that was thawed saw it off"
    assert model.calls == calls
    assert outcome_of(folder).state is FailoverState.UNDONE
    assert model.settled is None


FAULTS = {
    "point A fails: quiescing, datastore, destination host": ("sync", 0, FailoverState.DISABLED),
    "the source's host is gone when it is asked": (
        "source_can_shut_down",
        0,
        FailoverState.INSURED,
    ),
    "vCenter restarts when the guest is to be asked": (
        "shut_down_source",
        0,
        FailoverState.INSURED,
    ),
    "vCenter restarts while the guest shuts down": (
        "source_is_off",
        2,
        FailoverState.SHUTTING_DOWN,
    ),
    "the datastore is full at the final delta": ("sync", 1, FailoverState.SOURCE_OFF),
    "the replica was changed outside at the final delta": ("sync", 1, FailoverState.SOURCE_OFF),
    "the source's vCenter is gone at the fence": ("replica_stands_on", 0, FailoverState.SYNCED),
    "the destination's host is down at the power-on": ("power_on_replica", 0, FailoverState.FENCED),
    "the destination's vCenter restarts while it boots": (
        "replica_answers",
        0,
        FailoverState.BOOTING,
    ),
}
"""What fails, at which of its calls, and the state that it stops in: docs/failover.md."""


@pytest.mark.parametrize("policy", list(OnShutdownTimeout))
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("then", [resume_failover, undo_failover])
def test_a_fault_stops_it_where_the_page_says_and_both_ways_on_are_open(
    tmp_path: Path, fault: str, policy: OnShutdownTimeout, then: Callable[..., Outcome]
) -> None:
    method, at, state = FAULTS[fault]
    model, folder = Model(), tmp_path / "f1"
    break_at(model, method, at)
    choices = replace(YES, on_shutdown_timeout=policy)
    with pytest.raises(Fault):
        begin_failover(folder, model, choices, quiet)
    assert outcome_of(folder).state is state
    assert not model.job_on
    assert not (model.source_on and model.replica_on)
    assert "PowerOff source" not in model.calls
    outcome = then(folder, model, quiet)
    if then is resume_failover:
        assert outcome.state is FailoverState.RUNNING
        assert outcome.facts["level"] == Level.CLEAN_SHUTDOWN.value
        assert model.replica_on
        assert not model.source_on
    else:
        assert outcome.state in (FailoverState.UNDONE, FailoverState.ABORTED)
        assert model.source_on
        assert model.job_on
        assert not model.replica_on
    assert model.chain[0].id == "old", "no point is lost"


@pytest.mark.parametrize("policy", list(OnShutdownTimeout))
def test_a_level_that_is_too_low_leaves_undo_and_its_remedy_says_so(
    folder: Path, policy: OnShutdownTimeout
) -> None:
    model = Model(source_on=False)
    choices = replace(YES, on_shutdown_timeout=policy, require=Level.APPLICATION)
    with pytest.raises(LevelTooLow) as refused:
        begin_failover(folder, model, choices, quiet)
    assert "undo" in refused.value.remedy.lower()
    assert outcome_of(folder).state is FailoverState.SOURCE_OFF
    assert undo_failover(folder, model, quiet).state is FailoverState.UNDONE
    assert model.job_on
    # A new failover to the point that is of the level.
    again = replace(choices, final_sync=FinalSync.NO, boot=PointChoice("old"))
    outcome = begin_failover(folder.parent / "f2", model, again, quiet)
    assert (outcome.state, outcome.facts["point"]) == (FailoverState.RUNNING, "old")


@pytest.mark.parametrize("choices", [YES, NO, replace(YES, source_lost=True)])
def test_addresses_that_do_not_fit_are_refused_before_the_job_is_switched_off(
    folder: Path, choices: FailoverChoices
) -> None:
    model = Model(rules_fit=False)
    with pytest.raises(GuestRulesDoNotFit) as error:
        begin_failover(folder, model, choices, quiet)
    assert error.value.exit_code == 3
    assert (model.calls, model.source_on, model.job_on) == ([], True, True)
    assert not folder.exists()


@pytest.mark.parametrize("choices", [YES, NO])
def test_a_source_that_is_away_is_refused_before_the_job_is_switched_off(
    folder: Path, choices: FailoverChoices
) -> None:
    model = Model(away=True)
    with pytest.raises(SourceNotReached) as error:
        begin_failover(folder, model, choices, quiet)
    assert (error.value.exit_code, "--source-lost" in error.value.advice()) == (5, True)
    assert (model.calls, model.job_on, folder.exists()) == ([], True, False)
    model.source_on, lost = False, replace(choices, source_lost=True)
    assert begin_failover(folder, model, lost, quiet).state is FailoverState.RUNNING


def test_what_a_sync_would_be_refused_for_is_refused_before_the_job_is_switched_off(
    folder: Path,
) -> None:
    model = Model(sync_problem="datastore dr1 has no room")
    with pytest.raises(PreflightFailed) as error:
        begin_failover(folder, model, YES, quiet)
    assert error.value.exit_code == 3
    assert (model.calls, model.job_on, folder.exists()) == ([], True, False)
    assert begin_failover(folder, model, NO, quiet).state is FailoverState.RUNNING


def test_what_is_reported_on_the_way_names_the_vm_that_it_is_about(folder: Path) -> None:
    said: list[str] = []
    given_up = begin_failover(folder, Model(tools=False), YES, said.append)
    assert given_up.facts["reason"] == "VMware Tools are not running in vm at main"
    assert any("quiesced recovery point while vm runs" in line for line in said)
    model = Model(heartbeat=False)
    begin_failover(folder.parent / "fo-2", model, YES, said.append)
    assert any(line.startswith("waiting for the guest of vm-replica at dr") for line in said)


def test_the_outcome_has_names_place_age_and_downtime(folder: Path) -> None:
    model = Model()
    done = begin_failover(folder, model, YES, quiet).to_dict()
    assert done["facts"]["sides"]["replica"] == {"vm": "vm-replica", "site": "dr"}
    assert done["facts"]["runs"]["addresses"] == ["10.2.0.5"]
    assert done["age_s"] >= 0
    assert done["downtime_s"] >= 0
    assert (done["job_on"], model.job_on) == (False, False)
    undone = undo_failover(folder, model, quiet).to_dict()
    assert (undone["job_on"], model.job_on) == (True, True)


def test_an_error_names_both_vms_and_the_job_to_type(folder: Path) -> None:
    model = Model("web01")
    begin_failover(folder, model, YES, quiet, FailoverState.SYNCED)
    model.started_by_others()
    with pytest.raises(SourceIsOn) as error:
        resume_failover(folder, model, quiet)
    assert error.value.message == "vm at main is on, so vm-replica at dr was not started"
    assert "`vreplica-sync undo web01`" in error.value.advice()
    again = pickle.loads(pickle.dumps(error.value))
    assert again.message == error.value.message
    assert SourceIsOn().message == "the source is on, so the replica was not started"


def test_a_commit_with_both_vms_on_tells_the_alarm(folder: Path) -> None:
    model, said = Model(), list[str]()
    begin_failover(folder, model, YES, quiet)
    model.started_by_others()
    model._edge = lambda: None  # type: ignore[method-assign]  # both are on, by others
    commit_failover(folder, model, said.append)
    assert any("both VMs are on" in line for line in said)
