"""Peak memory, measured in processes of their own: flat in capacity, under 256 MiB in all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vreplica.units import MIB
from vreplica.vddk.abi import DiskType
from vreplica.vddk.library import Library

ROOT = Path(__file__).parents[2]
LIMIT_KIB = 256 * 1024


def program(*command: object) -> str:
    """Run `python -m ...` at the root of the project; its output."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def measured(*command: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(program(*command))
    return result


def test_memory_is_the_same_for_4_gib_and_62_tib() -> None:
    small, large = (measured("benchmarks.memory", gib, 512) for gib in (4, 62 * 1024))
    over = [run["peak_kib"] - run["interpreter_kib"] for run in (small, large)]
    assert max(over) < LIMIT_KIB // 2
    assert abs(over[1] - over[0]) < 32 * 1024


def test_a_copy_of_vmdks_with_helper_processes_stays_under_the_limit(tmp_path: Path) -> None:
    source, target = tmp_path / "source.vmdk", tmp_path / "target.vmdk"
    program("benchmarks.disks.generated", source, "--form", "sparse", "--capacity-gib", 0.5)
    Library.load().create(target, 512 * MIB, DiskType.MONOLITHIC_SPARSE)
    run = measured(
        "benchmarks.peers.ours", "full", source, target, "--map", tmp_path / "map", "--isolation"
    )
    assert run["data_bytes"] > 200 * MIB
    # Each of the two helpers counts the shared arena again: this is more than what is used.
    assert run["peak_kib"]["helpers"] > 0
    assert run["peak_kib"]["engine"] + run["peak_kib"]["helpers"] < LIMIT_KIB
