"""Peak memory, measured in processes of their own: flat in capacity, under 256 MiB in all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT_KIB = 256 * 1024


def measured(*command: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_memory_is_the_same_for_4_gib_and_62_tib() -> None:
    small, large = (measured("benchmarks.memory", gib, 512) for gib in (4, 62 * 1024))
    over = [run["peak_kib"] - run["interpreter_kib"] for run in (small, large)]
    assert max(over) < LIMIT_KIB // 2
    assert abs(over[1] - over[0]) < 32 * 1024


def test_a_copy_of_vmdks_with_helper_processes_stays_under_the_limit(tmp_path: Path) -> None:
    from benchmarks import testdisk
    from vreplica.units import MIB
    from vreplica.vddk import DiskType, Library

    disk = testdisk.TestDisk(testdisk.Recipe(capacity=512 * MIB))
    source, target = tmp_path / "source.vmdk", tmp_path / "target.vmdk"
    testdisk.make(source, disk, "sparse")
    Library.load().create(target, 512 * MIB, DiskType.MONOLITHIC_SPARSE)
    run = measured(
        "benchmarks.ours", "full", source, target, "--map", tmp_path / "map", "--isolation"
    )
    assert run["shipped_bytes"] > 200 * MIB
    # Each of the two helpers counts the shared arena again: this is more than what is used.
    assert run["peak_kib"]["helpers"] > 0
    assert run["peak_kib"]["engine"] + run["peak_kib"]["helpers"] < LIMIT_KIB
