"""The generator of test disks: what a recipe says is what the disk is, each time."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from benchmarks.disks import generated
from benchmarks.disks.generated import CHAINS, FORMS, Recipe, TestDisk
from vreplica.extents import Extents
from vreplica.units import BLOCK, MIB
from vreplica.vddk.library import Library

RECIPE = Recipe(capacity=48 * MIB, largest_cluster=MIB, changed=0.05, redundant_blocks=9)


@pytest.fixture(scope="module")
def disk() -> TestDisk:
    return TestDisk(RECIPE)


def content(disk: TestDisk, *, changed: bool = False) -> bytearray:
    data = bytearray(disk.recipe.capacity)
    for offset, piece in [*disk.base(), *(disk.changes() if changed else ())]:
        data[offset : offset + len(piece)] = piece
    return data


def differing_blocks(a: bytearray, b: bytearray) -> list[int]:
    rows = [np.frombuffer(data, np.uint8).reshape(-1, BLOCK) for data in (a, b)]
    return np.flatnonzero((rows[0] != rows[1]).any(axis=1)).tolist()


def test_the_same_recipe_gives_the_same_disk_and_another_seed_another() -> None:
    first, second = TestDisk(RECIPE), TestDisk(RECIPE)
    assert content(first, changed=True) == content(second, changed=True)
    assert first.reported == second.reported
    assert content(TestDisk(replace(RECIPE, seed=1))) != content(first)


@pytest.mark.parametrize("allocated", [0.0, 0.1, 0.4, 1.0])
def test_the_share_that_is_allocated_is_the_one_that_was_asked_for(allocated: float) -> None:
    disk = TestDisk(replace(RECIPE, allocated=allocated))
    blocks = RECIPE.capacity // BLOCK
    assert sum(end - start for start, end in disk.clusters) == round(blocks * allocated) * BLOCK
    assert all(end - start <= RECIPE.largest_cluster for start, end in disk.clusters)


def test_exactly_the_changed_blocks_differ_and_all_of_them_are_reported(disk: TestDisk) -> None:
    before, after = content(disk), content(disk, changed=True)
    assert differing_blocks(before, after) == disk.changed_blocks.tolist()
    assert len(disk.changed_blocks) == round(RECIPE.capacity // BLOCK * RECIPE.changed)
    for blocks in (disk.changed_blocks, disk.redundant_blocks):
        rows = np.array([(b * BLOCK, (b + 1) * BLOCK) for b in blocks.tolist()])
        assert disk.reported.covers(Extents.from_array(rows))
    assert len(disk.redundant_blocks) == RECIPE.redundant_blocks
    assert not set(disk.redundant_blocks.tolist()) & set(disk.changed_blocks.tolist())


def test_changes_come_in_clusters_of_neighbouring_blocks() -> None:
    changed = TestDisk(replace(RECIPE, changed=0.2)).changed_blocks
    assert (np.diff(changed) == 1).mean() > 0.3


def test_only_the_kinds_that_were_asked_for() -> None:
    text = TestDisk(replace(RECIPE, kinds=("text",)))
    assert all(b"session" in data for _, data in text.base())
    noise = TestDisk(replace(RECIPE, kinds=("random",)))
    assert not any(b"session" in data for _, data in noise.base())


def test_written_once_from_front_to_back_it_is_the_same_disk(disk: TestDisk) -> None:
    once = bytearray(RECIPE.capacity)
    end = 0
    for offset, piece in disk.changed():
        assert offset >= end
        end = offset + len(piece)
        once[offset:end] = piece
    assert once == content(disk, changed=True)


@pytest.mark.parametrize("form", [*FORMS, *CHAINS])
@pytest.mark.parametrize("changed", [False, True], ids=["base", "changed"])
def test_every_form_holds_what_the_recipe_says(
    tmp_path: Path, disk: TestDisk, form: str, changed: bool
) -> None:
    path = tmp_path / "disk.vmdk"
    generated.make(path, disk, form, changed=changed)
    found = bytearray(RECIPE.capacity)
    with Library.load().open(path) as handle:
        assert handle.capacity_bytes == RECIPE.capacity
        handle.read_into(0, memoryview(found))
    assert sha256(found).digest() == sha256(content(disk, changed=changed)).digest()
