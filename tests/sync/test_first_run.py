"""A first run makes a replica: there is nothing to repair, and it says so."""

from __future__ import annotations

from pathlib import Path

from tests.support.sync_model import World, on_the_model


def test_a_first_run_repairs_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    with on_the_model(world):
        report = world.run(None, kill=False)
    assert report is not None
    assert report.recovered == ()
