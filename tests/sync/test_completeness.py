"""What is missing on a replica, what a job accepts, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.vms import make_disk, make_vm
from vreplica.points import Level, RecoveryPoint
from vreplica.sync.job import Job, Placement
from vreplica.sync.plan.completeness import completeness_problems, left_out, will_have_nvram
from vreplica.vsphere.model import Endpoint, NotCarried

END = Endpoint("vc", "u", "p", "00" * 32)
TPM = NotCarried("virtual TPM", "the replica has none, or an empty one: think", "vtpm")
DRIVE = NotCarried("CD-ROM drive (CD/DVD drive 1)", "the guest starts without it")
NVRAM = NotCarried("NVRAM", "variables", "nvram")


def job(*, place: dict[str, Any] | None = None, **more: Any) -> Job:
    return Job("j", END, "web01", END, Placement("ds", "r", **(place or {})), Path(), **more)


def problems(one: Job, vm: Any, replica: Any = None) -> list[str]:
    state = SimpleNamespace(vm=replica, latest=None) if replica is not None else None
    return list(completeness_problems(one, vm, state))  # type: ignore[arg-type]


def test_what_is_missing_is_no_problem_unless_the_job_says_so() -> None:
    vm = make_vm(not_carried=(TPM, DRIVE), disks=(make_disk(),))
    assert problems(job(), vm) == []
    (text,) = problems(job(require_complete=True), vm)
    assert "virtual TPM" in text
    assert "CD-ROM" in text
    assert problems(job(require_complete=True), make_vm(disks=(make_disk(),))) == []


def test_nvram_is_carried_where_it_can_be_read_or_was() -> None:
    on, off = (make_vm(power_state=power) for power in ("poweredOn", "poweredOff"))
    known = SimpleNamespace(latest=SimpleNamespace(nvram="ab"))
    unknown = SimpleNamespace(latest=SimpleNamespace(nvram=""))
    assert will_have_nvram(off, None)
    assert not will_have_nvram(on, None)
    assert not will_have_nvram(on, unknown)  # type: ignore[arg-type]
    assert will_have_nvram(on, known)  # type: ignore[arg-type]


def test_what_the_replica_has_by_now_is_not_missing() -> None:
    vm = make_vm(not_carried=(TPM, DRIVE, NVRAM))
    there = make_vm(not_carried=(NotCarried("CD-ROM drive", ""), NVRAM))
    assert left_out(job(), vm, there, has_nvram=False) == (TPM, NVRAM)
    assert left_out(job(), vm, there, has_nvram=True) == (TPM,)
    (found,) = left_out(
        job(place={"new_vtpm": True}), make_vm(not_carried=(TPM,)), None, has_nvram=True
    )
    assert "gets a new, empty one" in found.means


PLAIN, CRYPT = make_disk(), make_disk(encrypted=True)


@pytest.mark.parametrize(
    ("vm", "replica", "more", "refused"),
    [
        (make_vm(disks=(PLAIN,)), None, {}, False),
        (make_vm(encrypted=True, disks=(CRYPT,)), None, {}, True),
        (make_vm(encrypted=True, disks=(PLAIN,)), None, {}, True),
        # The home alone, for a virtual TPM: the disks are plain.
        (make_vm(encrypted=True, has_vtpm=True, disks=(PLAIN,)), None, {}, False),
        (make_vm(encrypted=True, has_vtpm=True, disks=(CRYPT,)), None, {}, True),
        (make_vm(encrypted=True, disks=(CRYPT,)), None, {"allow_plain_replica": True}, False),
        (make_vm(encrypted=True, disks=(CRYPT,)), None, {"place": {"storage_policy": "p"}}, False),
        # The policy counts at creation. A replica that is there shows what it is.
        (
            make_vm(encrypted=True, disks=(CRYPT,)),
            make_vm(),
            {"place": {"storage_policy": "p"}},
            True,
        ),
        (make_vm(encrypted=True, disks=(CRYPT,)), make_vm(encrypted=True), {}, False),
    ],
)
def test_an_encrypted_source_needs_a_word(vm: Any, replica: Any, more: Any, refused: bool) -> None:
    found = problems(job(**more), vm, replica)
    assert bool(found) == refused
    assert all("is encrypted" in text and "allow_plain_replica" in text for text in found)


def test_disks_that_no_replica_can_have_are_refused_until_they_are_left_out() -> None:
    large = make_disk(2001, sector_format="native_4k")
    broken = make_disk(2002, chain_issue="parentMissing")
    vm = make_vm(disks=(make_disk(), large, broken))
    sectors, chain = problems(job(), vm)
    assert "Hard disk 2 has sectors of 4,096 bytes" in sectors
    assert "parentMissing" in chain
    excluded = frozenset({"Hard disk 2", "Hard disk 3"})
    assert problems(job(exclude_disks=excluded), vm) == []


def test_a_point_keeps_what_was_missing_then() -> None:
    values = {"id": "p", "job": "j", "source_vm": "u", "source_name": "web01"}
    from datetime import UTC, datetime

    point = RecoveryPoint(
        **values, time=datetime.now(UTC), level=Level.CRASH, requested=Level.CRASH, disks=(),
        not_carried=("virtual TPM", "NVRAM"),
    )  # fmt: skip
    stored = point.to_extra_config()
    assert RecoveryPoint.from_extra_config(stored) == point
    assert point.to_dict()["not_carried"] == ["virtual TPM", "NVRAM"]
