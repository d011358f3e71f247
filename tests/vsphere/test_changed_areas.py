"""QueryChangedDiskAreas, paged: whole answers are united, broken ones are refused.

A scripted disk answers as vSphere does; each misbehaviour is one seen or reported in the field.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vms import make_disk
from vreplica.extents import Extents
from vreplica.units import GIB, MIB, SECTOR, TIB
from vreplica.vsphere.change_id import ChangeId, generation_of
from vreplica.vsphere.errors import CbtCoverage, ChangeIdInvalid
from vreplica.vsphere.inventory.changed_areas import ChangedAreasPage, collect_pages


class ScriptedDisk:
    """Answers like a host: at most `limit` areas a page, InvalidArgument at the capacity."""

    def __init__(self, capacity: int, areas: list[tuple[int, int]], limit: int = 2000) -> None:
        self.capacity, self.areas, self.limit = capacity, areas, limit
        self.asked: list[int] = []

    def __call__(self, offset: int) -> ChangedAreasPage:
        self.asked.append(offset)
        if offset >= self.capacity:
            raise AssertionError("a query at the disk's end is an InvalidArgument")
        ahead = [(s, n) for s, n in self.areas if s >= offset]
        here = ahead[: self.limit]
        end = ahead[self.limit][0] if len(ahead) > self.limit else self.capacity
        return ChangedAreasPage(offset, end - offset, here)


def test_all_pages_are_read_and_united() -> None:
    areas = [(i * 128 * 1024, 64 * 1024) for i in range(5000)]
    disk = ScriptedDisk(1 * GIB, areas)
    found = collect_pages(disk, disk.capacity)
    assert found == Extents.from_pairs((s, s + n) for s, n in areas)
    assert disk.asked == [0, 2000 * 128 * 1024, 4000 * 128 * 1024]


@pytest.mark.parametrize("count", [0, 1, 1999, 2000, 2001, 4000, 4001])
def test_the_page_limit_is_no_edge(count: int) -> None:
    disk = ScriptedDisk(1 * GIB, [(i * 8192, 4096) for i in range(count)])
    assert collect_pages(disk, disk.capacity).total == count * 4096
    assert len(disk.asked) == max(1, -(-count // 2000))


def test_no_query_starts_at_the_capacity() -> None:
    disk = ScriptedDisk(10 * MIB, [(10 * MIB - SECTOR, SECTOR)])
    assert list(collect_pages(disk, disk.capacity)) == [(10 * MIB - SECTOR, 10 * MIB)]
    assert disk.asked == [0]


def test_an_empty_disk_asks_nothing() -> None:
    disk = ScriptedDisk(0, [])
    assert collect_pages(disk, 0) == Extents.empty()
    assert disk.asked == []


def test_an_empty_page_in_the_middle_does_not_end_the_query() -> None:
    pages = {
        0: ChangedAreasPage(0, 4 * MIB, [(0, 512)]),
        4 * MIB: ChangedAreasPage(4 * MIB, 4 * MIB, []),
        8 * MIB: ChangedAreasPage(8 * MIB, 2 * MIB, [(9 * MIB, 512)]),
    }
    assert list(collect_pages(pages.__getitem__, 10 * MIB)) == [(0, 512), (9 * MIB, 9 * MIB + 512)]


def test_the_cost_follows_the_changes_and_not_the_disk() -> None:
    disk = ScriptedDisk(62 * TIB, [(61 * TIB, 1 * GIB)])
    assert collect_pages(disk, disk.capacity).total == 1 * GIB
    assert len(disk.asked) == 1


def test_areas_are_rounded_out_to_sectors() -> None:
    found = collect_pages(lambda at: ChangedAreasPage(at, 1 * MIB, [(1000, 100)]), 1 * MIB)
    assert list(found) == [(512, 1536)]


def test_an_area_past_the_disks_end_is_cut_off() -> None:
    areas = [(9 * MIB, 2 * MIB), (12 * MIB, 1 * MIB)]
    found = collect_pages(lambda at: ChangedAreasPage(at, 10 * MIB, areas), 10 * MIB)
    assert list(found) == [(9 * MIB, 10 * MIB)]


def test_a_window_past_the_disks_end_is_taken_to_the_end() -> None:
    found = collect_pages(lambda at: ChangedAreasPage(at, 12 * MIB, [(11 * MIB, MIB)]), 10 * MIB)
    assert found == Extents.empty()


def test_areas_in_any_order_and_overlapping_are_united() -> None:
    areas = [(8192, 4096), (0, 512), (10240, 4096)]
    found = collect_pages(lambda at: ChangedAreasPage(at, 1 * MIB, areas), 1 * MIB)
    assert list(found) == [(0, 512), (8192, 14336)]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (ChangedAreasPage(4096, 10 * MIB - 4096, []), "leaves out"),
        (ChangedAreasPage(0, 0, []), "speaks for 0 bytes"),
        (ChangedAreasPage(0, -512, []), "speaks for -512 bytes"),
        (ChangedAreasPage(0, 1 * MIB, [(2 * MIB, 512)]), "outside the window"),
        (ChangedAreasPage(0, 1 * MIB, [(1 * MIB - 512, 1024)]), "outside the window"),
        (ChangedAreasPage(0, 10 * MIB, [(1024, -512)]), "negative length"),
    ],
    ids=["gap", "no progress", "backwards", "area ahead", "area over the edge", "negative"],
)
def test_a_page_that_does_not_fit_is_refused(page: ChangedAreasPage, reason: str) -> None:
    with pytest.raises(CbtCoverage, match=reason):
        collect_pages(lambda at: page, 10 * MIB, disk_key=2000)


def test_a_server_that_repeats_its_first_page_is_refused() -> None:
    with pytest.raises(CbtCoverage, match="repeats") as caught:
        collect_pages(lambda at: ChangedAreasPage(0, 4 * MIB, [(0, 512)]), 10 * MIB, disk_key=2001)
    assert caught.value.disk_key == 2001
    assert "read once" in caught.value.explain()[-1]


def test_a_later_page_that_overlaps_the_one_before_is_refused() -> None:
    pages = {0: ChangedAreasPage(0, 4 * MIB, []), 4 * MIB: ChangedAreasPage(3 * MIB, 7 * MIB, [])}
    with pytest.raises(CbtCoverage, match="repeats"):
        collect_pages(pages.__getitem__, 10 * MIB)


def test_a_later_page_with_areas_of_an_earlier_window_is_refused() -> None:
    pages = {
        0: ChangedAreasPage(0, 4 * MIB, []),
        4 * MIB: ChangedAreasPage(4 * MIB, 6 * MIB, [(1 * MIB, 512)]),
    }
    with pytest.raises(CbtCoverage, match="outside the window"):
        collect_pages(pages.__getitem__, 10 * MIB)


def test_a_fault_in_a_later_page_loses_the_earlier_ones_too() -> None:
    def query(at: int) -> ChangedAreasPage:
        if at:
            raise ChangeIdInvalid("u/1", "FileFault")
        return ChangedAreasPage(0, 4 * MIB, [(0, 512)])

    with pytest.raises(ChangeIdInvalid):
        collect_pages(query, 10 * MIB)


@given(
    blocks=st.sets(st.integers(0, 2047), max_size=300),
    limit=st.integers(1, 40),
)
def test_any_set_of_areas_survives_any_page_size(blocks: set[int], limit: int) -> None:
    areas = [(b * 4096, 4096) for b in sorted(blocks)]
    disk = ScriptedDisk(2048 * 4096, areas, limit)
    found = collect_pages(disk, disk.capacity)
    assert found == Extents.from_pairs((s, s + n) for s, n in areas)


def test_a_change_id_is_generation_and_number() -> None:
    text = "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81"
    parsed = ChangeId.parse(text)
    assert parsed.generation == "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63"
    assert parsed.number == "81"
    assert str(parsed) == text
    assert generation_of(text) == generation_of(text.upper().replace("/81", "/113"))
    assert generation_of(text) != generation_of(text.replace("52 de", "52 df"))


@pytest.mark.parametrize("text", ["", "*", "nothing", "/3", "uuid/", "  /  "])
def test_what_is_no_change_id_is_refused(text: str) -> None:
    with pytest.raises(ChangeIdInvalid, match="uuid/number"):
        ChangeId.parse(text)


def test_a_disk_says_its_datastore_and_its_place() -> None:
    disk = make_disk()
    assert disk.datastore == "ds"
    assert disk.position == ("pvscsi", 0, 0)


CAPACITY = 64 * MIB
FAR_AWAY = [
    (0, CAPACITY, [((1 << 63) - 1, 1)]),
    (0, CAPACITY, [(4096, (1 << 63) - 1)]),
    (0, CAPACITY, [(1 << 62, (1 << 63) - 1)]),
    (0, CAPACITY, [(1 << 70, 1 << 70)]),
    (0, CAPACITY, [(-(1 << 63), 1)]),
    (0, 1 << 70, []),
    (0, CAPACITY, [(None, 1)]),
    (0, CAPACITY, [("0", 1)]),
    (0, CAPACITY, [(0, 1.5)]),
    (None, CAPACITY, []),
    (0, True, []),
]


@pytest.mark.parametrize("page", FAR_AWAY, ids=str)
def test_numbers_that_no_disk_has_fail_the_query(page: Any) -> None:
    with pytest.raises(CbtCoverage):
        collect_pages(lambda offset: ChangedAreasPage(*page), CAPACITY)


def test_pages_that_get_nowhere_end_with_the_limit_of_time() -> None:
    with pytest.raises(CbtCoverage, match="pages"):
        collect_pages(lambda offset: ChangedAreasPage(offset, 1, []), 1 << 50, timeout_s=0.05)
