"""The nights of test_nights.py on the lab: real vCenters, disks and files, the same witness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.night_lab import LabNight, on_the_lab
from vreplica.lab import Lab


def live(folder: Path, seed: int, steps: int) -> LabNight:
    with Lab.create(folder / "lab") as lab:
        night = LabNight(folder, seed, lab)
        with on_the_lab(night):
            assert night.type_("run")[0] == 0
            try:
                night.live(steps)
            except AssertionError as error:
                story = "\n".join(str(step)[:300] for step in night.log[-30:])
                raise AssertionError(f"night {seed}: {error}\n{story}") from error
    return night


def test_a_short_night(tmp_path: Path) -> None:
    night = live(tmp_path, 1, 40)
    assert sum(count for what, count in night.done.items() if what.endswith("exit 0")) > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 105))
def test_a_whole_night(tmp_path: Path, seed: int) -> None:
    live(tmp_path, seed, 200)
