"""docs/recordings: made again by the real commands, on a lab, and compared with what is there.

VREPLICA_REWRITE_RECORDINGS=1 writes them anew.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.recording import Recorder, canonical
from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

FOLDER = Path(__file__).parents[2] / "docs/recordings"
REWRITE = bool(os.environ.get("VREPLICA_REWRITE_RECORDINGS"))
NAME = ("Type web01", "web01")
"""The question for the VM's name, and the answer."""


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Recorder]:
    """A lab in `lab` of a folder, with web01, which has two points."""
    with Lab.create(tmp_path / "lab") as lab:
        control = LabControl(lab.directory)
        control.create_vm(
            "site-a",
            "web01",
            disks=[(8 * MIB, True, None)],
            guest_id="debian12_64Guest",
            power_on=True,
        )
        recorder = Recorder(tmp_path, "lab/jobs.toml")
        recorder.prepare("run web01 -q")
        control.guest_write("site-a", "web01", 2000, 2 * MIB, b"order 1".ljust(512, b"\0"))
        recorder.prepare("run web01 -q")
        yield recorder


def planned(at: Recorder) -> None:
    at.command("failover web01", ("How shall", "1"))
    at.command("status --live")
    at.command("commit web01", NAME)


def emergency(at: Recorder) -> None:
    at.say("web01 runs, and its site answers.")
    at.command("failover web01", ("How shall", "2"), NAME)
    at.command("status --live")


def site_lost(at: Recorder) -> None:
    at.say("site-a does not answer any more.")
    LabControl(at.folder / "lab").cut_off("site-a")
    at.command("status --live")
    at.command("failover web01", ("How shall", "3"), NAME)
    at.command("undo web01", code=3)
    at.command("commit web01", NAME)


def guest_hangs(at: Recorder) -> None:
    control = LabControl(at.folder / "lab")
    control.set_guest("site-a", "web01", shutdown="hangs")
    at.command("failover web01 --shutdown-timeout 5s", ("How shall", "1"), code=9)
    at.command("status --live")
    at.say("Half an hour later its guest is down after all.")
    control.power("site-a", "web01", on=False)
    at.command("failover resume web01")


def undo(at: Recorder) -> None:
    at.prepare("failover web01 --final-sync yes")
    LabControl(at.folder / "lab").guest_write(
        "site-b", "web01-replica", 2000, 3 * MIB, b"order 2".ljust(64 * 1024, b"\0")
    )
    at.say("web01 was failed over to site-b, and users work there. Now it is to go back.")
    at.command("undo web01", NAME)
    at.command("points web01")


def adopt(at: Recorder) -> None:
    at.prepare("failover web01 --final-sync yes")
    at.say("web01 was failed over to site-b, and then the mover was lost.")
    at.say("This is another machine, with the job file and nothing else.")
    shutil.rmtree(at.folder / "lab/state")
    at.command("status --live")
    at.command("failover adopt web01", NAME)
    at.command("commit web01", NAME)


def failback(at: Recorder) -> None:
    at.prepare("failover web01 --final-sync yes --commit")
    LabControl(at.folder / "lab").guest_write(
        "site-b", "web01-replica", 2000, 3 * MIB, b"order 2".ljust(64 * 1024, b"\0")
    )
    at.say("web01 works at site-b since a failover that was committed. Now it is to go home.")
    at.command("failback web01", ("How shall", "1"))
    at.command("commit web01", NAME)
    at.command("run web01")


def made_again(at: Recorder, story: Callable[[Recorder], None]) -> None:
    story(at)
    file = FOLDER / f"{story.__name__.replace('_', '-')}.txt"
    if REWRITE:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(at.text)
    assert canonical(at.text) == canonical(file.read_text()), (
        f"{file.name} is not what is shown now: VREPLICA_REWRITE_RECORDINGS=1 makes it anew"
    )


def test_the_planned_failover_is_as_recorded(at: Recorder) -> None:
    made_again(at, planned)


STORIES = [emergency, site_lost, guest_hangs, undo, adopt, failback]


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_others_are_as_recorded(at: Recorder, story: Callable[[Recorder], None]) -> None:
    made_again(at, story)


def test_the_page_has_them_all() -> None:
    page = (FOLDER.parent / "failover.md").read_text()
    linked = set(re.findall(r"\(recordings/([a-z-]+)\.txt\)", page))
    assert linked == {file.stem for file in FOLDER.glob("*.txt")}
    assert linked == {s.__name__.replace("_", "-") for s in (planned, *STORIES)}
