"""What version 0.1 has stored is read as it was meant: tests/samples says how it was made.

Expected values are what was true when the samples were made. They do not follow the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import sample_reading as read
from tests.support.sample_reading import SAMPLES, Stored
from vreplica.delta.copy.modes import CopyMode
from vreplica.sync.plan.plan import _choose_mode

V0_1 = SAMPLES / "v0_1"
FO, FB = "fo-20261130T184323Z-833ee2", "fb-20261130T184326Z-420e42"
"""Of web01: its failover, and the failback after it."""
RUN = "20261130T184352Z-943e2c"
"""Of mail01: killed three times, and it went on each time."""
BEFORE = "20261130T184351Z-d07458"
"""The point that mail01's replica had before that run."""


# -- what a replica says of itself ------------------------------------------------------------


@dataclass(frozen=True)
class Replica:
    """`points`: id, level, and mode and shipped bytes of each disk, oldest first."""

    job: str
    points: tuple[tuple[str, str, tuple[tuple[int, str, int], ...]], ...] = ()
    clean: bool = True
    leaf: str | None = None
    seed: tuple[str, frozenset[int]] = ("", frozenset())
    made: tuple[str, ...] = ()
    reverted: str | None = None


WEB_FULL = ("20261130T184321Z-ea1192", "crash", ((2000, "full", 983040),))
WEB_DELTA = ("20261130T184322Z-693e81", "crash", ((2000, "delta", 65536),))
WEB_LATER = ("20261130T184323Z-e01bd9", "crash", ((2000, "delta", 65536),))
WEB_A = (f"{FO}-a", "crash", ((2000, "delta", 0),))
WEB_B = (f"{FO}-b", "clean-shutdown", ((2000, "delta", 0),))
WEB_FROZEN = (f"{FB}-0", "clean-shutdown", ((2000, "frozen", 0),))
DB_FULL = ("20261130T184335Z-c7c0c1", "crash", ((2000, "full", 589824), (2001, "full", 327680)))
DB_DELTA = ("20261130T184336Z-5b9c6a", "crash", ((2000, "delta", 0), (2001, "delta", 65536)))
DB_FEWER = ("20261130T184344Z-ca0576", "crash", ((2000, "delta", 0),))
MAIL_FULL = (BEFORE, "crash", ((2000, "full", 983040),))

REPLICAS = {
    "web01-first": Replica("web01", (WEB_FULL,)),
    "web01-delta": Replica("web01", (WEB_FULL, WEB_DELTA)),
    "web01-booted": Replica(
        "web01", (WEB_DELTA, WEB_LATER, WEB_A, WEB_B), clean=False, leaf=f"booted by {FO}"
    ),
    "web01-back-original": Replica(
        "web01~back",
        (
            WEB_FROZEN,
            (f"{FB}-a", "crash", ((2000, "delta", 65536),)),
            (f"{FB}-b", "clean-shutdown", ((2000, "delta", 0),)),
        ),
        clean=False,
        leaf=f"booted by {FB}",
    ),
    "web01-home": Replica("web01", (WEB_DELTA, WEB_LATER, WEB_A, WEB_B, WEB_FROZEN)),
    "web01-home-run": Replica(
        "web01", (WEB_FROZEN, ("20261130T184330Z-74d6ea", "crash", ((2000, "delta", 0),)))
    ),
    "log01-flagged": Replica(
        "log01",
        (
            ("20261130T184332Z-c55903", "crash", ((2000, "full", 3932160),)),
            ("20261130T184333Z-27287e", "crash", ((2000, "delta", 1048576),)),
            ("20261130T184334Z-a77b66", "crash", ((2000, "delta", 9437184),)),
        ),
    ),
    "db01-two-disks": Replica("db01", (DB_FULL,)),
    "db01-reverted": Replica(
        "db01", (DB_FULL, DB_DELTA), reverted="2026-11-30T18:43:38.110889+00:00"
    ),
    "db01-fewer-disks": Replica("db01", (DB_FEWER,), reverted="2026-11-30T18:43:42.199177+00:00"),
    "db01-made-killed": Replica(
        "db01",
        (DB_FEWER,),
        clean=False,
        leaf="20261130T184346Z-2566ab",
        made=("[site-b-ds1] db01-replica/20261130T184346Z-2566ab-2005.vmdk",),
        reverted="2026-11-30T18:43:42.199177+00:00",
    ),
    "win01-quiesced": Replica(
        "win01", (("20261130T185353Z-0ecfd1", "application", ((2000, "full", 327680),)),)
    ),
    "lin01-quiesced": Replica(
        "lin01", (("20261130T185354Z-570f48", "filesystem", ((2000, "full", 327680),)),)
    ),
    "app01-seeded": Replica(
        "app01",
        clean=False,
        leaf="20261130T184347Z-a9184a",
        seed=("20261130T184347Z-a9184a", frozenset({2000})),
    ),
    "app01-first-on-seed": Replica(
        "app01",
        (("20261130T184348Z-8e6211", "crash", ((2000, "rescan", 65536), (2001, "full", 327680))),),
    ),
    "mail01-made-killed": Replica("mail01", clean=False, leaf="20261130T184350Z-163033"),
    "mail01-killed": Replica("mail01", (MAIL_FULL,), clean=False, leaf=RUN),
    "mail01-copied": Replica("mail01", (MAIL_FULL,), clean=False, leaf=RUN),
    "mail01-committed": Replica("mail01", (MAIL_FULL, (RUN, "crash", ((2000, "delta", 2621440),)))),
}
OTHER_VMS = ("web01-disconnected", "mail01-killed-source", "app01-test", "app01-test-copied")


