"""Groups: whose turn it is, what an error stops, and a kill at every call of every member."""

from __future__ import annotations

import itertools
import re
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.failover_model import Kill, Killed, Model
from tests.support.reporting import quiet
from vreplica.failover import failback, history, operations
from vreplica.failover.failback import FailbackPlan
from vreplica.failover.group import report, run
from vreplica.failover.machine.choices import FailoverChoices, FinalSync, OnError
from vreplica.failover.machine.errors import (
    FailedOverAlready,
    FailoverUnderWay,
    GroupNotRunning,
    GuestRulesDoNotFit,
    NothingToFailBack,
    NotPossibleNow,
)
from vreplica.failover.machine.group_order import Group, Member, Pass, cycle, waves
from vreplica.failover.machine.record import Outcome
from vreplica.failover.machine.states import FailoverState
from vreplica.sync.job import Job, Placement
from vreplica.vsphere.model import Endpoint

SHOP = Group(
    "shop",
    (
        Member("db"),
        Member("app", after=("db",)),
        Member("web", after=("app",)),
        Member("mail"),
    ),
    parallel=1,
)
YES = FailoverChoices(shutdown_timeout_s=0.01, heartbeat_timeout_s=0.01)
NO = replace(YES, final_sync=FinalSync.NO)


# -- the order, by itself ---------------------------------------------------------------------


def test_a_ring_is_found_and_named() -> None:
    assert cycle({"a": ("b",), "b": ("c",), "c": ("b",)}) == ("b", "c", "b")
    assert cycle({"a": ("a",)}) == ("a", "a")
    assert cycle(SHOP.forwards) is None


def test_the_order_is_shown_in_waves() -> None:
    assert waves(SHOP.forwards) == [["db", "mail"], ["app"], ["web"]]
    assert waves(SHOP.backwards) == [["web", "mail"], ["app"], ["db"]]


def turns(after: dict[str, tuple[str, ...]], failing: str = "", **how: Any) -> tuple[list, Pass]:
    done: list[str] = []

    def work(name: str) -> None:
        if name == failing:
            raise NotPossibleNow(failover="f", asked="it", state="bad")
        done.append(name)

    one = Pass(after, work, **{"parallel": 1, "go_on": False, "needs": True, **how})
    one.run()
    return done, one


def test_everybody_comes_after_those_it_needs() -> None:
    assert turns(SHOP.forwards)[0] == ["db", "app", "web", "mail"]
    assert turns(SHOP.backwards)[0] == ["web", "app", "db", "mail"]


def test_an_error_stops_the_pass() -> None:
    done, one = turns(SHOP.forwards, failing="app")
    assert done == ["db"]
    assert set(one.failed) == {"app"}
    assert set(one.left_out) == {"web", "mail"}


def test_going_on_leaves_out_only_who_needs_the_one_that_failed() -> None:
    done, one = turns(SHOP.forwards, failing="db", go_on=True)
    assert done == ["mail"]
    assert one.left_out == {"app": "it needs db", "web": "it needs app"}


def test_bringing_down_goes_on_past_one_that_failed() -> None:
    done, one = turns(SHOP.backwards, failing="web", go_on=True, needs=False)
    assert done == ["app", "db", "mail"]
    assert not one.left_out


def test_a_delay_counts_from_the_last_of_those_it_needs() -> None:
    now = [100.0]
    begun: dict[str, float] = {}

    def work(name: str) -> None:
        begun[name] = now[0]
        now[0] += 5

    Pass(
        {"db": (), "app": ("db",), "web": ("app",)},
        work,
        parallel=2,
        go_on=False,
        needs=True,
        delay_s={"app": 30.0, "db": 2.0},
        clock=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    ).run()
    assert begun == {"db": 102.0, "app": 137.0, "web": 142.0}


