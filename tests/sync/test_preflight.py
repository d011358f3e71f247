"""Which disks of a source a run refuses, and what it advises."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.vms import make_disk
from vreplica.sync.plan.preflight import _disk_problems
from vreplica.vsphere.model import VmDisk

DISK = make_disk()


def problems(*disks: VmDisk, exclude: frozenset[str] = frozenset()) -> list[str]:
    vm: Any = SimpleNamespace(disks=disks, ref=SimpleNamespace(name="web01"))
    job: Any = SimpleNamespace(exclude_disks=exclude)
    return list(_disk_problems(job, vm))


@pytest.mark.parametrize("backing", ["flat", "sesparse", "sparse", "rdm-virtual"])
def test_a_disk_that_can_be_tracked_is_no_problem(backing: str) -> None:
    assert not problems(replace(DISK, backing=backing))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"mode": "nonpersistent"}, "set its mode to persistent"),
        ({"mode": "independent_persistent"}, "set its mode to persistent"),
        ({"backing": "rdm-physical"}, "physical-mode raw device mapping"),
        ({"backing": "raw"}, "its backing (raw) cannot be tracked"),
        ({"backing": "pmem"}, "its backing (pmem) cannot be tracked"),
        ({"sharing": "sharingMultiWriter"}, "multi-writer"),
        ({"shared_bus": "physicalSharing"}, "shares the bus"),
    ],
)
def test_a_disk_that_cannot_be_tracked_is_refused_until_it_is_left_out(
    more: dict[str, str], says: str
) -> None:
    other = replace(DISK, key=2001, label="Hard disk 2", **more)  # type: ignore[arg-type]
    (problem,) = problems(DISK, other)
    assert problem.startswith("Hard disk 2 cannot be replicated: ")
    assert says in problem
    assert "list 'Hard disk 2' in exclude_disks" in problem
    assert not problems(DISK, other, exclude=frozenset({"Hard disk 2"}))