@pytest.mark.parametrize("name", REPLICAS)
def test_a_replica_and_its_points_are_read(name: str, tmp_path: Path) -> None:
    expected = REPLICAS[name]
    found = Stored(V0_1 / "vms" / f"{name}.json").replica_of(expected.job, tmp_path)
    points = tuple(
        (p.id, p.level.value, tuple((d.key, d.mode, d.written_bytes) for d in p.disks))
        for p in found.points
    )
    assert points == expected.points
    assert not found.foreign
    assert found.clean is expected.clean
    assert (found.vm.extra_config.get(read.LEAF_KEY) or None) == expected.leaf
    assert (found.seed.id, found.seed.keys) == expected.seed
    assert read.made_by_run(found) == expected.made
    assert (found.vm.extra_config.get(read.REVERTED_KEY) or None) == expected.reverted
    assert found.base == (points[-1][0] if points else expected.seed[0])
    assert all(found.snapshot_of(p) is not None for p in found.points)


def test_everything_that_a_point_says_is_read(tmp_path: Path) -> None:
    (point,) = Stored(V0_1 / "vms/db01-two-disks.json").replica_of("db01", tmp_path).points
    assert (point.job, point.source_name) == ("db01", "db01")
    assert point.source_vm == "ab96f27f-a418-46b6-88cf-5454b9a5993c"
    assert point.time.isoformat(timespec="minutes") == "2026-11-30T18:43+00:00"
    assert point.requested.value == "crash"
    assert point.excluded == ("Hard disk 3",)
    assert point.overhead_s is not None
    first, second = point.disks
    assert (first.label, second.label) == ("Hard disk 1", "Hard disk 2")
    assert (first.capacity_bytes, second.capacity_bytes) == (2 << 20, 1 << 20)
    assert first.uuid.startswith("6000C29")
    assert first.change_id is None, "it has no checksum: one digit of it may be wrong"
    assert not point.sealed
    assert re.fullmatch("[0-9a-f]{64}", first.root)
    assert first.stats is not None
    assert first.stats.looked_at_bytes == first.stats.allocated_bytes == 589824
    assert first.stats.past == ()


def test_no_delta_begins_at_a_changeid_without_a_checksum(tmp_path: Path) -> None:
    replica = Stored(V0_1 / "vms/db01-two-disks.json").replica_of("db01", tmp_path)
    assert replica.latest is not None
    first = replica.latest.disks[0]
    (disk,) = (d for d in replica.vm.disks if d.key == first.key)
    disk = replace(disk, uuid=first.uuid, change_id="52 00/9")
    mode, reason = _choose_mode(disk, True, replica)
    assert mode is CopyMode.RESCAN
    assert "is of the first version, without a checksum" in reason


def test_a_flagged_point_says_why_and_is_one_until_it_is_accepted(tmp_path: Path) -> None:
    vm = Stored(V0_1 / "vms/log01-flagged.json")
    odd = vm.replica_of("log01", tmp_path).points[-1]
    assert odd.flagged
    (why,) = odd.suspicions
    assert why == (
        "Hard disk 1: 9 MiB changed where 1 MiB are usual, "
        "and 100% of a sample looks encrypted where 0% is usual"
    )
    stats = odd.disks[0].stats
    assert stats is not None
    assert [(p.data_bytes, p.high_entropy_share) for p in stats.past] == [(1048576, 0.0)]
    assert (stats.sampled_pieces, stats.high_entropy_share) == (33, 1.0)
    state = read.unpack(V0_1 / "jobs/accepted", tmp_path / "state")
    assert [p.flagged for p in vm.replica_of("log01", state).points] == [False, False, False]


def test_a_frozen_last_state_is_read(tmp_path: Path) -> None:
    there = Stored(V0_1 / "vms/web01-back-original.json").replica_of("web01~back", tmp_path)
    frozen = there.points[0]
    assert frozen.notes == ("the last state of web01 itself",)
    assert frozen.source_name == "web01-replica"
    assert frozen.disks[0].diverged_since is None, "it has no checksum"
    home = Stored(V0_1 / "vms/web01-home.json").replica_of("web01", tmp_path)
    assert not home.points[-1].sealed
    assert home.stands_on == home.points[-1]
    # Points of the way back are no strange snapshots of the VM that is the source again.
    original = Stored(V0_1 / "vms/web01-back-original.json")
    assert original.others("web01", tmp_path) == []
    assert [s.name for s in original.others("db01", tmp_path)] == [f"{FB}-{n}" for n in "0ab"]


def test_a_booted_leaf_and_a_disconnected_source_name_their_failover() -> None:
    booted = Stored(V0_1 / "vms/web01-booted.json").info
    assert booted.extra_config[read.LEAF_KEY].removeprefix(read.BOOTED) == FO
    source = Stored(V0_1 / "vms/web01-disconnected.json").info
    assert source.extra_config[read.DISCONNECTED_KEY] == FO
    assert source.power_state == "poweredOff"


def test_the_snapshot_that_a_killed_run_left_on_its_source_is_known(tmp_path: Path) -> None:
    source = Stored(V0_1 / "vms/mail01-killed-source.json")
    assert [s.name for s in source.snapshots] == ["vreplica-mail01"]
    assert RUN in source.snapshots[0].description
    assert source.others("mail01", tmp_path) == []


