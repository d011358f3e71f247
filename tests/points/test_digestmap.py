"""Digest maps: what they remember, and that they are never wrong about which point they are of."""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.digest_maps import header_of, is_intact
from vreplica.disk import MemoryDisk
from vreplica.extents import Extents
from vreplica.points.digestmap import file as mapfile
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapBusy, DigestMapUnusable, DigestMapWriteFailed
from vreplica.points.digestmap.file import PAGE_RECORDS
from vreplica.points.digestmap.pending import read_pending
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.units import BLOCK, MIB

BLOCKS = 3 * PAGE_RECORDS + 5
CAPACITY = BLOCKS * BLOCK - 512
Model = dict[int, bytes]


def make(path: Path, capacity: int = CAPACITY, seed: int | None = None) -> DigestMap:
    return DigestMap.create(path, capacity_bytes=capacity, algorithm="test", seed=seed)


def digest(value: int) -> bytes:
    return bytes([value]) * 16


def arrays(changes: Model) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    blocks = np.array(sorted(changes), np.int64)
    rows = b"".join(changes[block] for block in blocks.tolist())
    return blocks, np.frombuffer(rows, np.uint8).reshape(-1, 16)


def cycle(found: DigestMap, point: str, changes: Model) -> str:
    """One committed cycle; returns the root that was sealed."""
    pending = found.begin_run(point)
    pending.add(*arrays(changes))
    root = found.seal(pending)
    found.apply(point)
    return root


