"""Samples of what is written, the ransomware flag, and the audit of change tracking."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vreplica.delta.block_hash import Digests, hash_blocks
from vreplica.delta.cbt_audit import CbtMissedChanges, audit
from vreplica.delta.copy.content_sample import DENSE_PIECES, ContentSample, entropy
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.disk import MemoryDisk, Request
from vreplica.extents import Extents
from vreplica.sync.anomaly import MIN_HISTORY, ChangeSummary, suspect
from vreplica.units import BLOCK, MIB

TEXT = b"2024-02-29T12:00:01 service[4711]: session opened for user 815\n" * 20_000
RANDOM = random.Random(7).randbytes(4 * MIB)


# -- samples --------------------------------------------------------------------------------


def test_entropy_of_known_contents() -> None:
    assert entropy(np.zeros(4096, np.uint8)) == 0
    assert entropy(np.tile(np.arange(256, dtype=np.uint8), 16)) == 8
    assert entropy(np.tile(np.array([1, 2], np.uint8), 2048)) == 1


def sample_of_copy(content: bytes) -> ContentSample:
    size = len(content) // BLOCK * BLOCK
    source, target = MemoryDisk(size, content[:size]), MemoryDisk(size)
    return copy(CopySpec(source, target, Extents.of(0, size))).content


def test_random_data_looks_encrypted_and_text_does_not() -> None:
    noise, text = sample_of_copy(RANDOM), sample_of_copy(TEXT)
    assert noise.high_entropy_share == 1.0
    assert noise.compressibility > 0.99
    assert noise.mean_entropy > 7.9
    assert text.high_entropy_share == 0.0
    assert text.compressibility < 0.2
    both = noise + text
    assert both.pieces == noise.pieces + text.pieces
    assert 0 < both.high_entropy_share < 1


def test_small_changes_are_sampled_densely_and_large_ones_sparsely() -> None:
    sample = ContentSample()
    taken = 0
    for _ in range(1000):
        chosen = len(sample.choose(100))
        taken += chosen
        sample.pieces += chosen
    assert sample.seen_blocks == 100_000
    assert DENSE_PIECES < taken < DENSE_PIECES + 100_000 / 64 + 64


def test_zeros_and_redundant_blocks_are_not_sampled() -> None:
    disk = MemoryDisk(4 * MIB, bytes(4 * MIB))
    assert (
        copy(CopySpec(disk, MemoryDisk(4 * MIB), Extents.of(0, 4 * MIB))).content.seen_blocks == 0
    )


# -- suspicion ------------------------------------------------------------------------------

USUAL = [ChangeSummary(n * MIB, 4096 * MIB, 100, 0.3 + n / 1000) for n in (40, 50, 60, 55, 45, 52)]


def cycle(changed_mib: int, share: float, pieces: int = 500) -> ChangeSummary:
    return ChangeSummary(changed_mib * MIB, 4096 * MIB, pieces, share)


def test_much_more_change_of_encrypted_data_is_flagged_with_its_numbers() -> None:
    found = suspect(cycle(2000, 0.97), USUAL)
    assert found is not None
    assert "97%" in str(found)
    assert "1.95 GiB changed where 51 MiB are usual" in str(found)


@pytest.mark.parametrize(
    ("now", "history"),
    [
        (cycle(2000, 0.33), USUAL),  # much, but of the usual kind: a restore, a defragmentation
        (cycle(55, 0.99), USUAL),  # little, of another kind: one archive
        (cycle(2000, 0.99, pieces=5), USUAL),  # too few samples to say
        (ChangeSummary(4000 * MIB, 4096 * MIB, 500, 0.99, first=True), USUAL),
        (cycle(2000, 0.99), [cycle(1800, 0.99)] * MIN_HISTORY),  # a disk of archives, as ever
        (cycle(300, 0.99), []),
    ],
)
def test_what_has_an_everyday_reason_is_not_flagged(
    now: ChangeSummary, history: Sequence[ChangeSummary]
) -> None:
    assert suspect(now, history) is None


def test_with_little_history_only_the_extreme_is_flagged_and_with_none_nothing() -> None:
    assert suspect(cycle(2000, 0.99), USUAL[:2]) is not None
    assert suspect(cycle(700, 0.99), USUAL[:2]) is None
    assert suspect(cycle(4000, 1.0), []) is None
    assert suspect(cycle(4000, 1.0), [ChangeSummary(1, 1, 99, 1.0, first=True)] * 9) is None


def test_one_odd_cycle_does_not_hide_the_next() -> None:
    assert suspect(cycle(2000, 0.97), [*USUAL, cycle(2000, 0.97)]) is not None


# -- audit ----------------------------------------------------------------------------------


class Known:
    def __init__(self, disk: MemoryDisk) -> None:
        data = bytearray(disk.capacity_bytes)
        disk.read_into(0, memoryview(data))
        self.rows = hash_blocks(memoryview(data), BLOCK, 5)

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        return self.rows[blocks]


CAPACITY = 50 * BLOCK + 512


def audited_disk() -> MemoryDisk:
    return MemoryDisk(CAPACITY, random.Random(1).randbytes(CAPACITY))


@given(
    st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)), st.data()
)
def test_a_whole_audit_finds_exactly_the_changes_that_were_not_reported(
    written: set[int], reported: set[int], unlooked: set[int], data: st.DataObject
) -> None:
    disk = audited_disk()
    known = Known(disk)
    for block in written:
        disk.write_from(block * BLOCK, memoryview(bytes(512)))
    disk.ops.clear()
    changed = Extents.from_pairs([(b * BLOCK + 100, b * BLOCK + 200) for b in reported])
    looked_at = Extents.of(0, CAPACITY).subtract(
        Extents.from_blocks(np.array(sorted(unlooked), np.int64), BLOCK, CAPACITY)
    )
    report = audit(disk, known, changed, looked_at, seed=5, share=1.0)
    quiet = set(range(51)) - reported - unlooked
    assert report.complete
    assert report.sampled_blocks == report.unchanged_blocks == len(quiet)
    assert {o // BLOCK for op, o, _ in disk.ops if op == "read"} == quiet
    missed = np.array(sorted(written & quiet), np.int64)
    assert report.different == Extents.from_blocks(missed, BLOCK, CAPACITY)
    if len(missed):
        with pytest.raises(CbtMissedChanges, match=f"{len(missed)} of {len(quiet)} sampled"):
            report.raise_if_different()
    else:
        report.raise_if_different()


def test_a_sample_is_the_share_asked_for_and_never_twice_the_same_block() -> None:
    disk = audited_disk()
    known = Known(disk)
    disk.ops.clear()
    report = audit(disk, known, Extents.empty(), Extents.of(0, CAPACITY), seed=5, share=0.5)
    read = [offset for op, offset, _ in disk.ops if op == "read"]
    assert report.sampled_blocks == len(set(read)) == round(51 * 0.5)
    assert not len(report.different)


def test_an_audit_ends_when_its_time_is_up() -> None:
    class Slow(MemoryDisk):
        def read_many(self, requests: Sequence[Request]) -> None:
            raise AssertionError("no time for a read")

    report = audit(
        Slow(CAPACITY),
        Known(audited_disk()),
        Extents.empty(),
        Extents.of(0, CAPACITY),
        seed=5,
        max_seconds=-1,
    )
    assert (report.sampled_blocks, report.complete) == (0, False)


def test_nothing_to_audit() -> None:
    disk = audited_disk()
    report = audit(disk, Known(disk), Extents.of(0, CAPACITY), Extents.of(0, CAPACITY), seed=5)
    assert (report.unchanged_blocks, report.sampled_blocks, report.complete) == (0, 0, True)
