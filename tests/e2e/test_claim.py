"""A replica has one writer, whatever state directory or machine its writers have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from vreplica.points.vm_keys import CLAIM_KEY, LEAF_KEY
from vreplica.sync.claim import takeover
from vreplica.sync.claim.claim import Claim, ClaimKind
from vreplica.sync.cycle import run
from vreplica.sync.errors import (
    ClaimLost,
    PreflightFailed,
    ReplicaChangedMeanwhile,
    ReplicaClaimed,
    ReplicaStillOpen,
)
from vreplica.sync.events import Progress, ReplicationEvent, Step, Warn
from vreplica.sync.job import Job, Transport
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.state import replica_mark, snapshot_name
from vreplica.sync.transport.disks import open_leaf
from vreplica.sync.verify.verify import verify
from vreplica.units import MIB
from vreplica.vsphere.session import Session

Content = Callable[..., Path]
SIZE = 4 * MIB


@pytest.fixture
def job(world, content: Content, transport: Transport) -> Job:
    vm = world.make_vm(content(SIZE))
    world.power_on(vm)
    job = world.job(vm, transport=transport)
    run(job)
    return job


@pytest.fixture(params=[Transport.VDDK, Transport.NFC])
def transport(request) -> Transport:
    return request.param


def claimed_elsewhere(session: Session, job: Job, *, minutes: int = 0) -> Claim:
    """The claim of a run on another machine, renewed so long ago."""
    ref = session.find_vm(job.placement.name)
    now = session.server_time() - timedelta(minutes=minutes)
    made = Claim.new("20260101T000000Z-other", ClaimKind.RUN, run="r", epoch=1, now=now)
    made = replace(made, host="mover2", process="other-boot/1/2/3")
    session.set_extra_config(ref, made.option)
    return made


def claim_of(world, job: Job) -> Claim | None:
    with world.connect(1) as session:
        return Claim.of(session.read_vm(session.find_vm(job.placement.name)).extra_config)


def test_a_run_gives_its_claim_back(world, job: Job) -> None:
    assert claim_of(world, job) is None


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_what_another_mover_has_is_left_to_it(world, job: Job) -> None:
    with world.connect(1) as session:
        other = claimed_elsewhere(session, job)
        for work in (run, verify):
            with pytest.raises(ReplicaClaimed) as caught:
                work(job)
            assert "mover2" in str(caught.value)
            assert caught.value.exit_code == 3
        assert any("mover2" in problem for problem in plan(job).problems)
        assert claim_of(world, job) == other
        assert world.source_snapshots(job.source_vm) == ()
        assert len(points(job)) == 1

        report = run(job, take_over=True)
        assert "mover2" in report.recovered[0]
        claimed_elsewhere(session, job, minutes=11)
        assert "not renewed for 11 minutes" in run(job).recovered[0]


def test_a_takeover_waits_for_the_disks_of_the_old_owner(
    world, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "WAIT_S", 0.0)
    with world.connect(1) as session:
        replica = session.read_vm(session.find_vm(job.placement.name))
        other = claimed_elsewhere(session, job, minutes=11)
        old = open_leaf(job, session, replica.ref, replica.disks[0])
        with pytest.raises(ReplicaStillOpen) as caught:
            run(job)
        assert "mover2" in str(caught.value)
        # The old owner can go on: nothing was taken from it.
        assert claim_of(world, job) == other
        old.close()
        assert run(job, verify=True).verified.equal  # type: ignore[union-attr]


class Other:
    """Another mover, which takes the replica over at a moment of a run and makes a point."""

    def __init__(self, world, job: Job, hit: Callable[[ReplicationEvent], bool]) -> None:
        self.world, self.hit, self.done = world, hit, False
        self.job = replace(job, state_dir=job.state_dir / "other")

    def __call__(self, event: ReplicationEvent) -> None:
        if self.done or not self.hit(event):
            return
        self.done = True
        self.world.control.guest_write(
            self.world.here, self.job.source_vm, 2000, 0, bytes([7]) * MIB
        )
        run(self.job, take_over=True)


@pytest.mark.parametrize("step", ["track", "snapshot", "copy", "commit"])
def test_who_was_taken_over_makes_no_point_and_spoils_none(world, job: Job, step: str) -> None:
    world.control.guest_write(world.here, job.source_vm, 2000, MIB, bytes([5]) * MIB)
    if step == "track":
        # The first step after the claim, before anything is done.
        other = Other(world, job, lambda e: isinstance(e, Step) and e.name == "snapshot")
    else:
        other = Other(world, job, lambda e: isinstance(e, Step) and e.name == step)
    with pytest.raises(ClaimLost) as caught:
        run(job, listener=other)
    assert caught.value.exit_code == 3
    assert other.done
    assert len(points(job)) == 2
    assert world.source_snapshots(job.source_vm) == ()
    for mover in (job, other.job):
        assert verify(mover).equal
    assert run(job, verify=True).verified.equal  # type: ignore[union-attr]


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_what_a_late_writer_made_is_no_point_and_goes(world, job: Job) -> None:
    """It was held up right before its snapshot, after another one had taken over."""
    (point,) = points(job)
    with world.connect(1) as session:
        ref = session.find_vm(job.placement.name)
        text = session.read_snapshots(ref)[0].description
        # With the claim of the new owner, and later with the description of the new point.
        claimed_elsewhere(session, job)
        session.create_snapshot(ref, "late-1", text, None)
        session.set_extra_config(ref, {CLAIM_KEY: ""})
        session.create_snapshot(ref, "late-2", text, None)
    assert points(job) == (point,)
    assert [s for s in plan(job).steps if "late-" in s]
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert sum("late-" in text for text in report.recovered) == 2
    with world.connect(1) as session:
        left = session.read_snapshots(session.find_vm(job.placement.name))
    assert [s.name for s in left] == [point.id, report.point.id]


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_a_person_s_snapshot_of_the_replica_is_neither_a_point_nor_removed(world, job: Job) -> None:
    with world.connect(1) as session:
        ref = session.find_vm(job.placement.name)
        session.create_snapshot(ref, "before the patch", "by Ann", None)
    assert len(points(job)) == 1
    assert any("before the patch" in problem for problem in plan(job).problems)


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_a_snapshot_of_the_replica_in_mid_copy_makes_no_point(world, job: Job) -> None:
    world.control.guest_write(world.here, job.source_vm, 2000, 0, bytes([9]) * MIB)

    def stranger(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "commit":
            with world.connect(1) as session:
                ref = session.find_vm(job.placement.name)
                session.create_snapshot(ref, "by hand", "by Ann", None)

    with pytest.raises(ReplicaChangedMeanwhile) as caught:
        run(job, listener=stranger)
    assert caught.value.exit_code == 7
    assert len(points(job)) == 1


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_a_run_that_fails_before_it_writes_reverts_nothing(
    world, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverted = []
    real = Session.revert_to_snapshot
    monkeypatch.setattr(Session, "revert_to_snapshot", lambda *a: (reverted.append(a), real(*a))[1])

    def stop(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "snapshot":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, listener=stop)
    assert not reverted
    with world.connect(1) as session:
        values = session.read_vm(session.find_vm(job.placement.name)).extra_config
    assert not values.get(LEAF_KEY)
    assert not values.get(CLAIM_KEY)


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_a_long_run_renews_its_claim(world, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vreplica.sync.claim.held_claim.RENEW_S", 0.05)
    world.control.guest_write(world.here, job.source_vm, 2000, 0, bytes([9]) * SIZE)
    seen: list[str] = []

    def watch(event: ReplicationEvent) -> None:
        if isinstance(event, Progress | Step | Warn) and (claim := claim_of(world, job)):
            seen.append(claim.renewed)

    report = run(job, listener=watch, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert claim_of(world, job) is None
    assert seen


@pytest.mark.parametrize("transport", [Transport.NFC], indirect=True)
def test_the_snapshot_of_a_job_with_the_same_name_and_another_replica_is_left_alone(
    world, job: Job
) -> None:
    name = snapshot_name(job.name)
    text = f"Taken by vreplica for job {job.name}, run R. It is removed when the run ends. "
    with world.connect(0) as session:
        ref = session.find_vm(job.source_vm)
        made = session.create_snapshot(ref, name, text + replica_mark("other-uuid"), None)
        with pytest.raises(PreflightFailed) as refused:
            run(job)
        assert any("another replica" in problem for problem in refused.value.problems)
        session.remove_snapshot(ref, made.moref)
        # One of an earlier version names no replica: it is this job's, and of a dead run.
        session.create_snapshot(ref, name, text, None)
    assert any("removed a snapshot" in text for text in run(job).recovered)
