"""The lab's change map: how coarse it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from vreplica.extents import Extents
from vreplica.lab.storage.change_map import BLOCKS_MAX, ChangeMap
from vreplica.units import GIB, KIB

TIB = 1024 * GIB


@pytest.mark.parametrize(
    ("capacity", "granule"),
    [
        (GIB, 64 * KIB),
        (64 * KIB * BLOCKS_MAX, 64 * KIB),
        (64 * KIB * BLOCKS_MAX + 512, 128 * KIB),
        (62 * TIB - 512, None),
    ],
)
def test_one_sector_is_reported_as_a_granule_that_grows_with_the_disk(
    tmp_path: Path, capacity: int, granule: int | None
) -> None:
    made = ChangeMap.create(tmp_path / "a-ctk.vmdk", capacity, Extents.empty())
    size = made.granularity
    assert granule in (None, size)
    assert size * BLOCKS_MAX >= capacity > (size // 2) * BLOCKS_MAX * (size > 64 * KIB)
    made.mark(size + 512, 512)
    made.mark(capacity - 512, 512)
    last = (capacity - 1) // size * size
    assert made.changed_since(0) == Extents.from_pairs([(size, 2 * size), (last, capacity)])
    assert made.changed_since(made.epoch) == Extents.empty()
