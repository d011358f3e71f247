"""Runs the engine and other programs side by side on the same disks:

    python -m benchmarks.peers [--rounds 5] [--only full-flat] [--json results.json]
                               [--plots docs/plots] [--docs docs/benchmarks.md]

Each round runs every contender of a work once, one after the other, so that a slow period of the
machine affects all in the same way. The table shows the median and the best time of whole
processes, and the ratio to the best peer of the same run. benchmarks/README.md describes the
method.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import plots
from benchmarks.peers.bench import Contender, Work
from benchmarks.peers.works import works

WARM_BYTES = 2 << 30


@dataclass
class Series:
    """The times of one contender in seconds, one value for each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)


def warm_memory() -> None:
    """Touches and frees memory, so that no run pays for memory that the hypervisor took back."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, WARM_BYTES, flags=flags).close()


def measure(contender: Contender, series: Series) -> None:
    contender.prepare()
    warm_memory()
    # As after an install: modules are compiled, and the command starts no OpenBLAS threads.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **contender.environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    cpu, started = _cpu_of_children(), perf_counter()
    done = subprocess.run(
        contender.command, check=False, env=environment, capture_output=True, text=True
    )
    wall = perf_counter() - started
    series.cpu.append(_cpu_of_children() - cpu)
    if done.returncode:
        raise SystemExit(f"{contender.name}: {done.stderr.strip()[-2000:]}")
    series.wall.append(wall)
    if done.stdout.startswith("{"):
        series.last = json.loads(done.stdout)
        series.engine.append(series.last["engine_s"])


def _cpu_of_children() -> float:
    """User and system seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_work(work: Work, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    series = {contender.name: Series() for contender in work.contenders}
    for number in range(rounds):
        for contender in work.contenders:
            measure(contender, series[contender.name])
            if number == 0:
                contender.check()
            wall = series[contender.name].wall[-1]
            say(f"{work.name} round {number + 1}/{rounds} {contender.name}: {wall:.3f} s")
    best = {
        durable: min(
            (
                median(series[c.name].wall)
                for c in work.contenders
                if c.role == "peer" and c.durable == durable
            ),
            default=None,
        )
        for durable in (False, True)
    }
    floors = [series[c.name].engine for c in work.contenders if c.role == "floor"]
    least = min((median(times) for times in floors if times), default=None)
    rows = []
    for contender in work.contenders:
        one = series[contender.name]
        middle, peer = median(one.wall), best[contender.durable]
        rows.append(
            {
                "name": contender.name,
                "role": contender.role,
                "median_s": middle,
                "best_s": min(one.wall),
                "engine_median_s": median(one.engine) if one.engine else None,
                "engine_best_s": min(one.engine) if one.engine else None,
                "durable": contender.durable,
                "ratio_to_best_peer": middle / peer if peer else None,
                "engine_to_c": median(one.engine) / least if one.engine and least else None,
                "written_to_changed": one.last["data_bytes"] / work.changed_bytes
                if work.changed_bytes and contender.role == "ours"
                else None,
                "cpu_median_s": median(one.cpu),
                "wall_s": one.wall,
                "cpu_s": one.cpu,
                "engine_s": one.engine,
                "last": one.last,
            }
        )
    return {"work": work.name, "what": work.what, "rounds": rounds, "rows": rows}


COLUMNS = (
    "contender",
    "durable",
    "median",
    "best",
    "cpu",
    "to best peer",
    "in process, median (best)",
)
MORE = ("in process to C", "written / changed")


def table(result: dict[str, Any]) -> str:
    """Renders the table in Markdown."""
    lines = [f"{result['what']}; median of {result['rounds']} rounds, seconds.", ""]
    lines += [f"| {' | '.join(COLUMNS + MORE)} |", "|---" * len(COLUMNS + MORE) + "|"]
    for row in result["rows"]:
        own = row["engine_median_s"]
        cells = [
            f"**{row['name']}**" if row["role"] == "ours" else row["name"],
            "yes" if row["durable"] else "no",
            *(f"{row[name]:.3f}" for name in ("median_s", "best_s")),
            f"{row['cpu_median_s']:.2f}",
            _ratio(row["ratio_to_best_peer"]),
            "" if own is None else f"{own:.3f} ({row['engine_best_s']:.3f})",
            _ratio(row["engine_to_c"]),
            _ratio(row["written_to_changed"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Run the engine and its peers side by side.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="name of a work; may be repeated")
    parser.add_argument("--capacity-gib", type=float, default=4.0)
    parser.add_argument("--dir", type=Path, help="folder for the disks (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--plots", type=Path, help="draw each work into this folder")
    parser.add_argument("--docs", type=Path, help="put each table into this page")
    options = parser.parse_args(arguments)
    if options.dir is not None:
        Path(options.dir).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="vreplica-bench-", dir=options.dir))
    results = []
    try:
        for work in works(folder, options.capacity_gib, options.only):
            result = run_work(work, options.rounds, lambda text: print(text, file=sys.stderr))
            results.append(result)
            print(f"\n{result['work']}: {table(result)}", flush=True)
            if options.plots is not None:
                plots.draw(options.plots, {result["work"]: plots.bars(result)})
            if options.docs is not None:
                plots.refresh(options.docs, result["work"], table(result))
            if options.json is not None:
                options.json.write_text(json.dumps(results, indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
