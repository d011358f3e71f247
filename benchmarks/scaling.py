"""Measures memory and time of a delta over capacity, and time of a delta over change.

    python -m benchmarks.scaling [--json scaling.json] [--plots DIR] [--docs PAGE]

Runs `benchmarks.memory` three times for each figure and takes the best: 64 MiB changed on disks of
4 GiB to 62 TiB, then 16 to 256 MiB changed on a disk of 62 TiB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import plots

CAPACITIES_GIB = (4, 100, 1024, 16 * 1024, 62 * 1024)
CHANGES_MIB = (16, 32, 64, 128, 256)


def measure(capacity_gib: int, changed_mib: int, rounds: int = 3) -> dict[str, Any]:
    # `memory` changes a sixteenth of its data.
    command = [sys.executable, "-m", "benchmarks.memory", str(capacity_gib), str(changed_mib * 16)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return {
        "capacity_gib": capacity_gib,
        "changed_mib": changed_mib,
        "delta_s": min(run["seconds"]["delta"] for run in runs),
        "peak_mib": max(run["peak_kib"] - run["interpreter_kib"] for run in runs) / 1024,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Renders the table in Markdown."""
    lines = ["| capacity, GiB | changed, MiB | delta, s | memory over Python, MiB |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {row['capacity_gib']} | {row['changed_mib']} "
        f"| {row['delta_s']:.3f} | {row['peak_mib']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how the engine scales.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="draw into this folder")
    parser.add_argument("--docs", type=Path, help="put the tables into this page")
    options = parser.parse_args()
    result = {
        "capacity": [measure(capacity, 64) for capacity in CAPACITIES_GIB],
        "change": [measure(CAPACITIES_GIB[-1], changed) for changed in CHANGES_MIB],
    }
    for name, rows in result.items():
        print(f"\n{name}\n\n{table(rows)}")
        if options.docs is not None:
            plots.refresh(options.docs, name, table(rows))
    if options.plots is not None:
        plots.draw(options.plots, plots.of_scaling(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
