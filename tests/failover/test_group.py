"""Groups: whose turn it is, what an error stops, and a kill at every call of every member."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vreplica.failover import failback, history, operations
from vreplica.failover.failback import FailbackPlan
from vreplica.failover.group import report, run
from vreplica.failover.machine.choices import Choices, FinalSync, OnError
from vreplica.failover.machine.errors import (
    FailedOverAlready,
    FailoverUnderWay,
    GroupNotRunning,
    NothingToFailBack,
    NotPossibleNow,
)
from vreplica.failover.machine.group_order import Group, Member, Pass, cycle, waves
from vreplica.failover.machine.runner import Outcome
from vreplica.failover.machine.states import State
from vreplica.points import Level, RecoveryPoint
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
YES = Choices(shutdown_timeout_s=0.01, heartbeat_timeout_s=0.01)
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


class Killed(BaseException):
    """kill -9."""


@dataclass
class World:
    """All members' VMs, and the calls in their order."""

    on: dict[str, bool] = field(default_factory=dict)
    replica_on: dict[str, bool] = field(default_factory=dict)
    job_on: dict[str, bool] = field(default_factory=dict)
    points: dict[str, list[RecoveryPoint]] = field(default_factory=dict)
    leaf: dict[str, str | None] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hangs: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    kill_at: int | None = None
    edge: int = 0

    def __post_init__(self) -> None:
        for name in ("db", "app", "web", "mail"):
            self.on[name], self.replica_on[name], self.job_on[name] = True, False, True
            self.points[name] = [_point("old", Level.APPLICATION)]
            self.leaf[name] = "old"

    def die(self) -> None:
        for name, on in self.on.items():
            assert not (on and self.replica_on[name]), f"both of {name} are on"
        self.edge += 1
        if self.edge == self.kill_at:
            raise Killed


def _point(id_: str, level: Level) -> RecoveryPoint:
    return RecoveryPoint(id_, "job", "uuid", "vm", datetime.now(UTC), level, level, ())


class Sides:
    world: World

    def __init__(self, job: Job, failover: str, listener: object) -> None:
        self.name = job.name
        self.source, self.target = self.world.on, self.world.replica_on

    def __enter__(self) -> Sides:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __getattr__(self, method: str) -> Any:
        """Effects: `where, what it becomes`; the call is noted, and may be the last."""
        w, name = self.world, self.name
        effects = {
            "disable_job": lambda *_: w.job_on.__setitem__(name, False),
            "enable_job": lambda *_: w.job_on.__setitem__(name, True),
            "shut_down_source": lambda: self.source.__setitem__(name, name in w.hangs),
            "power_off_source": lambda: self.source.__setitem__(name, False),
            "power_on_source": lambda: self.source.__setitem__(name, True),
            "power_on_replica": lambda: (
                self.target.__setitem__(name, True),
                w.leaf.__setitem__(name, None),
            ),
            "power_off_replica": lambda: self.target.__setitem__(name, False),
            "put_replica_on": lambda id_: w.leaf.__setitem__(name, id_),
            "settle_direction": lambda *_: None,
            "connect_source": lambda *_: None,
        }
        act = effects[method]

        def call(*args: object) -> None:
            w.die()
            act(*args)
            w.calls.append(f"{method} {name}")
            w.die()

        return call

    def points(self) -> tuple[RecoveryPoint, ...]:
        return tuple(self.world.points[self.name])

    def sync(self, id_: str, level: Level | None, fence: Any) -> RecoveryPoint:
        self.world.die()
        made = _point(id_, level or Level.APPLICATION)
        self.world.points[self.name].append(made)
        self.world.leaf[self.name] = id_
        self.world.calls.append(f"sync{id_[-2:]} {self.name}")
        self.world.die()
        return made

    def replica_is_frozen(self) -> bool:
        return True

    def source_is_off(self) -> bool:
        return not self.source[self.name]

    def source_was_pulled(self) -> bool:
        return False

    def source_time(self) -> datetime:
        return datetime.now(UTC)

    def source_started_since(self, time: datetime) -> datetime | None:
        return None

    def replica_is_touched(self) -> bool:
        return False

    def source_can_shut_down(self) -> bool:
        return True

    def replica_is_on(self) -> bool:
        return self.target[self.name]

    def replica_stands_on(self) -> str | None:
        return self.world.leaf[self.name]

    def tasks(self) -> dict[str, list[str]]:
        return {}

    def preparations(self) -> tuple[()]:
        return ()

    def finishings(self) -> tuple[()]:
        return ()

    def replica_answers(self) -> bool:
        return self.target[self.name] and self.name not in self.world.silent


