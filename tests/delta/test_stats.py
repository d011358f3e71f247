"""The counts of a copy in the journal of a digest map, which older movers read and wrote."""

from __future__ import annotations

from vreplica.delta.copy.stats import CopyStats

OLD = {
    "selected_bytes": 100,
    "read_bytes": 90,
    "hashed_bytes": 30,
    "zero_bytes": 70,
    "redundant_bytes": 50,
    "zeroed_bytes": 30,
    "shipped_bytes": 20,
    "selected_blocks": 10,
    "changed_blocks": 5,
    "read_s": 0.5,
    "content.pieces": 2,
}
"""Counts of the first version: 40 of `redundant_bytes` are zeros that needed no write."""


def test_counts_of_the_first_version_are_read_by_what_they_meant() -> None:
    stats = CopyStats.from_values(OLD | {"of_a_later_version": 1})
    assert (stats.looked_at_bytes, stats.read_bytes) == (100, 90)
    kinds = stats.redundant_bytes, stats.zero_already_bytes, stats.zeroed_bytes, stats.data_bytes
    assert kinds == (10, 40, 30, 20)
    assert (stats.written_bytes, stats.hashed_bytes) == (50, 30)
    assert (stats.looked_at_blocks, stats.written_blocks) == (10, 5)
    assert (stats.read_s, stats.content.pieces) == (0.5, 2)


def test_the_first_version_reads_the_counts_that_are_written_now() -> None:
    values = CopyStats.from_values(OLD).to_values()
    assert {name: values[name] for name in OLD} == OLD
