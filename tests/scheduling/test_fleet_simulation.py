"""A small fleet in simulated time: limits hold at every moment, RPOs are kept."""

from __future__ import annotations

import pytest

from benchmarks.fleet import Size, simulate

SMALL = Size(vms=120, hosts=6, datastores=4, movers=2, runs_per_mover=8)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_with_room_keeps_every_rpo(seed: int) -> None:
    """`simulate` itself asserts that no host and no datastore takes more than it may."""
    scene = simulate(SMALL, seed, 2.0, behind=False)
    assert scene["rpo_kept"] == 1.0
    assert scene["runs"] > 120
    assert scene["peak"]["host"] <= SMALL.runs_per_host


def test_a_backlog_is_worked_off_near_what_the_busiest_host_needs() -> None:
    scene = simulate(SMALL, 3, 6.0, behind=True)
    assert scene["lower_bound_s"] <= scene["makespan_s"] <= 2.5 * scene["lower_bound_s"]