class SidesBack(Sides):
    """The replica is the source, and the original what is started."""

    def __init__(self, job: Job, back: FailbackPlan, failover: str, listener: object) -> None:
        super().__init__(job, failover, listener)
        self.source, self.target = self.target, self.source


def way_back(job: Job, of: Outcome, *, new_vm: str | None = None) -> FailbackPlan:
    return FailbackPlan(
        "original", "replica", "ds", str(of.facts["point"]), "clean-shutdown", of.id
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(Sides, "world", made, raising=False)
    monkeypatch.setattr(operations, "VSphereSides", Sides)
    monkeypatch.setattr(operations, "FailbackPorts", SidesBack)
    monkeypatch.setattr(failback, "read_plan", way_back)
    # These processes die in the model only: what is written need not reach the disk.
    monkeypatch.setattr("os.fsync", lambda fd: None)
    return made


@pytest.fixture
def jobs(tmp_path: Path) -> dict[str, Job]:
    nowhere = Endpoint("127.0.0.1", "u", "p", "AB" * 32)
    return {
        m.name: Job(m.name, nowhere, m.name, nowhere, Placement("ds", f"{m.name}-r"), tmp_path)
        for m in SHOP.members
    }


def quiet(text: str) -> None:
    pass


def begin(
    tmp_path: Path, jobs: dict[str, Job], group: Group = SHOP, choices: Choices = YES
) -> report.GroupOutcome:
    return run.begin(tmp_path, group, jobs, choices, quiet)


def folder(tmp_path: Path) -> Path:
    return report.folders(tmp_path, "shop")[-1]


def order_of(world: World, call: str) -> list[str]:
    return [c.split()[1] for c in world.calls if c.startswith(f"{call} ")]


def test_all_are_insured_then_brought_down_backwards_then_started(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    outcome = begin(tmp_path, jobs)
    assert outcome.state == "running"
    assert order_of(world, "shut_down_source") == ["web", "app", "db", "mail"]
    assert order_of(world, "power_on_replica") == ["db", "app", "web", "mail"]
    kinds = [c.split()[0] for c in world.calls]
    assert max(i for i, k in enumerate(kinds) if k == "sync-a") < kinds.index("shut_down_source")
    assert max(i for i, k in enumerate(kinds) if k == "sync-b") < kinds.index("power_on_replica")
    assert run.commit(folder(tmp_path), jobs, quiet).state == "committed"
    with pytest.raises(FailedOverAlready):
        begin(tmp_path, jobs)


def test_one_that_hangs_stops_the_group_before_any_replica_starts(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.hangs = {"app"}
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
    world.hangs.clear()
    assert begin(tmp_path, jobs).state == "running"


def test_going_on_brings_up_all_that_can_stand_without_the_one_that_failed(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.hangs = {"app"}
    outcome = begin(tmp_path, jobs, replace(SHOP, on_error=OnError.CONTINUE))
    assert outcome.state == "stopped"
    assert [n for n, on in world.replica_on.items() if on] == ["db", "mail"]
    assert outcome.troubles["web"] == "left out: it needs app"
    assert world.on["app"]


def test_who_needs_a_silent_one_waits_until_it_answers(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.silent = {"db"}
    stopped = begin(tmp_path, jobs)
    assert stopped.state == "stopped"
    assert order_of(world, "power_on_replica") == ["db"]
    world.silent = set()
    assert run.resume(folder(tmp_path), jobs, quiet).state == "running"
    assert order_of(world, "power_on_replica") == ["db", "app", "web", "mail"]


def test_a_member_may_be_told_not_to_wait_for_its_heartbeat(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    world.silent = {"db"}
    first, *others = SHOP.members
    group = replace(SHOP, members=(replace(first, heartbeat=False), *others))
    assert begin(tmp_path, jobs, group).state == "running"


def test_undo_goes_backwards(world: World, jobs: dict[str, Job], tmp_path: Path) -> None:
    begin(tmp_path, jobs)
    assert run.undo(folder(tmp_path), jobs, quiet).state == "undone"
    assert order_of(world, "power_off_replica") == ["web", "app", "db", "mail"]


def test_a_member_that_is_failed_over_already_refuses_the_group_before_anything_is_done(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    operations.begin(jobs["web"], YES, quiet)
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
    for kill_at in range(1, world.edge + 1):
        state = tmp_path / str(kill_at)
        state.mkdir()
        mine = {name: replace(job, state_dir=state) for name, job in jobs.items()}
        now = World(kill_at=kill_at)
        monkeypatch.setattr(Sides, "world", now)
        with pytest.raises(Killed):
            begin(state, mine, choices=choices)
        outcome = run.resume(folder(state), mine, quiet)
        assert outcome.state == "running", (kill_at, outcome.troubles)
        once = [c for c in now.calls if c.startswith(("sync", "power_on"))]
        assert once == [c for c in straight if c.startswith(("sync", "power_on"))], kill_at


def test_undo_also_ends_what_a_kill_left(
    world: World, jobs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, jobs)
    for kill_at in range(1, world.edge + 1):
        state = tmp_path / str(kill_at)
        state.mkdir()
        mine = {name: replace(job, state_dir=state) for name, job in jobs.items()}
        now = World(kill_at=kill_at)
        monkeypatch.setattr(Sides, "world", now)
        with pytest.raises(Killed):
            begin(state, mine)
        outcome = run.undo(folder(state), mine, quiet)
        assert outcome.state in ("undone", "aborted"), (kill_at, outcome.troubles)
        assert all(now.on.values()), kill_at
        assert all(now.job_on.values()), kill_at
        assert not any(now.replica_on.values()), kill_at
        ended = {m.state for m in outcome.members}
        assert ended <= {State.UNDONE, State.ABORTED, None}


# -- and back ---------------------------------------------------------------------------------


def there(tmp_path: Path, jobs: dict[str, Job]) -> None:
    """All members are failed over for good."""
    begin(tmp_path, jobs)
    assert run.commit(folder(tmp_path), jobs, quiet).state == "committed"


def back(
    tmp_path: Path, jobs: dict[str, Job], group: Group = SHOP, choices: Choices = YES
) -> report.GroupOutcome:
    return run.begin_back(tmp_path, group, jobs, choices, quiet)


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
    assert order_of(world, "shut_down_source") == ["web", "app", "db", "mail"]
    assert order_of(world, "power_on_replica") == ["db", "app", "web", "mail"]
    kinds = [c.split()[0] for c in world.calls]
    assert max(i for i, k in enumerate(kinds) if k == "sync-a") < kinds.index("shut_down_source")
    assert max(i for i, k in enumerate(kinds) if k == "sync-b") < kinds.index("power_on_replica")
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
    assert order_of(world, "power_off_replica") == ["web", "app", "db", "mail"]
    assert all(world.replica_on.values())
    assert not any(world.on.values())
    assert back(tmp_path, jobs).state == "running"


def test_a_member_that_runs_on_its_original_is_left_out(
    world: World, jobs: dict[str, Job], tmp_path: Path
) -> None:
    there(tmp_path, jobs)
    operations.begin_back(jobs["app"], YES, quiet)
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
    begun = world.edge
    back(tmp_path, jobs)
    for kill_at in range(begun + 1, world.edge + 1):
        for ends in ("resume", "undo"):
            state = tmp_path / f"{kill_at}-{ends}"
            state.mkdir()
            mine = {name: replace(job, state_dir=state) for name, job in jobs.items()}
            now = World(kill_at=kill_at)
            monkeypatch.setattr(Sides, "world", now)
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
    assert operations.begin(job, YES, quiet).state is State.RUNNING
    operations.commit(job, quiet)
    there = history.failed_over(job)
    assert there is not None
    assert operations.begin_back(job, YES, quiet).state is State.RUNNING
    operations.commit(job, quiet)
    assert history.failed_over(job) is None, "it is back"
    again = operations.begin(job, YES, quiet, id_="fo-again")
    assert again.state is State.RUNNING
    assert history.current(job).name == "fo-again"


def test_of_two_that_begin_at_once_one_is_refused(
    world: World, jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = jobs["web"], Sides.replica_is_on
    other: list[threading.Thread] = []
    refused: list[FailoverUnderWay] = []

    def begin_too() -> None:
        try:
            operations.begin(job, NO, quiet)
        except FailoverUnderWay as error:
            refused.append(error)

    def meanwhile(self: Sides) -> bool:
        """The first one looks whether what it is to boot can."""
        if not other:
            other.append(threading.Thread(target=begin_too))
            other[0].start()
            other[0].join(0.2)
        return real(self)

    monkeypatch.setattr(Sides, "replica_is_on", meanwhile)
    assert operations.begin(job, NO, quiet).state is State.RUNNING
    other[0].join()
    assert len(refused) == 1
    assert len(history.outcomes(job)) == 1, "nothing is left of it"