def test_a_test_vm_is_found_by_its_mark_and_holds_its_point(tmp_path: Path) -> None:
    state = read.unpack(V0_1 / "jobs/test-vm", tmp_path)
    test = Stored(V0_1 / "vms/app01-test.json").test_vm("app01", state)
    assert test is not None
    assert (test.mark.id, test.mark.job) == ("test-20261130T184349Z-cfdac1", "app01")
    assert test.mark.point == "20261130T184348Z-8e6211"
    assert test.mark.owner == "vm, process 995"
    assert (test.mark.keep, test.mark.copied, test.orphan) == (True, False, False)
    job = read.job_of("app01", state)
    assert [mark for _, mark in read.test_vm._marks(job)] == [test.mark]


def test_a_test_vm_on_copies_of_its_own_holds_no_point(tmp_path: Path) -> None:
    state = read.unpack(V0_1 / "jobs/test-vm-copied", tmp_path)
    stored, job = Stored(V0_1 / "vms/app01-test-copied.json"), read.job_of("app01", state)
    test = stored.test_vm("app01", state)
    assert test is not None
    assert (test.mark.copied, test.mark.point) == (True, "20261130T184348Z-8e6211")
    assert read.test_vm.points_in_use(stored, job) == frozenset()  # type: ignore[arg-type]
    linked = Stored(V0_1 / "vms/app01-test.json")
    state = read.unpack(V0_1 / "jobs/test-vm", tmp_path / "linked")
    held = read.test_vm.points_in_use(linked, read.job_of("app01", state))  # type: ignore[arg-type]
    assert held == {"20261130T184348Z-8e6211"}


# -- folders of jobs --------------------------------------------------------------------------


@dataclass(frozen=True)
class Map:
    """`latest`: the point to open it for; `root`: how its root digest begins."""

    latest: str
    generation: int
    root: str
    capacity_mib: int


@dataclass(frozen=True)
class Folder:
    """A job's folder. `lock`: the process that had it last."""

    lock: str = "995"
    maps: dict[int, Map] = field(default_factory=dict)
    disabled: tuple[str, str] | None = None
    """The failover, and the name of the error that a run is refused with."""
    accepted: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    pending: tuple[str, str, bool, int, int] | None = None
    """Of disk 2000: base, point, sealed?, digests, position."""
    run: tuple[str, str, str, str, str] | None = None
    """Id, source's snapshot, latest point, and mode and path of its disk."""
    failovers: tuple[tuple[str, str], ...] = ()
    """Id and state, oldest first."""
    more: dict[str, bytes] = field(default_factory=dict)


WEB_B_MAP = Map(f"{FO}-b", 11, "8ffc0d3e1756", 4)
BACK_MAP = Map(f"{FB}-b", 7, "a9190819d5a3", 4)
MAIL_MAP = Map(BEFORE, 3, "799e84d51353", 4)
LEAF = "[site-b-ds1] mail01-replica/mail01-replica-000001.vmdk"
MAIL_RUN = (RUN, "snapshot-1131", BEFORE, "delta", LEAF)
COPIED = (BEFORE, RUN, True, 40, 4 << 20)
DB_LAST = "fo-20261130T184340Z-9584d8"

JOBS = {
    "delta/web01": Folder(maps={2000: Map(WEB_DELTA[0], 5, "28c2ee6aa1fd", 4)}),
    "accepted/log01": Folder(
        maps={2000: Map("20261130T184334Z-a77b66", 7, "35c861d05010", 12)},
        accepted=("20261130T184334Z-a77b66",),
    ),
    "disabled/web01": Folder(
        maps={2000: WEB_B_MAP},
        disabled=(FO, "JobDisabled"),
        failovers=((FO, "running"),),
    ),
    "committed/web01": Folder(maps={2000: WEB_B_MAP}, disabled=(FO, "JobFailedOver")),
    "failback/web01": Folder(
        maps={2000: WEB_B_MAP},
        disabled=(FO, "JobFailedOver"),
        failovers=((FO, "committed"), (FB, "running")),
    ),
    "failback/web01~back": Folder(maps={2000: BACK_MAP}, disabled=(FB, "JobDisabled")),
    "home/web01": Folder(
        maps={2000: Map("20261130T184330Z-74d6ea", 5, "a9190819d5a3", 4)},
        failovers=((FO, "committed"), (FB, "committed")),
    ),
    "home/web01~back": Folder(maps={2000: BACK_MAP}),
    "many-failovers/db01": Folder(
        maps={
            2000: Map(f"{DB_LAST}-b", 11, "9904edb77c1f", 2),
            2001: Map(f"{DB_LAST}-b", 11, "58b64f59135f", 1),
        },
        failovers=(
            ("fo-20261130T184337Z-1eb21b", "undone"),
            ("fo-20261130T184338Z-5aeb65", "undone"),
            ("fo-20261130T184339Z-c901d9", "aborted"),
            ("fo-20261130T184339Z-575ba4", "aborted"),
            (DB_LAST, "undone"),
        ),
    ),
    "unused/db01": Folder(unused=("[site-b-ds1] db01-replica/db01-replica_1.vmdk",)),
    "seeded/app01": Folder(maps={2000: Map("20261130T184347Z-a9184a", 3, "1e4ea25052de", 2)}),
    "test-vm/app01": Folder(
        maps={
            2000: Map("20261130T184348Z-8e6211", 5, "7393e50d1af0", 2),
            2001: Map("20261130T184348Z-8e6211", 3, "a5e31d5bf25c", 1),
        },
        # The VM's maker, read by the test above.
        more={
            f"tests/test-20261130T184349Z-cfdac1/{name}": b"test-20261130T184349Z-cfdac1"
            for name in ("hold", "report.json", "journal.jsonl")
        }
        | {"tests/test-20261130T184349Z-cfdac1/epoch": b" 995\n"},
    ),
    "killed-first/mail01": Folder(
        lock="2252",
        maps={2000: Map("", 1, "0d5b2071963e", 4)},
        pending=("", "20261130T184350Z-163033", False, 0, 0),
        run=(
            "20261130T184350Z-163033",
            "snapshot-1125",
            "",
            "full",
            "[site-b-ds1] mail01-replica/mail01-replica.vmdk",
        ),
    ),
    "killed-copy/mail01": Folder(
        lock="2360",
        maps={2000: MAIL_MAP},
        pending=(BEFORE, RUN, False, 16, 1 << 20),
        run=MAIL_RUN,
    ),
    "killed-copied/mail01": Folder(
        lock="2398", maps={2000: MAIL_MAP}, pending=COPIED, run=MAIL_RUN
    ),
    # The point is there, and what is pending is folded in as the map is opened.
    "killed-committed/mail01": Folder(
        lock="2421",
        maps={2000: Map(RUN, 5, "630be8b77039", 4)},
        pending=COPIED,
        run=MAIL_RUN,
    ),
    "killed-folding/mail01": Folder(
        lock="2421",
        maps={2000: Map(RUN, 6, "630be8b77039", 4)},
        pending=COPIED,
        run=MAIL_RUN,
    ),
    "test-vm-copied/app01": Folder(
        more={"tests/test-20261130T184349Z-cfdac1/hold": b'"copied":true'}
    ),
    "paused-held/mail01": Folder(
        maps={2000: MAIL_MAP},
        pending=COPIED,
        run=MAIL_RUN,
        more={"paused": b"", "held": b"vm-1119\n"},
    ),
}


