"""`vreplica-sync demo`: its numbers add up, an independent reader agrees, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.results import check_document
from vreplica.cli.commands.demo import content
from vreplica.extents import Extents
from vreplica.lab import LabControl, down, up
from vreplica.units import BLOCK

COMMAND = [sys.executable, "-c", "from vreplica.cli import main; main()", "demo"]
CAPACITIES = [content.SYSTEM_CAPACITY, content.DATA_CAPACITY]
NAMES = [content.SYSTEM, content.DATA]


@dataclass(frozen=True)
class Demo:
    folder: Path
    report: dict[str, Any]
    stderr: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """One run with --json and --keep."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = subprocess.run(
        [*COMMAND, "--json", "--keep", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    check_document(report)
    return Demo(folder, report, done.stderr)


def blocks_of(writes: list[content.Write]) -> dict[str, int]:
    """Bytes of the whole blocks that these writes touch, by disk."""
    found = {}
    for name, capacity in zip(NAMES, CAPACITIES, strict=True):
        ends = [(w.offset, w.offset + len(w.data)) for w in writes if w.disk == name]
        found[name] = Extents.from_pairs(ends).align(BLOCK, capacity).total
    return found


def test_the_full_run_ships_what_is_allocated_and_no_more(demo: Demo) -> None:
    disks = demo.report["runs"][0]["disks"]
    expected = blocks_of(list(content.before()))
    assert [d["mode"] for d in disks] == ["full", "full"]
    assert [d["capacity_bytes"] for d in disks] == CAPACITIES
    for disk, name in zip(disks, NAMES, strict=True):
        assert disk["allocated_bytes"] == disk["looked_at_bytes"] == disk["read_bytes"]
        not_written = disk["redundant_bytes"] + disk["zero_already_bytes"]
        assert disk["written_bytes"] + not_written == disk["looked_at_bytes"]
        assert disk["written_bytes"] == expected[name]


def test_the_delta_reads_what_changed_and_ships_what_differs(demo: Demo) -> None:
    disks = demo.report["runs"][1]["disks"]
    writes = list(content.changes())
    expected = blocks_of(writes)
    assert [d["mode"] for d in disks] == ["delta", "delta"]
    for disk, name in zip(disks, NAMES, strict=True):
        again = [w for w in writes if w.disk == name and "unchanged" in w.what]
        assert disk["looked_at_bytes"] == disk["read_bytes"] == expected[name]
        assert disk["redundant_bytes"] == blocks_of(again)[name]
        assert disk["written_bytes"] == disk["looked_at_bytes"] - disk["redundant_bytes"]


def test_what_the_guest_wrote_is_counted(demo: Demo) -> None:
    wrote: dict[str, int] = {}
    for write in content.changes():
        wrote[write.what] = wrote.get(write.what, 0) + len(write.data)
    assert demo.report["guest_wrote"] == wrote


def test_both_runs_made_a_point_and_the_newest_was_verified_whole(demo: Demo) -> None:
    report = demo.report
    made = [run["point"]["id"] for run in report["runs"]]
    assert [point["id"] for point in report["points"]] == made
    assert [run["points"] for run in report["runs"]] == [1, 2]
    assert report["verified"]["point"]["id"] == made[-1]
    assert report["equal"] is True
    for disk, capacity in zip(report["verified"]["disks"], CAPACITIES, strict=True):
        assert disk["compared_bytes"] == capacity
        assert disk["different_bytes"] == disk["changed_since_bytes"] == 0
        assert disk["source_root"] == disk["replica_root"]


def test_qemu_img_finds_both_sides_equal(demo: Demo, tool: Callable[[str, str], str]) -> None:
    qemu_img = tool("qemu-img", "qemu-utils")
    up(demo.folder)
    try:
        control = LabControl(demo.folder)
        control.power("site-a", "web01", on=False)
        sides = [
            control.describe_vm(*vm) for vm in (("site-a", "web01"), ("site-b", "web01-replica"))
        ]
    finally:
        assert down(demo.folder)
    assert len(sides[1]["snapshots"]) == 2
    for source, replica in zip(sides[0]["disks"], sides[1]["disks"], strict=True):
        compared = subprocess.run(
            [qemu_img, "compare", "-f", "vmdk", "-F", "vmdk", source["file"], replica["file"]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert compared.returncode == 0, compared.stdout + compared.stderr


def test_it_says_on_stderr_what_it_does_and_how_to_go_on(demo: Demo) -> None:
    assert "First run: " in demo.stderr
    assert "Second run: " in demo.stderr
    assert f"vreplica-sync lab up --dir {demo.folder}" in demo.stderr


def test_people_get_a_table_and_nothing_is_left_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "-q"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("run "))
    assert head.split() == [
        "run",
        "disk",
        "capacity",
        "allocated",
        "looked",
        "at",
        "read",
        "written",
        "time",
    ]
    assert [line.split()[0] for line in lines if line.startswith(("full ", "delta "))] == [
        "full", "full", "delta", "delta",
    ]  # fmt: skip
    assert any(line.endswith(": equal") for line in lines)
    assert any("2 recovery points" in line for line in lines)
    # A digest alone has 64 columns.
    assert max(map(len, lines)) <= 120
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_takes_the_lab_down_and_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("First run"):
            assert process.poll() is None
        (folder,) = tmp_path.iterdir()
        lab = int((folder / "lab.pid").read_text())
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "cancelling: the lab is taken down" in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(lab, 0)


def test_kill_leaves_no_lab_and_no_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("Making web01"):
            assert process.poll() is None
        (folder,) = tmp_path.iterdir()
        lab = int((folder / "lab.pid").read_text())
        process.kill()
    end = time.monotonic() + 60
    while Path(f"/proc/{lab}").exists() or folder.exists():
        assert time.monotonic() < end, "the lab outlived the demo"
        time.sleep(0.1)
