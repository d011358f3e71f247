"""A point is one moment of its source, also where others remove the snapshot that a run reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.sync import cycle
from vreplica.sync.cycle import run
from vreplica.sync.errors import SourceSnapshotLost
from vreplica.sync.events import Progress, ReplicationEvent, Step
from vreplica.sync.job import Job, Limits, Transport
from vreplica.sync.recovery_points import points
from vreplica.sync.verify.verify import verify
from vreplica.units import MIB
from vreplica.vsphere.errors import HostUnreachable

Content = Callable[..., Path]
SIZE = 16 * MIB


class Stranger:
    """Removes the source's snapshot in vCenter at a moment of the run, then the guest writes."""

    def __init__(self, world, vm: str, hit: Callable[[ReplicationEvent], bool]) -> None:
        self.world, self.vm, self.hit, self.done = world, vm, hit, False

    def __call__(self, event: ReplicationEvent) -> None:
        if self.done or not self.hit(event):
            return
        self.done = True
        with self.world.connect(0) as session:
            vm = session.read_vm(session.find_vm(self.vm))
            (snapshot,) = vm.snapshots
            session.remove_snapshot(vm.ref, snapshot.moref)
        for number in range(SIZE // MIB):
            data = bytes([number + 1]) * 4096
            self.world.control.guest_write(self.world.here, self.vm, 2000, number * MIB, data)


def in_the_middle_of(activity: str) -> Callable[[ReplicationEvent], bool]:
    def hit(event: ReplicationEvent) -> bool:
        known = isinstance(event, Progress) and event.activity == activity
        return known and event.done_bytes > 2 * MIB

    return hit


def at_step(name: str) -> Callable[[ReplicationEvent], bool]:
    return lambda event: isinstance(event, Step) and event.name == name


def slow(job_of: Callable[..., Job], vm: str, **changes: object) -> Job:
    return job_of(vm, limits=Limits(8 * MIB), **changes)


@pytest.mark.parametrize("transport", [Transport.VDDK, Transport.NFC])
def test_a_snapshot_that_others_remove_in_mid_copy_gives_no_point(
    world, content: Content, transport: Transport
) -> None:
    vm = world.make_vm(content(SIZE))
    world.power_on(vm)
    job = slow(world.job, vm, transport=transport)
    stranger = Stranger(world, vm, in_the_middle_of("copy"))
    with pytest.raises(Exception) as caught:
        run(job, listener=stranger)
    assert stranger.done
    if isinstance(caught.value, SourceSnapshotLost):
        assert "by" in caught.value.by
    assert points(job) == ()
    assert world.source_snapshots(vm) == ()
    report = run(world.job(vm, transport=transport), verify=True)
    assert report.verified is not None
    assert report.verified.equal


def test_a_snapshot_that_is_gone_at_the_commit_gives_no_point(world, content: Content) -> None:
    vm = world.make_vm(content(SIZE))
    world.power_on(vm)
    job = world.job(vm)
    first = run(job)
    with pytest.raises(SourceSnapshotLost) as caught:
        run(job, listener=Stranger(world, vm, at_step("commit")))
    assert "emove" in caught.value.by
    assert caught.value.exit_code == 5
    assert [p.id for p in points(job)] == [first.point.id]
    assert world.source_snapshots(vm) == ()


def test_a_difference_is_none_where_the_snapshot_went_while_it_was_compared(
    world, content: Content
) -> None:
    vm = world.make_vm(content(SIZE))
    world.power_on(vm)
    job = world.job(vm)
    run(job)
    stranger = Stranger(world, vm, in_the_middle_of("verify"))
    with pytest.raises(SourceSnapshotLost):
        verify(slow(world.job, vm), listener=stranger)


def test_a_copy_whose_source_does_not_answer_at_the_commit_is_resumed(
    world, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = world.make_vm(content(SIZE))
    world.power_on(vm)
    job = world.job(vm)

    def away(*_: object) -> None:
        raise HostUnreachable(host="vcenter", port=443, reason="timed out")

    with monkeypatch.context() as patched:
        patched.setattr(cycle, "check_snapshot_stands", away)
        with pytest.raises(HostUnreachable) as caught:
            run(job)
    assert "resumes" in str(caught.value.where.next_run)
    assert points(job) == ()
    report = run(job, verify=True)
    assert any("resumed" in text for text in report.recovered)
    assert report.verified is not None
    assert report.verified.equal
    assert world.source_snapshots(vm) == ()
