"""Checks which folder of the native library includes which, and that includes form no circle."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "native" / "src"
# A folder may include its own files and these.
BELOW = {
    "os": set(),
    "formats": {"os"},
    "chain": {"formats", "os"},
    "lab": {"chain", "formats", "os"},
    "net": {"os"},
    "vim": {"net", "os"},
    "nfc": {"vim", "net", "os"},  # of vim the ticket alone: see below
    "api": {"nfc", "vim", "net", "lab", "chain", "formats", "os"},
}
INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
FILES = sorted(SOURCE.rglob("*.[ch]"))


def included(path: Path) -> set[Path]:
    names = INCLUDE.findall(path.read_text("utf-8"))
    return {Path(name) for name in names if name != "vixDiskLib.h"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_includes_only_its_folder_and_the_ones_below(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0]
    assert {name.parts[0] for name in included(path)} <= BELOW[own] | {own}


def test_disks_at_hosts_know_tickets_and_not_where_they_come_from() -> None:
    files = (SOURCE / "nfc").iterdir()
    needed = {name for file in files for name in included(file) if name.parts[0] == "vim"}
    assert needed == {Path("vim/ticket.h")}


def test_no_two_files_need_each_other() -> None:
    needs: dict[Path, set[Path]] = {}
    for path in FILES:
        unit = path.relative_to(SOURCE).with_suffix("")  # x.c and x.h are one
        needs.setdefault(unit, set()).update(
            name.with_suffix("") for name in included(path) if name.with_suffix("") != unit
        )
    TopologicalSorter(needs).prepare()  # raises CycleError with the files of a circle