def test_no_more_run_side_by_side_than_is_allowed_and_that_many_do() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    together = threading.Barrier(2, timeout=30)

    def work(name: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()
        with lock:
            now[0] -= 1

    Pass(dict.fromkeys("abcd", ()), work, parallel=2, go_on=False, needs=True).run()
    assert most == [2]


# -- with failovers, over a model of every member's two sides ---------------------------------

MEMBERS = ("db", "app", "web", "mail")


@dataclass
class World:
    """A model of both sites for each member; all of them note their calls in one list."""

    kill: Kill = field(default_factory=Kill)
    calls: list[str] = field(default_factory=list)
    members: dict[str, Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in MEMBERS:
            self.members[name] = Model(name, calls=self.calls, kill=self.kill, shuts_down_after=1)

    @property
    def on(self) -> dict[str, bool]:
        return {name: m.source_on for name, m in self.members.items()}

    @property
    def replica_on(self) -> dict[str, bool]:
        return {name: m.replica_on for name, m in self.members.items()}

    @property
    def job_on(self) -> dict[str, bool]:
        return {name: m.job_on for name, m in self.members.items()}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> World:
        """From now on, failovers work on this world."""

        def forwards(job: Job, failover: str, listener: object) -> AbstractContextManager[Model]:
            return nullcontext(self.members[job.name])

        def backwards(
            job: Job, back: FailbackPlan, failover: str, listener: object
        ) -> AbstractContextManager[Model]:
            return self.members[job.name].turned()

        monkeypatch.setattr(operations, "VSpherePorts", forwards)
        monkeypatch.setattr(operations, "FailbackPorts", backwards)
        return self


def way_back(job: Job, of: Outcome, *, new_vm: str | None = None) -> FailbackPlan:
    return FailbackPlan(
        "original", "replica", "ds", str(of.facts["point"]), "clean-shutdown", of.id
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(failback, "read_plan", way_back)
    # These processes die in the model only: what is written need not reach the disk.
    monkeypatch.setattr("os.fsync", lambda fd: None)
    return World().use(monkeypatch)


@pytest.fixture
def jobs(tmp_path: Path) -> dict[str, Job]:
    nowhere = Endpoint("127.0.0.1", "u", "p", "AB" * 32)
    return {
        m.name: Job(m.name, nowhere, m.name, nowhere, Placement("ds", f"{m.name}-r"), tmp_path)
        for m in SHOP.members
    }


def begin(
    tmp_path: Path, jobs: dict[str, Job], group: Group = SHOP, choices: FailoverChoices = YES
) -> report.GroupOutcome:
    return run.fail_over(tmp_path, group, jobs, choices, quiet)


def folder(tmp_path: Path) -> Path:
    return report.folders(tmp_path, "shop")[-1]


def order_of(world: World, call: str) -> list[str]:
    """The members that made a call, in the order of their calls."""
    return [c.removesuffix(f": {call}") for c in world.calls if c.endswith(f": {call}")]


def without_ids(calls: list[str]) -> list[str]:
    """The same calls without the ids of failovers: `db: sync -a`."""
    return [re.sub("sync .*(?=-)", "sync ", call) for call in calls]


def kinds_of(calls: list[str]) -> list[str]:
    """The same calls without their members, too: `sync -a`."""
    return [call.partition(": ")[2] for call in without_ids(calls)]


def once(calls: list[str]) -> list[str]:
    """The calls that must not happen twice."""
    return [c for c in without_ids(calls) if c.partition(": ")[2].startswith(("sync", "PowerOn"))]


def test_all_are_insured_then_brought_down_backwards_then_started(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    outcome = begin(tmp_path, jobs)
    assert outcome.state == "running"
    assert order_of(world, "ShutdownGuest") == ["web", "app", "db", "mail"]
    assert order_of(world, "PowerOn replica") == ["db", "app", "web", "mail"]
    kinds = kinds_of(world.calls)
    assert max(i for i, k in enumerate(kinds) if k == "sync -a") < kinds.index("ShutdownGuest")
    assert max(i for i, k in enumerate(kinds) if k == "sync -b") < kinds.index("PowerOn replica")
    assert run.commit(folder(tmp_path), jobs, quiet).state == "committed"
    with pytest.raises(FailedOverAlready):
        begin(tmp_path, jobs)


def test_one_that_hangs_stops_the_group_before_any_replica_starts(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.members["app"].shuts_down_after = None
    outcome = begin(tmp_path, jobs)
    assert outcome.state == "stopped"
    assert "did not shut down" in (outcome.troubles["app"] or "")
    assert "left out" in (outcome.troubles["db"] or "")
    assert world.on["db"], "the database was not touched"
    assert not any(world.replica_on.values())
    with pytest.raises(GroupNotRunning, match="web is synced"):
        run.commit(folder(tmp_path), jobs, quiet)
    undone = run.undo(folder(tmp_path), jobs, quiet)
    assert undone.state == "undone"
    assert all(world.on.values())
    assert all(world.job_on.values())
    # And the group is free for another try.
    world.members["app"].shuts_down_after = 1
    assert begin(tmp_path, jobs).state == "running"


def test_going_on_brings_up_all_that_can_stand_without_the_one_that_failed(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.members["app"].shuts_down_after = None
    outcome = begin(tmp_path, jobs, replace(SHOP, on_error=OnError.CONTINUE))
    assert outcome.state == "stopped"
    assert [n for n, on in world.replica_on.items() if on] == ["db", "mail"]
    assert outcome.troubles["web"] == "left out: it needs app"
    assert world.on["app"]


def test_who_needs_a_silent_one_waits_until_it_answers(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.members["db"].heartbeat = False
    stopped = begin(tmp_path, jobs)
    assert stopped.state == "stopped"
    assert order_of(world, "PowerOn replica") == ["db"]
    world.members["db"].heartbeat = True
    assert run.resume(folder(tmp_path), jobs, quiet).state == "running"
    assert order_of(world, "PowerOn replica") == ["db", "app", "web", "mail"]


def test_a_member_may_be_told_not_to_wait_for_its_heartbeat(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.members["db"].heartbeat = False
    first, *others = SHOP.members
    group = replace(SHOP, members=(replace(first, heartbeat=False), *others))
    assert begin(tmp_path, jobs, group).state == "running"


def test_undo_goes_backwards(world: World, jobs: dict[str, Job], tmp_path: Path) -> None:
    begin(tmp_path, jobs)
    assert run.undo(folder(tmp_path), jobs, quiet).state == "undone"
    assert order_of(world, "ShutdownGuest replica") == ["web", "app", "db", "mail"]


def test_a_member_that_is_failed_over_already_refuses_the_group_before_anything_is_done(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    operations.fail_over(jobs["web"], YES, quiet)
    before = list(world.calls)
    with pytest.raises(FailoverUnderWay):
        begin(tmp_path, jobs)
    assert world.calls == before
    assert not report.folders(tmp_path, "shop")


@pytest.mark.parametrize("final_sync", list(FinalSync))
def test_killed_at_any_call_it_ends_as_if_it_had_not_been(
    world: World,
    jobs: dict[str, Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    final_sync: FinalSync,
) -> None:
    choices = replace(YES, final_sync=final_sync)
    begin(tmp_path, jobs, choices=choices)
    straight = world.calls
    for kill_at in range(world.kill.passed):
        state = tmp_path / str(kill_at)
        state.mkdir()
        mine = {name: replace(job, state_dir=state) for name, job in jobs.items()}
        now = World(Kill(kill_at)).use(monkeypatch)
        with pytest.raises(Killed):
            begin(state, mine, choices=choices)
        outcome = run.resume(folder(state), mine, quiet)
        assert outcome.state == "running", (kill_at, outcome.troubles)
        assert once(now.calls) == once(straight), kill_at


def test_undo_also_ends_what_a_kill_left(
    world: World, jobs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, jobs)
    for kill_at in range(world.kill.passed):
        state = tmp_path / str(kill_at)
        state.mkdir()
        mine = {name: replace(job, state_dir=state) for name, job in jobs.items()}
        now = World(Kill(kill_at)).use(monkeypatch)
        with pytest.raises(Killed):
            begin(state, mine)
        outcome = run.undo(folder(state), mine, quiet)
        assert outcome.state in ("undone", "aborted"), (kill_at, outcome.troubles)
        assert all(now.on.values()), kill_at
        assert all(now.job_on.values()), kill_at
        assert not any(now.replica_on.values()), kill_at
        ended = {m.state for m in outcome.members}
        assert ended <= {FailoverState.UNDONE, FailoverState.ABORTED, None}


# -- and back ---------------------------------------------------------------------------------


def there(tmp_path: Path, jobs: dict[str, Job]) -> None:
    """All members are failed over for good."""
    begin(tmp_path, jobs)
    assert run.commit(folder(tmp_path), jobs, quiet).state == "committed"


def back(
    tmp_path: Path, jobs: dict[str, Job], group: Group = SHOP, choices: FailoverChoices = YES
) -> report.GroupOutcome:
    return run.fail_back(tmp_path, group, jobs, choices, quiet)


def test_back_goes_through_the_same_passes_in_the_same_order(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    with pytest.raises(NothingToFailBack):
        back(tmp_path, jobs)
    there(tmp_path, jobs)
    world.calls.clear()
    outcome = back(tmp_path, jobs)
    assert (outcome.state, outcome.back) == ("running", True)
    assert all(world.on.values())
    assert not any(world.replica_on.values())
    assert order_of(world, "ShutdownGuest") == ["web", "app", "db", "mail"]
    assert order_of(world, "PowerOn replica") == ["db", "app", "web", "mail"]
    kinds = kinds_of(world.calls)
    assert max(i for i, k in enumerate(kinds) if k == "sync -a") < kinds.index("ShutdownGuest")
    assert max(i for i, k in enumerate(kinds) if k == "sync -b") < kinds.index("PowerOn replica")
    with pytest.raises(FailoverUnderWay):
        back(tmp_path, jobs)
    assert run.commit(folder(tmp_path), jobs, quiet).state == "committed"
    assert [report.show(f).back for f in report.folders(tmp_path, "shop")] == [False, True]
    # And there again.
    assert begin(tmp_path, jobs).state == "running"


def test_an_undone_failback_leaves_the_replicas_in_service(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    there(tmp_path, jobs)
    world.calls.clear()
    back(tmp_path, jobs)
    assert run.undo(folder(tmp_path), jobs, quiet).state == "undone"
    assert order_of(world, "ShutdownGuest replica") == ["web", "app", "db", "mail"]
    assert all(world.replica_on.values())
    assert not any(world.on.values())
    assert back(tmp_path, jobs).state == "running"


def test_a_member_that_runs_on_its_original_is_left_out(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    there(tmp_path, jobs)
    operations.fail_back(jobs["app"], YES, quiet)
    with pytest.raises(FailoverUnderWay):
        back(tmp_path, jobs)
    operations.commit(jobs["app"], quiet)
    outcome = back(tmp_path, jobs)
    assert (outcome.state, [m.job for m in outcome.members]) == ("running", ["db", "web", "mail"])
    assert outcome.group["web"].after == ()


def test_a_failback_that_was_killed_at_any_call_ends_both_ways(
    world: World, jobs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(tmp_path, jobs)
    begun = world.kill.passed
    back(tmp_path, jobs)
    for kill_at in range(begun, world.kill.passed):
        for ends in ("resume", "undo"):
            state = tmp_path / f"{kill_at}-{ends}"
            state.mkdir()
            mine = {name: replace(job, state_dir=state) for name, job in jobs.items()}
            now = World(Kill(kill_at)).use(monkeypatch)
            there(state, mine)
            with pytest.raises(Killed):
                back(state, mine)
            if ends == "resume":
                outcome = run.resume(folder(state), mine, quiet)
                assert outcome.state == "running", (kill_at, outcome.troubles)
            else:
                outcome = run.undo(folder(state), mine, quiet)
                assert outcome.state in ("undone", "aborted"), (kill_at, outcome.troubles)
            home = ends == "resume"
            assert all(on is home for on in now.on.values()), kill_at
            assert all(on is not home for on in now.replica_on.values()), kill_at


def test_what_was_committed_last_is_known_where_the_clock_was_set_back(
    world: World, jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, days = jobs["web"], itertools.count()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 6, 1, tzinfo=UTC) - timedelta(days=next(days))

    monkeypatch.setattr("vreplica.failover.machine.journal.datetime", Clock)
    assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
    operations.commit(job, quiet)
    there = history.failed_over(job)
    assert there is not None
    assert operations.fail_back(job, YES, quiet).state is FailoverState.RUNNING
    operations.commit(job, quiet)
    assert history.failed_over(job) is None, "it is back"
    again = operations.fail_over(job, YES, quiet, id_="fo-again")
    assert again.state is FailoverState.RUNNING
    assert history.current(job).name == "fo-again"


def test_of_two_that_begin_at_once_one_is_refused(
    world: World, jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, model = jobs["web"], world.members["web"]
    real = model.replica_is_on
    other: list[threading.Thread] = []
    refused: list[FailoverUnderWay] = []

    def begin_too() -> None:
        try:
            operations.fail_over(job, NO, quiet)
        except FailoverUnderWay as error:
            refused.append(error)

    def meanwhile() -> bool:
        """The first one looks whether what it is to boot can."""
        if not other:
            other.append(threading.Thread(target=begin_too))
            other[0].start()
            other[0].join(0.2)
        return real()

    monkeypatch.setattr(model, "replica_is_on", meanwhile)
    assert operations.fail_over(job, NO, quiet).state is FailoverState.RUNNING
    other[0].join()
    assert len(refused) == 1
    assert len(history.outcomes(job)) == 1, "nothing is left of it"


def test_a_member_that_could_not_start_refuses_the_group_before_any_is_touched(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.members["web"].rules_fit = False
    with pytest.raises(GuestRulesDoNotFit):
        begin(tmp_path, jobs)
    assert world.calls == []
    assert not report.folders(tmp_path, "shop")