def remembered(found: DigestMap) -> Model:
    rows = found.lookup(np.arange(-(-found.capacity_bytes // BLOCK)))
    return {block: rows[block].tobytes() for block in np.flatnonzero(rows.any(axis=1)).tolist()}


def nonzero(model: Model) -> Model:
    return {block: value for block, value in model.items() if any(value)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk.digests"


changes = st.dictionaries(
    st.one_of(
        st.integers(0, BLOCKS - 1), st.sampled_from([0, PAGE_RECORDS - 1, PAGE_RECORDS, BLOCKS - 1])
    ),
    st.integers(0, 3).map(digest),
    max_size=12,
)


def test_a_new_map_says_zero_for_every_block(path: Path) -> None:
    found = make(path)
    assert not found.lookup(np.array([0, 7, BLOCKS - 1])).any()
    assert found.not_zero() == Extents.empty()
    assert (found.point, found.block, found.capacity_bytes) == ("", BLOCK, CAPACITY)
    assert is_intact(found.path)
    found.close()


def test_many_places_are_looked_up_together(path: Path) -> None:
    """More than one round of handing mapped pages back, in runs and one by one."""
    blocks = [*range(0, 400, 3), *range(500, 520), 900]
    found = make(path, capacity=1000 * BLOCK)
    cycle(found, "point", {block: digest(block % 250 + 1) for block in blocks})
    asked = np.array([*range(450), *range(495, 530), 899, 900, 901])
    held = set(blocks)
    expected = [digest(b % 250 + 1) if b in held else bytes(16) for b in asked.tolist()]
    assert [row.tobytes() for row in found.lookup(asked)] == expected
    assert [row.tobytes() for row in found.lookup(asked[::2])] == expected[::2]
    assert not found.lookup(asked[:0]).size
    found.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(changes, max_size=4))
def test_cycles_are_remembered_across_opens_and_lead_to_the_sealed_root(
    path: Path, cycles: list[Model]
) -> None:
    found, model, point = make(path, seed=5), {}, ""
    for number, change in enumerate(cycles):
        point = f"point-{number}"
        root = cycle(found, point, change)
        model.update(change)
        assert found.root == root
        found.close()
        found = DigestMap.open(path, latest_point=point)
        assert found.point == point
        assert found.seed == 5
    assert remembered(found) == nonzero(model)
    assert is_intact(found.path)
    assert found.not_zero() == Extents.from_pairs(
        [(b * BLOCK, min((b + 1) * BLOCK, CAPACITY)) for b in nonzero(model)]
    )
    # The root depends on the content alone, not on how it came about.
    other = make(path.with_name("other"), seed=5)
    cycle(other, point, nonzero(model))
    assert other.root == found.root
    other.close()
    found.close()


def test_the_root_changes_with_content_seed_and_capacity(path: Path) -> None:
    roots = set()
    for capacity, seed, change in (
        (CAPACITY, 1, {3: digest(1)}),
        (CAPACITY, 1, {4: digest(1)}),
        (CAPACITY, 1, {3: digest(2)}),
        (CAPACITY, 2, {3: digest(1)}),
        (CAPACITY + 512, 1, {3: digest(1)}),
    ):
        found = make(path, capacity, seed)
        roots.add(cycle(found, "p", change))
        found.close()
    assert len(roots) == 5


# -- crashes --------------------------------------------------------------------------------


class Crash(Exception):
    """The process ends here."""


class Machine:
    """Counts what reaches the file system and ends the process after so many of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.log: list[str] = []
        real_pwrite, real_fsync, real_unlink = os.pwrite, os.fsync, Path.unlink

        def pwrite(fd: int, data: memoryview, at: int) -> int:
            if self.left == 1:  # torn: half of it arrives
                real_pwrite(fd, data[: len(data) // 2], at)
            self.step("write")
            return real_pwrite(fd, data, at)

        def fsync(fd: int) -> None:
            self.step("sync")
            real_fsync(fd)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            self.step("unlink")
            real_unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(os, "pwrite", pwrite)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "unlink", unlink)

    def step(self, what: str) -> None:
        self.log.append(what)
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Crash


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(monkeypatch)
    yield made
    made.left = None


BEFORE: Model = {0: digest(1), 5: digest(1), PAGE_RECORDS: digest(1)}
CHANGE: Model = {5: digest(2), PAGE_RECORDS: digest(0), BLOCKS - 1: digest(3)}


@pytest.mark.parametrize("step", range(1, 20))
def test_a_crash_while_folding_is_made_good_on_open(
    path: Path, machine: Machine, step: int
) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    pending = found.begin_run("q")
    pending.add(*arrays(CHANGE))
    root = found.seal(pending)
    machine.left = step
    with suppress(Crash):
        found.apply("q")
    machine.left = None
    found.close()
    machine.log.clear()
    found = DigestMap.open(path, latest_point="q")
    # The power may fail next: what the dead process wrote is not durable before it is synced.
    assert not machine.log or machine.log[-2:] == ["sync", "unlink"]
    assert remembered(found) == nonzero(BEFORE | CHANGE)
    assert found.root == root
    assert is_intact(found.path)
    found.close()


@pytest.mark.parametrize("step", range(1, 6))
def test_a_crash_before_the_commit_leaves_the_old_point(
    path: Path, machine: Machine, step: int
) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    machine.left = step
    with suppress(Crash):
        pending = found.begin_run("q")
        pending.add(*arrays(CHANGE))
        pending.checkpoint(BLOCK)
        found.seal(pending)
    machine.left = None
    found.close()
    found = DigestMap.open(path, latest_point="p")
    assert remembered(found) == nonzero(BEFORE)
    cycle(found, "r", CHANGE)
    assert remembered(found) == nonzero(BEFORE | CHANGE)
    found.close()


def test_a_map_half_folded_is_not_taken_for_the_old_point(path: Path, machine: Machine) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    pending = found.begin_run("q")
    pending.add(*arrays(CHANGE))
    found.seal(pending)
    machine.left = 5
    with pytest.raises(Crash):
        found.apply("q")
    machine.left = None
    found.close()
    with pytest.raises(DigestMapUnusable, match="broke off"):
        DigestMap.open(path, latest_point="p")


@pytest.mark.parametrize(
    ("latest", "reason"),
    [
        ("", "describes recovery point p"),
        ("other", "describes recovery point p"),
        ("q", "no sealed digests of recovery point q"),
    ],
)
def test_a_map_of_another_point_is_unusable(path: Path, latest: str, reason: str) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    found.begin_run("q").close()  # never sealed
    found.close()
    with pytest.raises(DigestMapUnusable, match=reason):
        DigestMap.open(path, latest_point=latest)


def test_apply_twice_is_the_same_as_once(path: Path) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    found.apply("p")
    assert remembered(found) == nonzero(BEFORE)
    found.close()


def test_apply_refuses_what_was_not_sealed(path: Path) -> None:
    found = make(path)
    pending = found.begin_run("q")
    pending.add(*arrays(CHANGE))
    pending.checkpoint(BLOCK)
    with pytest.raises(DigestMapUnusable, match="sealed"):
        found.apply("q")
    pending.close()
    assert not remembered(found)
    found.close()


# -- damage ---------------------------------------------------------------------------------


def test_a_missing_or_cut_or_foreign_file_is_unusable(path: Path) -> None:
    with pytest.raises(DigestMapUnusable, match="missing"):
        DigestMap.open(path, latest_point="")
    make(path).close()
    os.truncate(path, 100_000)
    with pytest.raises(DigestMapUnusable, match="damaged"):
        DigestMap.open(path, latest_point="")
    path.write_bytes(b"something else" * 10_000)
    with pytest.raises(DigestMapUnusable, match="damaged"):
        DigestMap.open(path, latest_point="")


@pytest.mark.parametrize("place", [0, 1])
def test_a_map_of_a_newer_version_is_named_and_not_called_damaged(path: Path, place: int) -> None:
    make(path).close()
    with path.open("r+b") as file:
        file.seek(place * mapfile.HEADER)
        file.write(struct.pack("<8sH", mapfile.MAGIC, mapfile.VERSION + 1))
    with pytest.raises(
        DigestMapUnusable, match=r"newer version of vreplica \(format 2\)"
    ) as caught:
        DigestMap.open(path, latest_point="")
    assert "damaged" not in str(caught.value)


def test_a_sidecar_of_a_newer_version_is_not_resumed(path: Path) -> None:
    with closing(make(path)) as found:
        found.begin_run("p1").checkpoint(BLOCK)
    sidecar = path.with_name(path.name + ".pending")
    assert read_pending(sidecar) is not None
    head = b'{"format": 2, "of": "the next format"}'
    frame = struct.pack("<B3xI", 1, len(head)) + head
    sidecar.write_bytes(frame + blake2b(frame, digest_size=16).digest())
    assert read_pending(sidecar) is None


def test_one_torn_header_leaves_the_other(path: Path) -> None:
    found = make(path)
    generation = header_of(found.path).generation
    found.close()
    with path.open("r+b") as file:
        file.seek(mapfile.HEADER * ((generation + 1) % 2))
        file.write(os.urandom(mapfile.HEADER))
    found = DigestMap.open(path, latest_point="")
    assert header_of(found.path).generation == generation
    found.close()


@pytest.mark.parametrize("at", [mapfile.TABLE_AT + 3, mapfile.RECORDS_AT + 5 * 16])
def test_check_finds_a_flipped_bit(path: Path, at: int) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    assert not is_intact(found.path)
    found.close()


@given(st.integers(0, 400), st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_in_the_sidecar_is_never_folded(path: Path, at: int, bit: int) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    pending = found.begin_run("q")
    pending.add(*arrays(CHANGE))
    found.seal(pending)
    sidecar = path.with_name(path.name + ".pending")
    data = bytearray(sidecar.read_bytes())
    data[at % len(data)] ^= 1 << bit
    sidecar.write_bytes(data)
    with pytest.raises(DigestMapUnusable):
        found.apply("q")
    assert remembered(found) == nonzero(BEFORE)
    found.close()


def test_two_processes_cannot_hold_one_map(path: Path) -> None:
    found = make(path)
    with pytest.raises(DigestMapBusy):
        DigestMap.open(path, latest_point="")
    with pytest.raises(DigestMapBusy):
        make(path)
    found.close()
    found.close()
    DigestMap.open(path, latest_point="").close()


def test_a_directory_that_is_not_there_is_a_clear_error(path: Path) -> None:
    with pytest.raises(DigestMapWriteFailed, match="No such file or directory"):
        make(path.with_name("none") / "map")


@pytest.mark.parametrize("step", ["checkpoint", "seal", "grow"])
def test_what_the_system_refuses_names_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with closing(make(path)) as found:
        pending = found.begin_run("p1")
        pending.add(*arrays({1: digest(1)}))

        def refuse(_fd: int) -> None:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        monkeypatch.setattr(os, "fsync", refuse)
        steps: dict[str, Callable[[], object]] = {
            "checkpoint": lambda: pending.checkpoint(BLOCK),
            "seal": lambda: found.seal(pending),
            "grow": lambda: found.grow(CAPACITY + BLOCK),
        }
        with pytest.raises(DigestMapWriteFailed, match=rf"{path}.*: Disk quota exceeded"):
            steps[step]()


# -- resuming -------------------------------------------------------------------------------


def test_a_broken_cycle_goes_on_from_its_last_checkpoint(path: Path) -> None:
    found = make(path)
    cycle(found, "p", BEFORE)
    pending = found.begin_run("q")
    pending.add(*arrays({1: digest(1), 2: digest(2)}))
    pending.checkpoint(3 * BLOCK, {"shipped_bytes": 2 * BLOCK, "read_s": 0.25})
    pending.add(*arrays({9: digest(9)}))
    pending.close()
    found.close()

    found = DigestMap.open(path, latest_point="p")
    resumed = found.resume_run()
    assert resumed is not None
    assert resumed.counts == {"shipped_bytes": 2 * BLOCK, "read_s": 0.25}
    assert (resumed.head.point, resumed.position, resumed.count) == ("q", 3 * BLOCK, 2)
    resumed.add(*arrays({9: digest(8), 10: digest(8)}))
    resumed.counts = {"shipped_bytes": 4 * BLOCK}
    found.seal(resumed)
    sealed = read_pending(path.with_name(path.name + ".pending"))
    assert sealed is not None
    assert sealed.counts == {"shipped_bytes": 4 * BLOCK}
    found.apply("q")
    assert remembered(found) == BEFORE | {
        1: digest(1),
        2: digest(2),
        9: digest(8),
        10: digest(8),
    }
    found.close()


@pytest.mark.parametrize("how", ["none", "no checkpoint", "sealed", "of another map"])
def test_nothing_to_resume(path: Path, how: str) -> None:
    found = make(path)
    if how != "none":
        pending = found.begin_run("q")
        pending.add(*arrays(CHANGE))
        if how == "sealed":
            pending.checkpoint(BLOCK)
            found.seal(pending)
        if how == "of another map":
            pending.checkpoint(BLOCK)
            data = path.with_name(path.name + ".pending").read_bytes()
            found.close()
            found = make(path)
            path.with_name(path.name + ".pending").write_bytes(data)
        pending.close()
    assert found.resume_run() is None
    found.close()


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sidecar_cut_anywhere_is_read_up_to_a_whole_frame(
    path: Path, data: st.DataObject
) -> None:
    found = make(path, seed=1)
    pending = found.begin_run("q")
    for block in range(3):
        pending.add(*arrays({block: digest(1)}))
        pending.checkpoint((block + 1) * BLOCK)
    pending.close()
    sidecar = path.with_name(path.name + ".pending")
    whole = sidecar.stat().st_size
    size = data.draw(st.integers(0, whole))
    os.truncate(sidecar, size)
    left = read_pending(sidecar)
    if left is not None and left.position:
        assert left.position == left.durable_count * BLOCK
        resumed = found.resume_run()
        assert resumed is not None
        assert [b for blocks, _ in resumed.records() for b in blocks] == list(
            range(left.durable_count)
        )
        resumed.close()
    if size == whole:
        assert left is not None
        assert left.position == 3 * BLOCK
    found.close()


# -- shape ----------------------------------------------------------------------------------


def test_a_grown_disk_keeps_its_digests_and_forgets_a_short_last_block(path: Path) -> None:
    found = make(path)
    cycle(found, "p", BEFORE | {BLOCKS - 1: digest(4)})
    found.grow(CAPACITY + 9 * BLOCK)
    assert remembered(found) == BEFORE | {BLOCKS - 1: b"\xff" * 16}
    assert is_intact(found.path)
    found.close()
    found = DigestMap.open(path, latest_point="p")
    assert found.capacity_bytes == CAPACITY + 9 * BLOCK
    change = {BLOCKS - 1: digest(5), BLOCKS + 7: digest(6)}
    cycle(found, "q", change)
    assert remembered(found) == BEFORE | change
    with pytest.raises(ValueError, match="not more"):
        found.grow(CAPACITY)
    found.close()


def plain_hash(buffer: memoryview, block: int, seed: int) -> np.ndarray[Any, Any]:
    """First byte of each block and the seed, enough to tell blocks apart."""
    rows = np.zeros((-(-len(buffer) // block), 16), np.uint8)
    rows[:, 0] = np.frombuffer(buffer, np.uint8)[::block]
    rows[:, 1] = (rows[:, 0] > 0) * (seed % 251)
    return rows


def test_rebuild_reads_what_is_allocated_and_is_of_the_point(path: Path) -> None:
    disk = MemoryDisk(200 * MIB + 512)
    disk.write_from(0, memoryview(bytes([7]) * 3 * BLOCK))
    disk.write_from(150 * MIB, memoryview(bytes([8]) * 9 * MIB))
    disk.write_from(200 * MIB, memoryview(bytes([9]) * 512))
    disk.ops.clear()
    seen: list[tuple[int, int]] = []
    found = rebuild(
        path,
        disk,
        plain_hash,
        point="p",
        algorithm="test",
        seed=6,
        progress=lambda *p: seen.append(p),
    )
    read = sum(length for name, _, length in disk.ops if name == "read")
    assert read == disk.allocated().align(BLOCK, disk.capacity_bytes).total
    assert seen[-1] == (read, read)
    assert found.point == "p"
    assert is_intact(found.path)
    assert found.not_zero() == disk.allocated().align(BLOCK, disk.capacity_bytes)
    assert remembered(found)[3200].hex() == "0906" + "00" * 14
    found.close()
    DigestMap.open(path, latest_point="p").close()


def test_a_rebuild_that_breaks_off_does_not_count(path: Path) -> None:
    disk = MemoryDisk(20 * MIB, bytes([1]) * 20 * MIB)

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(path, disk, plain_hash, point="p", algorithm="test", progress=give_up)
    with pytest.raises(DigestMapUnusable):
        DigestMap.open(path, latest_point="p")


def test_a_map_of_62_tib_costs_what_it_holds(path: Path) -> None:
    capacity = 62 << 40
    last = capacity // BLOCK - 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = make(path, capacity)
    places = np.unique(np.linspace(0, last, 2000).astype(np.int64))
    pending = found.begin_run("p")
    pending.add(places, np.full((len(places), 16), 7, np.uint8))
    found.seal(pending)
    found.apply("p")
    assert (found.lookup(places) == 7).all()
    assert found.not_zero().total == len(places) * BLOCK
    found.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert path.stat().st_blocks * 512 < 70 * MIB  # 2,000 pages of 16 KiB and their digests


def test_a_fold_is_ordered_by_syncs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut finds the mark where any record changed, and the end only after all of them."""
    found = make(path)
    cycle(found, "p", BEFORE)
    pending = found.begin_run("q")
    pending.add(*arrays(CHANGE))
    found.seal(pending)
    seen: list[str] = []
    real_pwrite, real_fsync = os.pwrite, os.fsync

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        what = "header" if at < mapfile.TABLE_AT else "records"
        if seen[-1:] != [what]:
            seen.append(what)
        return real_pwrite(fd, data, at)

    def fsync(fd: int) -> None:
        seen.append("sync")
        real_fsync(fd)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    found.apply("q")
    assert seen == ["header", "sync", "records", "sync", "header", "sync"]
    found.close()


@pytest.mark.parametrize("lost", [0, 5 * 16, (PAGE_RECORDS - 1) * 16])
def test_a_record_that_went_bad_lets_no_block_be_dropped(path: Path, lost: int) -> None:
    """A lost sector of the map reads as zeros: the digest of a block of zeros."""
    held = {n: digest(n + 1) for n in range(20)} | {PAGE_RECORDS + 3: digest(7)}
    with closing(make(path)) as made:
        cycle(made, "p1", held)
    with path.open("r+b") as file:
        file.seek(mapfile.RECORDS_AT + lost // 512 * 512)
        file.write(bytes(512) if lost < 512 else b"\1" * 512)
    with closing(DigestMap.open(path, latest_point="p1")) as found:
        first = found.lookup(np.arange(4))
        assert (first == 0xFF).all(), "what the replica has there is not known"
        assert found.lookup(np.array([PAGE_RECORDS + 3])).tobytes() == digest(7)
        assert found.has_damage
        assert found.not_zero().covers(Extents.of(0, PAGE_RECORDS * BLOCK))
        pending = found.begin_run("p2")
        pending.add(*arrays({1: digest(9)}))
        with pytest.raises(DigestMapUnusable, match="damaged"):
            found.seal(pending)


def test_a_table_of_pages_that_went_bad_makes_the_map_unusable(path: Path) -> None:
    with closing(make(path)) as made:
        cycle(made, "p1", {3: digest(3)})
    with path.open("r+b") as file:
        file.seek(mapfile.TABLE_AT)
        file.write(bytes(32))
    with pytest.raises(DigestMapUnusable, match="root"):
        DigestMap.open(path, latest_point="p1")
