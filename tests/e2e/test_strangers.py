"""Runs on the lab while a stranger works in both vCenters, between any two calls of a run.

He removes, adds, reverts, merges and renames snapshots of source and replica and steps the clocks,
and the guest writes. What a run ends in does not matter: every listed point is one moment of the
source. When he is gone, a run ends well. The same in memory, and with a second mover:
tests/sync/test_model_others.py.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from vreplica.errors import VReplicaError
from vreplica.points import Retention
from vreplica.sync.cycle import run
from vreplica.sync.job import Job, OnCbtLoss, OnReplicaChange, Transport
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.state import find_replica, snapshot_name
from vreplica.units import BLOCK, MIB
from vreplica.vsphere.connection.link import ServerLink
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.model import SnapshotInfo, VmRef
from vreplica.vsphere.session import Session

SIZE = 2 * MIB
CALLS = 120
"""About so many calls a run makes."""


class Stranger:
    """Acts in the middle of runs, and knows every content that the source has ever had."""

    def __init__(self, world: Any, sessions: tuple[Session, Session], chance: random.Random):
        self.world, self.sessions, self.chance = world, sessions, chance
        self.sides = (0, 1)
        """Where he acts: 0 on the source, 1 on the replica."""
        self.vm: str = world.make_vm(SIZE)
        world.power_on(self.vm)
        self.job: Job = world.job(
            self.vm,
            retention=Retention(last=4),
            transport=chance.choice([Transport.VDDK, Transport.NFC]),
            on_cbt_loss=OnCbtLoss.RESCAN,
            on_replica_change=OnReplicaChange.DISCARD,
        )
        self.moments: set[str] = set()
        self.acts: Counter[int] = Counter()
        """How often he acts at which call."""
        self.calls = 0
        self.acting = threading.Lock()
        self.done: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.learn()

    # -- between two calls ------------------------------------------------------------------

    def between(self) -> None:
        if not self.acts or not self.acting.acquire(blocking=False):
            return  # it is his own call, or he is at work for another thread of the run
        try:
            self.calls += 1
            for _ in range(self.acts.pop(self.calls, 0)):
                self.act()
        finally:
            self.acting.release()

    def act(self) -> None:
        where = self.chance.choice(self.sides)
        session, name = self.sessions[where], (self.vm, self.job.placement.name)[where]
        act = self.chance.choice(
            [self.remove, self.add, self.revert, self.merge, self.rename, self.clock, self.guest]
        )
        with suppress(VReplicaError):  # there is no replica yet, or a file is locked
            ref = session.find_vm(name)
            act(session, ref, session.read_snapshots(ref))
            self.done[act.__name__] += 1
        with suppress(VReplicaError):
            self.guest_writes()

    def remove(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        if found:
            session.remove_snapshot(ref, self.chance.choice(found).moref)

    def add(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        name = self.chance.choice(["by hand", snapshot_name(self.job.name)])
        session.create_snapshot(ref, name, "a person took it", None)

    def revert(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        if found:
            session.revert_to_snapshot(ref, self.chance.choice(found).moref)
            if session is self.sessions[0]:
                self.learn()

    def merge(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        for snapshot in found:
            session.remove_snapshot(ref, snapshot.moref)

    def rename(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        if found:
            snapshot = session._link.managed(vim.vm.Snapshot, self.chance.choice(found).moref)
            names = ["renamed", snapshot_name(self.job.name), found[0].name]
            session._link.call(
                "renaming", snapshot.RenameSnapshot, self.chance.choice(names), expects_answer=False
            )

    def clock(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        self.world.control.step_clock(self.chance.choice([-86400.0, 0.0, 3600.0, 86400.0]))

    def guest(self, session: Session, ref: VmRef, found: tuple[SnapshotInfo, ...]) -> None:
        """Only writes, as after every act."""

    # -- the source -------------------------------------------------------------------------

    def guest_writes(self) -> None:
        control, here = self.world.control, self.world.here
        if control.describe_vm(here, self.vm)["power"] != "poweredOn":
            self.world.power_on(self.vm)
        for _ in range(3):
            data = self.chance.randbytes(self.chance.choice([512, BLOCK, 3 * BLOCK]))
            at = self.chance.randrange(0, SIZE - len(data)) // 512 * 512
            self.world.write(self.vm, 2000, at, data)
            self.learn()

    def learn(self) -> None:
        """What the source holds now is a moment of it. Only he and his guest change it."""
        content = self.world.control.guest_read(self.world.here, self.vm, 2000, 0, SIZE)
        self.moments.add(hashlib.sha256(content).hexdigest())

    # -- runs -------------------------------------------------------------------------------

    def run(self, *, alone: bool = False) -> None:
        self.calls = 0
        acts = self.chance.randint(1, 4)
        self.acts = Counter(self.chance.randint(1, CALLS) for _ in range(0 if alone else acts))
        try:
            run(self.job)
            self.ended["made"] += 1
        except VReplicaError as error:
            self.ended[type(error).__name__] += 1
            if alone:
                raise
        finally:
            self.acts = Counter()
        self.check()

    def check(self) -> None:
        for point in points(self.job):
            assert point.snapshot is not None
            disk = self.world.point_disks(self.job, point.snapshot)[2000]
            content = self.world.image(1, disk, self.world.work / "point.raw").read_bytes()
            assert hashlib.sha256(content).hexdigest() in self.moments, point.id

    def tidy(self) -> None:
        """A person does what refused runs advise."""
        here, there = self.sessions
        source = here.read_vm(here.find_vm(self.vm))
        for snapshot in source.snapshots:
            if snapshot.name != snapshot_name(self.job.name):
                here.remove_snapshot(source.ref, snapshot.moref)
        replica = find_replica(there, self.job)
        for snapshot in replica.foreign if replica is not None else ():
            there.remove_snapshot(replica.vm.ref, snapshot.moref)
        self.world.control.step_clock(0.0)

    def check_last(self) -> None:
        """He is gone: a run ends well (the first may resume an old one), and nothing is left."""
        self.tidy()
        self.run(alone=True)
        self.run(alone=True)
        assert not self.world.source_snapshots(self.vm)


@pytest.fixture
def stranger(world, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Stranger]]:
    present: list[Stranger] = []
    real = ServerLink._run

    def between(link: ServerLink, *args: Any, **more: Any) -> Any:
        if present and link not in [s._link for s in present[-1].sessions]:
            present[-1].between()
        return real(link, *args, **more)

    monkeypatch.setattr(ServerLink, "_run", between)
    with world.connect(0) as here, world.connect(1) as there:

        def make(seed: int) -> Stranger:
            present.append(Stranger(world, (here, there), random.Random(seed)))
            return present[-1]

        yield make
    world.control.step_clock(0.0)


def live(make: Callable[[int], Stranger], seed: int, runs: int) -> Stranger:
    found = make(seed)
    for number in range(runs):
        found.run()
        if number % 3 == 2:
            found.tidy()
    found.check_last()
    return found


def test_a_point_is_one_moment_of_the_source_whatever_a_stranger_does(stranger) -> None:
    for seed in (1, 2):
        assert live(stranger, seed, 8).ended["made"] >= 2


@pytest.mark.slow
def test_so_it_is_over_a_thousand_runs(stranger) -> None:
    ended: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for seed in range(100, 140):
        print(f"seed {seed}", flush=True)
        found = live(stranger, seed, 24)
        ended += found.ended
        done += found.done
    print(dict(ended), dict(done))
    assert ended.total() >= 1000
    assert len(done) == 7