def files_of(name: str, folder: Folder) -> set[str]:
    """What the expectations above speak of."""
    found = {"lock", *folder.more}
    found |= {f"disk-{key}.digests.xz" for key in folder.maps}
    found |= {"disk-2000.digests.pending"} if folder.pending else set()
    found |= {"run.json"} if folder.run else set()
    found |= {word for word in ("disabled", "accepted", "unused") if getattr(folder, word)}
    found |= {"failovers/lock"} if folder.failovers else set()
    for id_, _ in folder.failovers:
        found |= {f"failovers/{id_}/journal.jsonl", f"failovers/{id_}/epoch"}
    return {f"jobs/{name}/{file}" for file in found}


@pytest.mark.parametrize("name", JOBS)
def test_a_jobs_folder_is_read(name: str, tmp_path: Path) -> None:
    situation, _, job_name = name.partition("/")
    expected = JOBS[name]
    job = read.job_of(job_name, read.unpack(V0_1 / "jobs" / situation, tmp_path))
    assert (job.job_dir / "lock").read_text() == f"{expected.lock}\n"

    refusal = read.why_disabled(job)
    found = (read.disabled_by(job), type(refusal).__name__) if refusal else None
    assert found == expected.disabled
    assert tuple(read.unused(job)) == expected.unused
    assert tuple(sorted(read.state_accepted(job))) == expected.accepted
    assert tuple((o.id, o.state.value) for o in read.history.outcomes(job)) == expected.failovers

    record = read.run_record(job)
    if expected.run is None:
        assert record is None
    else:
        assert record is not None
        (disk,) = record.disks
        made = (record.run, record.snapshot, record.latest, disk.mode, disk.path)
        assert made == expected.run
        assert (record.level, record.requested) == ("crash", "crash")
        assert (disk.key, disk.label, disk.capacity_bytes) == (2000, "Hard disk 1", 4 << 20)
        assert disk.base == record.latest
        assert record.overhead_s > 0

    pending = read.pending_of(job, 2000)
    if expected.pending is None:
        assert pending is None
    else:
        assert pending is not None
        head = pending.head
        said = (head.base, head.point, pending.sealed, pending.count, pending.position)
        assert said == expected.pending
        assert (head.block, head.capacity) == (64 << 10, 4 << 20)
        assert read.worth_resuming(job, head.point) is (pending.position > 0)
        assert read.progress_of(job, head.point, 2000) == pending
        blocks = [b for rows, _ in read.read_records(read.pending_path(job, 2000)) for b in rows]
        assert blocks == list(range(pending.count))
        if pending.position:
            assert pending.counts["shipped_bytes"] == pending.count << 16

    for key, known in expected.maps.items():
        one = read.open_map(job, key, known.latest)
        assert (one.point, one.algorithm) == (known.latest, "xxh3-128")
        assert read.header_of(one.path).generation == known.generation
        assert one.root.startswith(known.root)
        assert one.capacity_bytes == known.capacity_mib << 20
        assert one.block == 64 << 10
        assert bool(one.not_zero()) is (known.latest != "")
        one.close()
    for file, part in expected.more.items():
        data = (job.job_dir / file).read_bytes()
        assert part in data if part else data == b""


def test_a_map_whose_folding_broke_off_says_so(tmp_path: Path) -> None:
    found = {
        situation: read.is_folding(
            read.job_of("mail01", read.unpack(V0_1 / "jobs" / situation, tmp_path / situation))
        )
        for situation in ("killed-copied", "killed-committed", "killed-folding")
    }
    assert found == {"killed-copied": None, "killed-committed": None, "killed-folding": RUN}


def test_a_digest_map_and_the_point_that_it_is_of_agree(tmp_path: Path) -> None:
    """Their root digests are made by the map's own content, and by nothing else."""
    pairs = {
        "delta/web01": ("web01-delta", "web01"),
        "accepted/log01": ("log01-flagged", "log01"),
        "killed-committed/mail01": ("mail01-committed", "mail01"),
        "test-vm/app01": ("app01-first-on-seed", "app01"),
        "failback/web01~back": ("web01-back-original", "web01~back"),
    }
    for name, (vm, job_name) in pairs.items():
        latest = Stored(V0_1 / "vms" / f"{vm}.json").replica_of(job_name, tmp_path).latest
        assert latest is not None
        state = read.unpack(V0_1 / "jobs" / name.partition("/")[0], tmp_path / name)
        job = read.job_of(job_name, state)
        for disk in latest.disks:
            one = read.open_map(job, disk.key, latest.id)
            assert one.root == disk.root, name
            one.close()


