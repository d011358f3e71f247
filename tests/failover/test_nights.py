"""Nights of random steps: an operator's commands, others, and bad luck, before a witness.

Whatever happens: never both VMs on by our doing, never the only running copy stopped for one that
cannot run, nothing written in service lost, no point older than the newest booted unasked
(tests/support/night.py). What a night has found is a test of its own in test_night_finds.py.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.support.night import on_the_night
from tests.support.night_steps import RandomNight
from tests.support.sync_model import UNIT

STEPS = 200
LEARNED = ("failover exit 0", "undo exit 0", "commit exit 0", "failback exit 0", "run exit 0")
"""Steps that must have gone well at least once in a few nights: else the nights show nothing."""


def live(seed: int, steps: int = STEPS) -> Counter[str]:
    with tempfile.TemporaryDirectory(dir=UNIT if UNIT.is_dir() else None) as folder:
        night = RandomNight(Path(folder), seed)
        with on_the_night(night):
            night.type_("run")
            try:
                night.live(steps)
            except AssertionError as error:
                story = "\n".join(str(step)[:300] for step in night.log[-30:])
                raise AssertionError(f"night {seed}: {error}\n{story}") from error
    return night.done


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_five_nights(first: int) -> None:
    done: Counter[str] = Counter()
    for seed in range(first, first + 5):
        done += live(seed)
    assert done.total() == 5 * STEPS
    assert all(done[kind] for kind in LEARNED), done


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 150))
def test_fifty_other_nights(seed: int) -> None:
    live(seed)
