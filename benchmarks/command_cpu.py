"""Measures the processor time of whole commands: user and system seconds, start included.

    python -m benchmarks.command_cpu [--rounds N] [--json FILE]

The commands run against a lab with one VM and one recovery point. The lab is a process of its
own, so the time of the sites is not counted. Python's modules are compiled before, as after an
install. A round runs every command once; the table has the best and the median of all rounds.
Other work on the same processors makes these times longer, too: the first row, the interpreter
alone, says by how much (12 ms on the machine of the limits).
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import vreplica.lab
from vreplica.cli.commands.demo.vm import VM_NAME

PROGRAM: Final = str(Path(sys.executable).with_name("vreplica-sync"))

INTERPRETER: Final = "python -c pass"
LIMITS_S: Final = {
    "--help": 0.12,
    "points web01": 0.6,
    "points web01 --json": 0.6,
    "status": 0.6,
    "status --json": 0.6,
    "plan web01": 0.6,
    "check web01": None,
    "history": None,
    "failover list web01": None,
    "failover web01 --dry-run": None,
}
"""The commands, each with the most that it may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    compileall.compile_dir(str(Path(vreplica.__file__).parent), quiet=1)
    with lab() as folder:
        taken: dict[str, list[float]] = {words: [] for words in (INTERPRETER, *LIMITS_S)}
        for _ in range(options.rounds):
            for words in taken:
                taken[words].append(cpu_s(command(folder, words)))
    print(f"{'command':28} {'best':>7} {'median':>7} {'limit':>7}")
    for words, times in taken.items():
        limit = LIMITS_S.get(words)
        print(f"{words:28} {min(times):7.3f} {median(times):7.3f} {limit or '':>7}")
    if options.json is not None:
        options.json.write_text(json.dumps(taken, indent=2) + "\n")


@contextmanager
def lab() -> Iterator[Path]:
    """A lab with the VM web01, its first recovery point, and a schedule for `status`."""
    with tempfile.TemporaryDirectory(prefix="vreplica-cpu-") as name:
        folder = Path(name)
        run([PROGRAM, "lab", "up", "--dir", name])
        try:
            vreplica.lab.LabControl(folder).create_vm(
                "site-a", VM_NAME, disks=[(4 << 20, True, None)], power_on=True
            )
            jobs = folder / "jobs.toml"
            text = jobs.read_text()
            jobs.write_text(
                text.replace("[jobs.web01]", '[jobs.web01]\nschedule = { every = "4h" }')
            )
            run([PROGRAM, "run", "-q", "-c", str(jobs)])
            yield folder
        finally:
            vreplica.lab.down(folder)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def command(folder: Path, words: str) -> list[str]:
    if words == INTERPRETER:
        return [sys.executable, "-c", "pass"]
    job_file = [] if words == "--help" else ["-c", str(folder / "jobs.toml")]
    return [PROGRAM, *words.split(), *job_file]


def cpu_s(command: list[str]) -> float:
    """User and system seconds of one command. Its exit code is not looked at."""
    with Path(os.devnull).open("w") as nothing:
        process = subprocess.Popen(command, stdout=nothing, stderr=nothing)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