# -- journals ---------------------------------------------------------------------------------

WAY = ("disabled", "insured", "shutting-down", "source-off", "synced", "fenced", "booting")
UP = (*WAY, "running")
DONE = (*UP, "committing", "committed")
NO = ("disabled", "source-off", "synced", "fenced", "booting", "running")
OFF = ("disabled", "insured", "source-off", "synced", "fenced", "booting", "running")
BACK = ("undoing", "undone")

JOURNALS: dict[str, tuple[int, tuple[str, ...]]] = {
    "yes/ready": (1, ()),
    "yes/disabled": (4, DONE[:1]),
    "yes/insured": (7, DONE[:2]),
    "yes/shutting-down": (10, DONE[:3]),
    "yes/source-off": (11, DONE[:4]),
    "yes/synced": (14, DONE[:5]),
    "yes/fenced": (17, DONE[:6]),
    "yes/booting": (20, DONE[:7]),
    "yes/running": (21, DONE[:8]),
    "yes/committing": (22, DONE[:9]),
    "yes/committed": (25, DONE),
    "no/running": (13, NO),
    "undo/undoing": (14, (*NO, "undoing")),
    "undo/undone": (23, (*NO, *BACK)),
    "source-lost/undoing": (12, (*NO, "undoing")),
    "source-lost/undone": (19, (*NO, *BACK)),
    "power-off/undoing": (19, (*OFF, "undoing")),
    "power-off/undone": (28, (*OFF, *BACK)),
    "aborted/aborted": (10, ("disabled", "insured", "aborted")),
    "given-up/aborted": (7, ("disabled", "aborted")),
    "failback/disabled": (6, ("disabled",)),
    "failback/committed": (25, DONE),
    "torn/booting": (20, WAY),
}
"""Entries, and the states that they lead through after `ready`."""

STATES = {"ready", *DONE, *BACK, "aborted"}


def test_there_is_a_journal_in_every_state() -> None:
    assert {name.partition("/")[2] for name in JOURNALS} == STATES
    assert {str(s) for s in read.FailoverState} >= STATES


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_leads_through_the_states_that_it_did(name: str, tmp_path: Path) -> None:
    count, states = JOURNALS[name]
    entries = read.load_journal(V0_1 / "failovers" / name)
    assert len(entries) == count
    passed = [read.journal_state(entries[: n + 1]).value for n, e in enumerate(entries) if e.event]
    assert tuple(passed) == states
    assert [e.n for e in entries] == list(range(count))

    # Whoever takes it over finds the same state, and goes on with a higher epoch.
    copy = read.unpack(V0_1 / "failovers" / name, tmp_path / "fo")
    journal = read.Journal.take_over(copy)
    try:
        assert journal.state.value == name.partition("/")[2]
        assert journal.epoch == entries[-1].epoch + 1
        journal.write("note", data={})
        assert len(read.load_journal(copy)) == count + 1
    finally:
        journal.close()


