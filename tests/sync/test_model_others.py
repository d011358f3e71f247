"""Whole runs in a model that others share: a stranger in both vCenters, and a second mover.

    stranger   between any two calls: removes, adds, reverts, merges and renames snapshots of source
               and replica, steps their clocks, and the guest writes
    mover b    runs the same job with a state directory of its own, between any two calls of mover
               a; either is frozen at any step, taken over, and thawed later

What the runs end in does not matter. Every point that is ever listed is one moment of the source:
byte for byte what a snapshot froze that its run took. When the others are gone, a run ends well.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.sync_model import UNIT, Killed, Mover, Site, Vm, World, on_the_model
from vreplica.errors import VReplicaError
from vreplica.sync.cycle import run
from vreplica.sync.job import OnCbtLoss, OnReplicaChange
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.state import find_replica, snapshot_name
from vreplica.vsphere.errors import FileInUse

LEASE_LAPSES_S = 700.0
STUCK_S = 60.0


@dataclass(frozen=True)
class Act:
    """What the stranger does at a call. `which`: of the snapshots, counted modulo their number."""

    at: int
    what: str
    on_source: bool
    which: int


@dataclass(frozen=True)
class Slice:
    """How many calls a mover makes before it is frozen, and what happens to it then."""

    calls: int
    lapse: bool
    """So long that its claim lapses."""
    cut_off: bool
    """Its hosts end its connections."""


class Turns:
    """Lets one mover work at a time: the other one is frozen in the middle of a call."""

    def __init__(self, world: CrowdedWorld, movers: Sequence[Mover], slices: Sequence[Slice]):
        self.world, self.movers = world, list(movers)
        self.slices = list(slices)
        self.current = movers[0]
        self.left: int | None = self.slices[0].calls if self.slices else None
        self.changed = threading.Condition()

    def wait(self, mover: Mover) -> None:
        with self.changed:
            self._until_turn(mover)
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self._pass_on()
                    self._until_turn(mover)

    def end(self, mover: Mover) -> None:
        with self.changed:
            self.movers.remove(mover)
            self.left = None
            if self.movers:
                self.current = self.movers[0]
            self.changed.notify_all()

    def _until_turn(self, mover: Mover) -> None:
        while self.current is not mover:
            if not self.changed.wait(STUCK_S):
                raise AssertionError(f"{mover.name} waits for ever")

    def _pass_on(self) -> None:
        ended = self.slices.pop(0)
        frozen = self.current
        self.left = self.slices[0].calls if self.slices else None
        if len(self.movers) > 1:
            self.current = next(m for m in self.movers if m is not frozen)
            if ended.cut_off:
                frozen.cut_off()
        if ended.lapse:
            self.world.lapse()
        self.changed.notify_all()


class CrowdedWorld(World):
    """A world with two movers and a stranger."""

    acted: ClassVar[Counter[str]] = Counter()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.second = Mover(self, "b")
        self.acts: list[Act] = []
        self.calls = 0
        self.seen = 0
        self.busy = False
        """The guest writes all the time."""
        self.turns: Turns | None = None
        self.take_over = False
        """What the operator says, who knows that nobody else is left."""
        self.last_error: Exception | None = None
        self.failures: list[BaseException] = []
        for mover in self.movers():
            mover.steps.between = lambda mover=mover: self.between(mover)

    def movers(self) -> list[Mover]:
        return [self.first, self.second]

    def local_step(self) -> None:
        """No process dies while it writes its own files: the other model does that."""

    # -- between two calls ------------------------------------------------------------------

    def between(self, mover: Mover) -> None:
        if self.turns is not None:
            self.turns.wait(mover)
        try:
            if self.there.changed[0] != self.seen:
                self.seen = self.there.changed[0]
                self.check()
            self.calls += 1
            if self.busy and not self.calls % 3:
                value = self.calls % 251
                self.write(value, value * 37 % 100, 1 + value * 7 % 300, value)
            while self.acts and self.acts[0].at <= self.calls:
                self.act(self.acts.pop(0))
        except AssertionError as error:
            self.failures.append(error)
            raise

    def act(self, act: Act) -> None:
        site = self.here if act.on_source else self.there
        vm = self.source if act.on_source else next(iter(self.there.vms.values()), None)
        if vm is None:
            return
        try:
            getattr(self, act.what)(site, vm, act.which)
        except FileInUse:
            return
        CrowdedWorld.acted[f"{act.what} on {'source' if act.on_source else 'replica'}"] += 1

    def remove_one(self, site: Site, vm: Vm, which: int) -> None:
        if vm.snapshots:
            site.remove_snapshot(vm.ref, vm.snapshots[which % len(vm.snapshots)].info.moref)

    def add_one(self, site: Site, vm: Vm, which: int) -> None:
        if len(vm.snapshots) < 30:
            name = ["by hand", snapshot_name(self.job.name)][which % 2]
            site.create_snapshot(vm.ref, name, "a person took it", None)

    def revert(self, site: Site, vm: Vm, which: int) -> None:
        if vm.snapshots:
            site.revert_to_snapshot(vm.ref, vm.snapshots[which % len(vm.snapshots)].info.moref)

    def merge_all(self, site: Site, vm: Vm, which: int) -> None:
        for snapshot in list(vm.snapshots):
            site.remove_snapshot(vm.ref, snapshot.info.moref)

    def rename(self, site: Site, vm: Vm, which: int) -> None:
        if vm.snapshots:
            snapshot = vm.snapshots[which % len(vm.snapshots)]
            name = ["renamed", snapshot_name(self.job.name), vm.snapshots[0].info.name][which % 3]
            snapshot.info = replace(snapshot.info, name=name)

    def step_clock(self, site: Site, vm: Vm, which: int) -> None:
        site.step_clock([-86400.0, -60.0, 3600.0, 86400.0][which % 4])

    def guest_writes(self, site: Site, vm: Vm, which: int) -> None:
        self.write(which, which * 17 % 100, 40 + which * 30, which + 1)

    def lapse(self) -> None:
        for site in (self.here, self.there):
            site.step_clock(LEASE_LAPSES_S)

    # -- runs -------------------------------------------------------------------------------

    def crowd(
        self,
        who: int,
        slices: Sequence[Slice],
        acts: Sequence[Act],
        end: tuple[int | None, bool] = (None, False),
    ) -> None:
        """One run of one mover, or of both at once, while the stranger acts."""
        movers = [[self.first], [self.second], self.movers(), self.movers()[::-1]][who]
        self.acts = sorted(acts, key=lambda a: a.at)
        self.calls, self.busy = 0, bool(acts or slices)
        self.turns = Turns(self, movers, slices)
        threads = [
            threading.Thread(target=self.run_one, args=(m, *(end if n == 0 else (None, False))))
            for n, m in enumerate(movers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.turns = None
        self.acts, self.busy = [], False
        if self.failures:
            raise self.failures[0]
        self.check()

    def run_one(self, mover: Mover, left: int | None, kill: bool) -> None:
        World.runs += 1
        self.acting.mover = mover
        mover.begin(left, kill=kill)
        job = replace(
            mover.job, on_cbt_loss=OnCbtLoss.RESCAN, on_replica_change=OnReplicaChange.DISCARD
        )
        try:
            run(job, take_over=self.take_over)
            World.ended["made"] += 1
        except (Killed, VReplicaError) as error:
            World.ended[type(error).__name__] += 1
            self.last_error = error
        except BaseException as error:
            self.failures.append(error)
        finally:
            mover.end(self)
            if self.turns is not None:
                self.turns.end(mover)

    def tidy(self) -> None:
        """A person does what refused runs advise, and time passes."""
        for snapshot in list(self.source.snapshots):
            if snapshot.info.name != snapshot_name(self.job.name):
                self.here.remove_snapshot(self.source.ref, snapshot.info.moref)
        replica = find_replica(self.there, self.job)
        for info in replica.foreign if replica is not None else ():
            self.there.remove_snapshot(replica.vm.ref, info.moref)
        self.lapse()

    # -- what always holds ------------------------------------------------------------------

    def check(self) -> None:
        found = points(self.job)
        assert len({p.id for p in found}) == len(found)
        for point in found:
            self.check_moment(point)

    def check_last(self) -> None:
        """With the others gone, runs of each mover end well. The first may resume an old one."""
        self.take_over = True
        for mover in self.movers():
            self.tidy()
            for _ in range(2):
                self.last_error = None
                self.crowd(self.movers().index(mover), (), ())
                problems = getattr(self.last_error, "problems", self.last_error)
                assert self.last_error is None, problems
            newest = points(self.job)[-1]
            now = {k: bytes(d.content) for k, d in self.source.disks.items()}
            assert self.here.froze[newest.id][-1] == now
            (replica,) = self.there.vms.values()
            assert {k: bytes(d.content) for k, d in replica.disks.items()} == now
            assert not self.source.snapshots
            assert not self.there.writers


WHAT = (
    "remove_one",
    "add_one",
    "revert",
    "merge_all",
    "rename",
    "step_clock",
    "guest_writes",
)
ACT = st.builds(Act, st.integers(0, 140), st.sampled_from(WHAT), st.booleans(), st.integers(0, 11))
SLICE = st.builds(Slice, st.integers(1, 180), st.booleans(), st.booleans())
FILLS = st.integers(0, 3)
WRITE = st.tuples(
    st.just("write"), st.integers(0, 2), st.integers(0, 99), st.integers(1, 300), FILLS
)
END = st.tuples(st.one_of(st.none(), st.none(), st.integers(0, 150)), st.booleans())
"""The call at which the first mover is killed or cut off, and which of the two."""
TWO = st.tuples(
    st.just("crowd"),
    st.integers(2, 3),
    st.lists(SLICE, min_size=1, max_size=5),
    st.lists(ACT, max_size=2),
    END,
)
ONE = st.tuples(
    st.just("crowd"),
    st.integers(0, 1),
    st.just([]),
    st.lists(ACT, min_size=1, max_size=5),
    END,
)
EVENTS = st.one_of(
    WRITE,
    TWO,
    TWO,
    ONE,
    ONE,
    st.tuples(st.just("tidy")),
    st.tuples(st.just("add"), st.integers(0, 100), FILLS),
    st.tuples(st.just("remove"), st.integers(0, 2)),
)


def live(one_machine: bool, events: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=UNIT if UNIT.is_dir() else None) as folder:
        world = CrowdedWorld(Path(folder))
        world.one_machine = one_machine
        with on_the_model(world):
            for name, *values in events:
                getattr(world, str(name))(*values)
            world.check_last()


@given(st.booleans(), st.lists(EVENTS, min_size=6, max_size=12))
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
def test_a_point_is_one_moment_of_the_source_whatever_others_do(
    one_machine: bool, events: list[tuple[object, ...]]
) -> None:
    live(one_machine, events)


@pytest.mark.slow
def test_so_it_is_over_twenty_thousand_runs() -> None:
    World.runs, World.ended = 0, Counter()

    @given(st.booleans(), st.lists(EVENTS, min_size=8, max_size=24))
    @settings(
        max_examples=2400,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
    )
    def many(one_machine: bool, events: list[tuple[object, ...]]) -> None:
        live(one_machine, events)

    many()
    print(f"{World.runs} runs: {dict(World.ended)}; {dict(CrowdedWorld.acted)}")
    assert World.runs >= 20_000
    assert len(CrowdedWorld.acted) == 2 * len(WHAT)
