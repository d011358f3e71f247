"""Metadata on VMs, damaged at random: no command ends as a defect, no point is a wrong one.

Real values (tests/samples) are changed, as they were stored and with the checksum that points have
now. Whatever is read back is looked at as the commands look at it.
"""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.mutations import mutated, no_longer_than, one_bit
from tests.support.sample_reading import SAMPLES, Stored, job_of
from vreplica.cli.render import text
from vreplica.cli.render.console import _Console, print_part
from vreplica.cli.results.document import document
from vreplica.errors import VReplicaError
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.mark import entries_of, mark_of
from vreplica.failover.machine.point_choice import PointChoice, choose_point
from vreplica.failover.preview import damaged_remarks, flag_remarks, newer_remarks
from vreplica.points import RecoveryPoint, Retention
from vreplica.points.failover_mark import FailoverMark, is_newer
from vreplica.points.preference import Preference
from vreplica.points.vm_keys import DISK_KEY, FAILOVER_KEY, POINT_KEY, TEST_KEY
from vreplica.stored import seal_json
from vreplica.sync.claim.in_failover import in_failover
from vreplica.sync.recovery_points import ReplicaPoints
from vreplica.sync.replica.foreign_changes import power_on_since_point
from vreplica.sync.replica.orphan_files import made_by_run
from vreplica.sync.replica.state import ReplicaState, foreign_snapshots, need_points
from vreplica.sync.replica.test_vm import OwnerMark

VMS = sorted((SAMPLES / "v0_1" / "vms").glob("*.json"))


class Session(Stored):
    """A stored VM whose extraConfig can be changed; it has no events."""

    def events(self, ref: Any, since: Any = None) -> tuple[()]:
        return ()

    def refresh(self) -> Any:
        return self.snapshots[-1].created if self.snapshots else self.now

    def host_clock_ahead(self, ref: Any) -> timedelta:
        return timedelta(0)

    def change(self, number: int, values: dict[str, str]) -> None:
        """Of a snapshot; -1: of the VM itself."""
        if number < 0:
            self.info = dataclasses.replace(self.info, extra_config=values)
            return
        changed = dataclasses.replace(self.snapshots[number], extra_config=values)
        self.snapshots = (*self.snapshots[:number], changed, *self.snapshots[number + 1 :])

    def config(self, number: int) -> dict[str, str]:
        return dict((self.info if number < 0 else self.snapshots[number]).extra_config)


def sealed(values: dict[str, str]) -> dict[str, str]:
    """The values with a description as points have it now."""
    if RecoveryPoint.from_extra_config(values) is None:
        return values
    disks = [values[f"{DISK_KEY}{key}"] for key in json.loads(values[POINT_KEY])["disks"]]
    return {**values, POINT_KEY: seal_json(values[POINT_KEY], *disks)}


def look(stored: Session, job: str, state: Path) -> ReplicaState:
    """Everything that commands do with what was read."""
    one = job_of(job, state)
    replica = stored.replica_of(job, state)
    assert replica.seed.id is not None
    for found in (replica.stands_on, replica.base, replica.disks, replica.clean):
        assert found is not NotImplemented
    made_by_run(replica)
    foreign_snapshots(one, replica.snapshots)
    power_on_since_point(stored, replica)  # type: ignore[arg-type]
    OwnerMark.load(stored.info.extra_config.get(TEST_KEY, ""))
    verdicts = Retention(3, daily=2, weekly=1).review(replica.points)
    flag_remarks(replica.points)
    newer_remarks(replica.newer)
    damaged_remarks(replica.damaged)
    read = ReplicaPoints(replica.points, replica.newer, replica.damaged)
    console = _Console(file=io.StringIO(), width=160)
    for part in (
        *text.points(job, read.points, read.left_out),
        *text.retention(job, "last 3", verdicts, read.left_out),
    ):
        print_part(console, part)
    points = [point.to_dict() for point in replica.points]
    left = {"newer": [], "damaged": [p.to_dict() for p in replica.damaged]}
    document("points", {"job": job, "points": points, **left})
    try:
        need_points(one, replica)
        choose_point(replica.points, PointChoice(), stored.refresh())
        choose_point(replica.points, PointChoice(prefer=Preference()), stored.refresh())
    except VReplicaError as error:
        error.explain()
    return replica


def check(seed: int, state: Path) -> None:
    random = Random(seed)
    stored = Session(random.choice(VMS))
    job = stored.info.extra_config.get("vreplica.job", "web01")
    new = random.random() < 0.5
    places = range(-1, len(stored.snapshots))
    if new:
        for place in places:
            stored.change(place, sealed(stored.config(place)))
    good = {p.id: p for p in _points(stored, job, state)}
    place = random.choice(places)
    values = stored.config(place)
    ours = [key for key in values if key.startswith("vreplica.") and key != "vreplica.job"]
    if not ours:
        return
    key = random.choice(ours)
    change = one_bit if random.random() < 0.4 else mutated
    values[key] = change(values[key].encode(), random).decode("utf-8", "replace")
    stored.change(place, values)
    try:
        replica = look(stored, job, state)
    except VReplicaError:
        return
    described = key == POINT_KEY or key.startswith(DISK_KEY)
    if new and place >= 0 and described:
        assert all(good[p.id] == p for p in replica.points), "a point that nobody has made"


def _points(stored: Session, job: str, state: Path) -> tuple[RecoveryPoint, ...]:
    try:
        return stored.replica_of(job, state).points
    except VReplicaError:
        return ()


def check_all(seeds: range, state: Path) -> None:
    for seed in seeds:
        with no_longer_than(20):
            try:
                check(seed, state)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise


def test_damaged_metadata_ends_no_command(tmp_path: Path) -> None:
    check_all(range(400), tmp_path)


@pytest.mark.slow
def test_much_damaged_metadata_ends_no_command(tmp_path: Path) -> None:
    check_all(range(400, 10_400), tmp_path)


def test_a_damaged_mark_of_a_failover_is_none_or_tells_what_was_written() -> None:
    """It has a checksum: no change of one bit is believed."""
    entries = load(SAMPLES / "v0_1/failovers/yes/running")
    mark = mark_of("fo-1", entries)
    assert FailoverMark.of({FAILOVER_KEY: mark.text}) == mark
    assert [e.event for e in entries_of(mark) if e.event] == [e.event for e in entries if e.event]
    random = Random(16)
    for _ in range(300):
        text = mutated(mark.text.encode(), random).decode(errors="replace")
        found = FailoverMark.of({FAILOVER_KEY: text})
        assert found is None or text == mark.text or found == mark
        is_newer({FAILOVER_KEY: text})
        in_failover({FAILOVER_KEY: text, "vreplica.claim": text, "vreplica.leaf": text})