CHOICES = {
    "yes/running": ("yes", "abort", False, True, 1),
    "no/running": ("no", "abort", False, False, 1),
    "source-lost/undone": ("no", "abort", True, False, 2),
    "aborted/aborted": ("yes", "abort", False, False, 3),
    "given-up/aborted": ("yes", "wait", False, False, 4),
    "power-off/undone": ("yes", "power-off", False, False, 5),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_choices_that_a_failover_began_with_are_read(name: str) -> None:
    begun = read.load_journal(V0_1 / "failovers" / name)[0].data
    chosen = read.FailoverChoices.from_dict(begun)
    said = (chosen.final_sync.value, chosen.on_shutdown_timeout.value, chosen.source_lost)
    assert (*said, chosen.disconnect_source_nics, begun["number"]) == CHOICES[name]
    assert chosen.heartbeat_timeout_s == 20
    assert (chosen.boot.point, chosen.require.value, chosen.max_downtime_s) == (None, "crash", None)
    assert read.FailbackPlan.of_journal(begun) is None


RECORDS = {
    "yes/committed": (f"{FO}-b", "clean-shutdown", True),
    "no/running": (DB_DELTA[0], "crash", True),
    "source-lost/undone": (DB_DELTA[0], "crash", True),
    "power-off/undone": (f"{DB_LAST}-b", "crash", True),
    "failback/committed": (f"{FB}-b", "clean-shutdown", True),
    "aborted/aborted": (None, None, False),
    "torn/booting": (f"{FO}-b", "clean-shutdown", False),
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_figures_of_a_failover_are_made_from_its_journal(name: str) -> None:
    record = read.record("job", V0_1 / "failovers" / name)
    point, level, answered = RECORDS[name]
    assert (record.point, record.level) == (point, level)
    assert (record.answered is not None) is answered
    if name == "yes/committed":
        assert record.downtime_s is not None
        assert 0 < record.downtime_s < 10
        assert [p for p, _ in record.parts_s] == ["final sync", "fence", "power-on", "boot"]
        assert record.facts["point_a"] == f"{FO}-a"
    if name == "source-lost/undone":
        assert record.facts["source"] == "declared lost by the operator"


def test_a_failback_knows_what_it_goes_between() -> None:
    begun = read.load_journal(V0_1 / "failovers/failback/disabled")[0].data
    back = read.FailbackPlan.of_journal(begun)
    assert back is not None
    assert back.original == "66fed1e7-379b-4dbf-934e-b7a710c35111"
    assert back.replica == "03b2b50b-776e-47c5-813c-54e973964b82"
    assert (back.datastore, back.booted, back.of) == ("site-a-ds1", f"{FO}-b", FO)
    assert (back.level, back.new_vm) == ("clean-shutdown", False)


def test_a_job_knows_from_its_journals_where_it_is_in_service(tmp_path: Path) -> None:
    there = read.job_of("web01", read.unpack(V0_1 / "jobs/failback", tmp_path / "a"))
    found = read.history.failed_over(there)
    assert found is not None
    assert found.id == FO
    assert read.history.current(there).name == FB
    home = read.job_of("web01", read.unpack(V0_1 / "jobs/home", tmp_path / "b"))
    assert read.history.failed_over(home) is None


# -- groups -----------------------------------------------------------------------------------

SHOP, SHOP_BACK = "fo-20261130T184357Z-01b16d", "fb-20261130T184401Z-8b0c85"
STOPPED = "fo-20261130T184407Z-c19a1e"
UP_BOTH = (("shop-db", "running", None), ("shop-web", "running", None))

GROUPS: dict[tuple[str, str, str], tuple[str, bool, tuple[tuple[str, str | None, Any], ...]]] = {
    ("running", "shop", SHOP): ("running", False, UP_BOTH),
    ("back", "shop", SHOP): (
        "committed",
        False,
        (("shop-db", "committed", None), ("shop-web", "committed", None)),
    ),
    ("back", "shop", SHOP_BACK): (
        "undone",
        True,
        (("shop-db", "undone", None), ("shop-web", "undone", None)),
    ),
    ("stopped", "other", STOPPED): (
        "aborted",
        False,
        (
            ("shop-new", None, "job shop-new has no recovery point yet"),
            ("late01", None, "left out: stopped after the error of shop-new"),
        ),
    ),
}


@pytest.mark.parametrize("key", GROUPS, ids="-".join)
def test_a_groups_failover_is_read_with_its_members(key: tuple[str, str, str]) -> None:
    situation, group, id_ = key
    root = V0_1 / "groups" / situation
    assert root / ".groups" / group / id_ in read.report.folders(root, group)
    found = read.report.show(root / ".groups" / group / id_)
    members = tuple((m.job, m.state and m.state.value, m.trouble) for m in found.members)
    assert (found.state, found.back, members) == GROUPS[key]
    assert found.group.parallel == 1
    assert found.group.on_error.value == "stop"
    last = found.group.members[-1]
    assert last.after == (found.group.members[0].name,)
    assert last.delay_s == (1.0 if group == "shop" else 0.0)
    for member in found.members:
        if member.record is not None:
            assert member.record.point == f"{id_}-b"
            assert member.record.level == "clean-shutdown"


def test_the_groups_failover_that_goes_on_is_the_current_one() -> None:
    assert read.report.current(V0_1 / "groups/running", "shop").name == SHOP
    assert read.report.current(V0_1 / "groups/back", "shop").name == SHOP_BACK


@pytest.mark.parametrize(
    ("situation", "error"), [("running", "JobDisabled"), ("back", "JobFailedOver")]
)
def test_members_are_switched_off_by_the_groups_failover(situation: str, error: str) -> None:
    for name in ("shop-db", "shop-web"):
        job = read.job_of(name, V0_1 / "groups" / situation)
        assert read.disabled_by(job) == SHOP
        assert type(read.why_disabled(job)).__name__ == error


def test_the_map_of_a_member_that_had_no_turn_is_read(tmp_path: Path) -> None:
    job = read.job_of("late01", read.unpack(V0_1 / "groups/stopped", tmp_path))
    one = read.open_map(job, 2000, "20261130T184406Z-95ec00")
    assert one.root.startswith("7a77ecff841d")
    one.close()


# -- the service's catalog --------------------------------------------------------------------

WEB_ORDER, DB_ORDER = "fo-20261130T184408Z-fae130", "fo-20261130T184416Z-dabbf0"
COMMIT_ORDER = "or-20261130T184443Z-13fbc6"
RUNS = [
    ("20261130T184440Z-b328eb", "gone01", "run", "failed"),
    ("20261130T184405Z-1ff252", "web01", "run", "done"),
    ("20261130T184405Z-39b23a", "db01", "run", "done"),
    ("20261130T184331Z-b73a98", "gone01", "run", "failed"),
    ("20261130T184331Z-590b28", "web01", "run", "done"),
    ("20261130T184331Z-cde2c6", "db01", "run", "done"),
]
ORDERS = [
    (COMMIT_ORDER, "web01", "failover", "asked"),
    (DB_ORDER, "db01", "failover", "running"),
    (WEB_ORDER, "web01", "failover", "done"),
]
POINTS = {"web01": 2, "db01": 2}
TRAIL = [
    ("m1", "run failed", "gone01"),
    ("m1", "run done", "web01"),
    ("m1", "run done", "db01"),
    ("m1", "run done", "db01"),
    ("m1", "run done", "web01"),
    ("root", "failover asked", "web01"),
    ("m1", "failover done", "web01"),
    ("root", "job paused", "db01"),
    ("root", "failover asked", "db01"),
    ("m1", "run failed", "gone01"),
    ("alice", "failover asked", "web01"),
]


@pytest.mark.parametrize("version", ["0001", "0003"])
def test_a_catalog_is_brought_up_and_read(version: str, tmp_path: Path) -> None:
    dump = V0_1 / f"catalog/catalog-{version}.sql"
    assert f"\"alembic_version\" VALUES('{version}')" in dump.read_text()
    runs = RUNS if version == "0001" else [*ORDERS, *RUNS]
    with read.catalog_of(dump, tmp_path) as catalog:
        found = [(r["id"], r["job"], r["kind"], r["state"]) for r in catalog.history()]
        assert sorted(found) == sorted(runs)
        assert found[0] == runs[0]
        assert len(catalog.history(["gone01"])) == 2
        done = next(r for r in catalog.history() if r["id"] == "20261130T184331Z-590b28")
        assert (done["mover"], done["tries"], done["error"]) == ("m1", 1, None)
        assert done["result"]["point"]["id"] == done["id"]
        assert done["result"]["disks"][0]["mode"] == "full"
        assert done["resources"][0] == "host:site-a/esx1.site-a.lab"
        assert done["queued"] < done["began"] < done["ended"]
        assert done["ended"].isoformat() == "2026-11-30T18:43:34.533574+00:00"
        failed = next(r for r in catalog.history() if r["state"] == "failed")
        assert failed["error"] == "there is no VM 'gone01' in 127.0.0.1"

        trail = [(e["who"], e["what"], e["job"]) for e in reversed(catalog.audit_trail())]
        assert trail == TRAIL
        rows = catalog.read(read.points_query())
        assert {job: len([r for r in rows if r["job"] == job]) for job in POINTS} == POINTS
        assert all(r["level"] == "crash" for r in rows)
        assert all(r["description"]["id"] == r["id"] for r in rows)
        assert read.within(catalog, read.observed.failover_states) == {
            WEB_ORDER: "running",
            DB_ORDER: "shutting-down",
        }
        (mover,) = read.within(catalog, read.movers.registered)
        assert (mover.id, mover.capacity) == ("m1", 4)


def test_a_catalog_says_where_each_job_stands(tmp_path: Path) -> None:
    dump = V0_1 / "catalog/catalog-0003.sql"
    with read.catalog_of(dump, tmp_path) as catalog:
        assert read.within(catalog, read.jobs.disabled) == {"web01": WEB_ORDER, "db01": DB_ORDER}
        found = read.statuses(catalog, "web01", "db01", "gone01")
    web, db, gone = found["web01"], found["db01"], found["gone01"]
    here, there = "the source", "the destination"
    assert (web.state, db.state, gone.state) == ("failing over", "failing over", "failing")
    assert web.failover == {"id": WEB_ORDER, "state": "running", "request": "asked", "mover": None}
    assert db.failover is not None
    assert (db.failover["state"], db.failover["mover"]) == ("shutting-down", "m1")
    said = "last 2 runs failed: there is no VM 'gone01' in 127.0.0.1; no service is running"
    assert gone.why == said
    assert (web.vm_at, db.vm_at, web.asked, gone.asked) == (there, here, True, False)
    assert (web.age is None, gone.age is None) == (False, True)


def test_a_catalog_keeps_what_commands_did_and_a_failover_of_each_member(tmp_path: Path) -> None:
    with read.catalog_of(SAMPLES / "v0_2/catalog/catalog-0004.sql", tmp_path) as catalog:
        found = read.statuses(catalog, "db01", "gone01", "shop-db", "shop-web")
        by_hand = [row for row in catalog.history() if row["who"]]
        (_, m2) = read.within(catalog, read.movers.registered)
    assert [(r["job"], r["kind"], r["state"], r["who"]) for r in by_hand] == [
        ("web01", "failover", "failed", "bob@dr1"),
        ("gone01", "run", "failed", "alice@dr1"),
        ("db01", "run", "done", "alice@dr1"),
    ]
    assert by_hand[0]["request"] == {"do": "commit", "who": "bob@dr1"}
    assert found["db01"].point == "20261130T224500Z-0a0b0c"
    assert (found["gone01"].asked, found["gone01"].point) == (True, None)
    assert found["gone01"].error == "there is no VM 'gone01' in 127.0.0.1"
    assert (found["shop-db"].vm_at, found["shop-web"].vm_off) == ("the destination", True)
    assert (m2.id, m2.version, m2.lease_s) == ("m2", "0.1.0.dev0", 30.0)


def test_an_older_catalog_says_where_each_job_stands(tmp_path: Path) -> None:
    with read.catalog_of(V0_1 / "catalog/catalog-0001.sql", tmp_path) as catalog:
        found = read.statuses(catalog, "web01", "db01", "gone01")
    assert [s.state for s in found.values()] == ["idle", "paused", "failing"]
    assert [s.failover for s in found.values()] == [None, None, None]


def test_orders_that_wait_and_that_are_under_way_are_gone_on_with(tmp_path: Path) -> None:
    with read.catalog_of(V0_1 / "catalog/catalog-0003.sql", tmp_path) as catalog:
        begun = read.within(catalog, read.failover_requests.get, DB_ORDER)
        assert begun.order["do"] == "begin"
        assert (begun.order["who"], begun.order["commit"]) == ("root", False)
        assert read.FailoverChoices.from_dict(begun.order["choices"]).final_sync.value == "yes"
        asked = read.within(catalog, read.failover_requests.get, COMMIT_ORDER)
        assert (asked.order, asked.state) == ({"do": "commit", "who": "alice"}, "asked")
        assert read.within(catalog, read.failover_requests.unfinished, "m1") == {
            DB_ORDER: "running"
        }
        newest = read.within(catalog, read.failover_requests.newest_by_job)
        assert {job: row.id for job, row in newest.items()} == {
            "web01": COMMIT_ORDER,
            "db01": DB_ORDER,
        }
        movers = read.within(catalog, read.movers.registered)
        given = read.within(catalog, read.failover_requests.assign, movers)
        assert given == [(COMMIT_ORDER, "web01", "m1")], "to who has its journal"


def test_notices_that_wait_are_told(tmp_path: Path) -> None:
    with read.catalog_of(V0_1 / "catalog/catalog-0003.sql", tmp_path) as catalog:
        waiting = read.within(catalog, read.notices.waiting, "chat", 100)
        assert {n: (e.name, e.job) for n, e in waiting.items()} == {
            1: ("run failed", "gone01"),
            2: ("run done", "web01"),
            3: ("run done", "db01"),
            4: ("run done", "db01"),
            5: ("run done", "web01"),
            7: ("failover done", "web01"),
            10: ("run failed", "gone01"),
        }
        assert waiting[7].data["state"] == "running"
        assert waiting[2].id == "20261130T184334.535228-2"
        assert read.within(catalog, read.notices.claim, "chat", "m1")


def test_the_engine_finds_what_it_had_begun_under_the_names_of_today(tmp_path: Path) -> None:
    found = read.workflows(V0_1 / "catalog/service-m1.sql", tmp_path)
    runs = {(id_, "replicate", "SUCCESS", (id_,)) for id_, _, _, _ in RUNS}
    assert {(i, name, state, tuple(args)) for i, name, state, args in found} == runs | {
        (f"{WEB_ORDER}@m1", "failover", "SUCCESS", (WEB_ORDER,)),
        (f"{DB_ORDER}@m1", "failover", "PENDING", (DB_ORDER,)),
    }


# -- reports ----------------------------------------------------------------------------------

REPORTS = {
    "full": ("full", "blake3", "69124df27cab1d7a6bb84638b6e15fdb273181648c98d8792b45533b56dfba09"),
    "sample": ("sample", "xxh3-128", None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_signed_report_is_checked(name: str, tmp_path: Path) -> None:
    coverage, algorithm, root = REPORTS[name]
    folder = V0_1 / "reports"
    code, answer = read.command(
        "verify-report", folder / f"{name}.json", "--key", folder / "key.pub.pem"
    )
    assert (code, answer["signature"]) == (0, "good")
    report = answer["report"]
    assert (report["format"], report["job"], report["equal"]) == (
        "vreplica-verify-1",
        "rep01",
        True,
    )
    assert (report["coverage"], report["algorithm"]) == (coverage, algorithm)
    assert report["point"]["id"] == "20261130T184623Z-f4ea7d"
    assert [d["capacity_bytes"] for d in report["disks"]] == [2 << 20, 1 << 20]
    assert [d["different_bytes"] for d in report["disks"]] == [0, 0]
    if root is not None:
        assert report["totals"]["source_root"] == report["totals"]["replica_root"] == root

    changed = tmp_path / f"{name}.json"
    changed.write_bytes((folder / f"{name}.json").read_bytes().replace(b"rep01", b"rep02"))
    (tmp_path / f"{name}.json.sig").write_bytes((folder / f"{name}.json.sig").read_bytes())
    code, _ = read.command("verify-report", changed, "--key", folder / "key.pub.pem")
    assert code == 8


def test_the_page_of_a_report_names_the_file_that_it_shows() -> None:
    from hashlib import sha256

    folder = V0_1 / "reports"
    page = (folder / "full.html").read_text()
    assert sha256((folder / "full.json").read_bytes()).hexdigest() in page
    assert REPORTS["full"][2] in page


# -- every file is one that is read -----------------------------------------------------------


def spoken_of() -> set[str]:
    found = {f"vms/{name}.json" for name in (*REPLICAS, *OTHER_VMS)}
    for name, folder in JOBS.items():
        found |= files_of(name, folder)
    for name in JOURNALS:
        found |= {f"failovers/{name}/journal.jsonl", f"failovers/{name}/epoch"}
    for situation, group, id_ in GROUPS:
        root = f"groups/{situation}"
        found |= {f"{root}/.groups/{group}/{id_}/{f}" for f in ("journal.jsonl", "epoch")}
        if group == "shop":
            for job in ("shop-db", "shop-web"):
                files = ("journal.jsonl", "epoch")
                found |= {f"{root}/{job}/failovers/{id_}/{f}" for f in files}
                found |= {f"{root}/{job}/disabled", f"{root}/{job}/failovers/lock"}
    late = "groups/stopped"
    found |= {f"{late}/late01/{f}" for f in ("disk-2000.digests.xz", "lock")}
    found |= {f"{late}/shop-new/failovers/lock"}
    found |= {f"catalog/{f}.sql" for f in ("catalog-0001", "catalog-0003", "service-m1")}
    found |= {f"reports/{name}.json{end}" for name in REPORTS for end in ("", ".sig")}
    # A whole lab: tests/lab/test_older_lab.py starts it.
    found |= {f"lab/{f}" for f in ("files.tar.xz", "lab.json", "site-a.sql", "site-b.sql")}
    return found | {"reports/full.html", "reports/key.pub.pem"}


KEPT = sorted(str(p.relative_to(V0_1)) for p in V0_1.rglob("*") if p.is_file())


@pytest.mark.parametrize("file", KEPT)
def test_every_sample_is_read_by_a_test(file: str) -> None:
    assert file in spoken_of()


def test_no_sample_is_missing() -> None:
    assert set(KEPT) == spoken_of()


def test_samples_are_few_and_name_no_place_of_the_machine_that_made_them() -> None:
    files = [p for p in SAMPLES.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1 << 20
    for path in files:
        data = path.read_bytes()
        assert b"/tmp/" not in data, path
        assert b"PRIVATE KEY" not in data, path
