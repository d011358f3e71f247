"""The point that boots without a final sync: the newest, unless somebody chose otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.failover_model import START, Model, point
from tests.support.reporting import quiet
from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import FailoverChoices, FinalSync, OnShutdownTimeout
from vreplica.failover.machine.errors import NoPointMeets, NoSuchPointToBoot, PointIsFlagged
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.point_choice import PointChoice, alternatives, choose_point
from vreplica.failover.machine.runner import begin_failover, resume_failover, undo_failover
from vreplica.failover.operations import with_preference
from vreplica.points import Level, RecoveryPoint
from vreplica.points.preference import Preference
from vreplica.sync.job import Job, Placement
from vreplica.vsphere.model import Endpoint

CHAIN = (
    point("clean", Level.CLEAN_SHUTDOWN, 0),
    point("app", Level.APPLICATION, 10),
    point("crash", Level.CRASH, 11),
)
NOW = START + timedelta(hours=11, minutes=30)
NO = FailoverChoices(FinalSync.NO, shutdown_timeout_s=1, heartbeat_timeout_s=1)
APPLICATION = Preference(Level.APPLICATION, 3 * 3600.0)


def flag(found: RecoveryPoint) -> RecoveryPoint:
    return replace(found, suspicions=("all of it is random",))


def test_the_newest_boots_although_one_of_a_higher_level_is_kept() -> None:
    assert choose_point(CHAIN, PointChoice(), NOW).id == "crash"
    assert [p.id for p in alternatives(CHAIN, CHAIN[-1])] == ["clean", "app"]


def test_the_order_of_the_chain_says_which_is_the_newest_and_not_its_clock() -> None:
    put_back = replace(CHAIN[-1], id="put-back", time=START - timedelta(days=400))
    assert choose_point((*CHAIN, put_back), PointChoice(), NOW).id == "put-back"


@pytest.mark.parametrize(
    ("choice", "booted"),
    [
        (PointChoice(point="clean"), "clean"),
        (PointChoice(prefer=APPLICATION), "app"),
        (PointChoice(prefer=Preference(Level.CLEAN_SHUTDOWN)), "clean"),
        (PointChoice(prefer=Preference(max_age_s=3600)), "crash"),
        (PointChoice(as_of=START + timedelta(hours=10)), "app"),
        (PointChoice(as_of=START + timedelta(hours=9)), "clean"),
        (PointChoice(newest=True).or_prefer(APPLICATION), "crash"),
        (PointChoice().or_prefer(APPLICATION), "app"),
        (PointChoice(point="crash").or_prefer(APPLICATION), "crash"),
    ],
)
def test_the_operator_or_the_job_chooses_otherwise(choice: PointChoice, booted: str) -> None:
    assert choose_point(CHAIN, choice, NOW).id == booted
    assert PointChoice.from_dict(choice.to_dict()) == choice


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (PointChoice(prefer=Preference(Level.APPLICATION, 60.0)), "the newest is crash"),
        (PointChoice(as_of=START - timedelta(hours=1)), "the oldest is clean"),
        (PointChoice(point="nope"), "nope"),
    ],
)
def test_where_no_point_is_within_the_bounds_nothing_boots(choice: PointChoice, said: str) -> None:
    with pytest.raises((NoPointMeets, NoSuchPointToBoot), match=said) as error:
        choose_point(CHAIN, choice, NOW)
    assert error.value.exit_code == 3


def test_a_point_whose_source_clock_was_behind_is_not_taken_for_an_older_one() -> None:
    """`--as-of` keeps out what was written after that time, whichever clock tells it."""
    late = f"{START + timedelta(hours=20):%Y%m%dT%H%M%SZ}-abcdef"
    behind = replace(CHAIN[-1], id=late, time=START + timedelta(hours=1))
    chosen = choose_point((*CHAIN, behind), PointChoice(as_of=START + timedelta(hours=12)), NOW)
    assert chosen.id == "crash"


@pytest.mark.parametrize("after", [(), (point("later", Level.CRASH, 12),)])
def test_a_flagged_newest_point_is_never_booted_silently(after: tuple[RecoveryPoint, ...]) -> None:
    chain = (*CHAIN[:2], flag(CHAIN[2]), *after)
    for choice in (PointChoice(), PointChoice(newest=True), PointChoice(prefer=Preference())):
        with pytest.raises(PointIsFlagged) as error:
            choose_point(chain, choice, NOW)
        assert error.value.exit_code == 3
        assert "--point app" in error.value.advice(), "the clean one before it is named"
        assert f"--point {chain[-1].id}" in error.value.advice()
    assert choose_point(chain, PointChoice(point="crash"), NOW).id == "crash", "a word is a word"
    assert choose_point(chain, PointChoice(as_of=CHAIN[1].time), NOW).id == "app"
    accepted = (*CHAIN[:2], replace(flag(CHAIN[2]), accepted=True), *after)
    assert choose_point(accepted, PointChoice(), NOW).id == accepted[-1].id


# -- every way into a failover has the same rule ----------------------------------------------


def model() -> Model:
    return Model(chain=list(CHAIN), leaf="crash")


@pytest.mark.parametrize("choices", [NO, replace(NO, final_sync=FinalSync.YES, source_lost=True)])
def test_the_same_rule_for_a_lost_source_as_without_a_sync(
    tmp_path: Path, choices: FailoverChoices
) -> None:
    lost = model()
    lost.source_on = not choices.source_lost
    assert begin_failover(tmp_path / "f1", lost, choices, quiet).facts["point"] == "crash"
    preferred = replace(choices, boot=PointChoice(prefer=Preference(Level.APPLICATION)))
    other = model()
    other.source_on = not choices.source_lost
    outcome = begin_failover(tmp_path / "f2", other, preferred, quiet)
    assert (outcome.facts["point"], other.leaf, other.replica_on) == ("app", None, True)


def test_a_flagged_point_is_refused_while_the_source_runs(tmp_path: Path) -> None:
    world = model()
    world.chain[-1] = flag(world.chain[-1])
    with pytest.raises(PointIsFlagged):
        begin_failover(tmp_path / "f1", world, NO, quiet)
    assert (world.source_on, world.job_on, world.calls) == (True, True, [])


def test_a_run_in_flight_that_ends_flagged_stops_it_before_the_source_is_powered_off(
    tmp_path: Path,
) -> None:
    world, disable = model(), Model.disable_job

    def ends_first(failover: str) -> None:
        world.chain.append(flag(point("in-flight", Level.CRASH, 12)))
        disable(world, failover)

    world.disable_job = ends_first  # type: ignore[method-assign]
    with pytest.raises(PointIsFlagged):
        begin_failover(tmp_path / "f1", world, NO, quiet)
    assert (world.source_on, world.replica_on) == (True, False)
    assert undo_failover(tmp_path / "f1", world, quiet).facts["reason"]
    assert (world.source_on, world.job_on) == (True, True)


def test_use_quiesced_that_would_boot_nothing_leaves_the_source_on(tmp_path: Path) -> None:
    """What it boots is known before the source is powered off for it."""
    world = Model(tools=False, quiesced=Level.CRASH)
    policy = OnShutdownTimeout.USE_QUIESCED
    prefer = PointChoice(prefer=Preference(Level.APPLICATION))
    for number, more in enumerate(({"boot": prefer}, {"require": Level.APPLICATION})):
        choices = replace(NO, final_sync=FinalSync.YES, on_shutdown_timeout=policy, **more)
        with pytest.raises(VReplicaError) as error:
            begin_failover(tmp_path / f"f{number}", world, choices, quiet)
        assert error.value.exit_code == 3
        assert world.source_on
        assert "PowerOff source" not in world.calls
        undo_failover(tmp_path / f"f{number}", world, quiet)


def test_a_resume_keeps_the_choice_and_counts_ages_from_the_beginning(tmp_path: Path) -> None:
    """Hours may lie between: the source went off at the beginning, and points only look older."""
    world, folder = model(), tmp_path / "f1"
    now = datetime.now(UTC)
    world.chain = [replace(p, time=now - timedelta(hours=11) + (p.time - START)) for p in CHAIN]
    real, world.power_on_replica = world.power_on_replica, _fails  # type: ignore[method-assign]
    choices = replace(NO, boot=PointChoice(prefer=Preference(Level.APPLICATION, 3600.0 * 2)))
    with pytest.raises(VReplicaError):
        begin_failover(folder, world, choices, quiet)
    world.power_on_replica = real  # type: ignore[method-assign]
    assert resume_failover(folder, world, quiet).facts["point"] == "app"


def test_a_resume_can_choose_another_point(tmp_path: Path) -> None:
    world, folder = model(), tmp_path / "f1"
    points = world.points
    looks: list[int] = []

    def fail_later() -> tuple[RecoveryPoint, ...]:
        looks.append(1)
        if not world.source_on:
            _fails()
        return points()

    world.points = fail_later  # type: ignore[method-assign]
    with pytest.raises(VReplicaError):
        begin_failover(folder, world, NO, quiet)
    world.points = points  # type: ignore[method-assign]
    outcome = resume_failover(folder, world, quiet, boot=PointChoice(point="clean"))
    assert outcome.facts["point"] == "clean"
    assert "choice" in [entry.kind for entry in load(folder)]


def _fails(*_: object) -> None:
    raise VReplicaError


def test_the_job_prefers_only_where_the_operator_says_nothing(tmp_path: Path) -> None:
    nowhere = Endpoint("127.0.0.1", "u", "p", "AB" * 32)
    job = Job("j", nowhere, "j", nowhere, Placement("ds", "r"), tmp_path, prefer=APPLICATION)
    assert with_preference(job, NO).boot.prefer == APPLICATION
    chosen = replace(NO, boot=PointChoice(newest=True))
    assert with_preference(job, chosen).boot == PointChoice(newest=True)


def test_each_member_of_a_group_boots_its_own_newest_unless_its_point_is_named() -> None:
    choice = PointChoice(members={"web": "w1"})
    assert choice.of_member("web") == PointChoice(point="w1")
    assert choice.of_member("db") == PointChoice()
    as_of = PointChoice(as_of=NOW)
    assert as_of.of_member("db") == as_of
