"""What a replica does not get is said everywhere; encrypted sources, 4Kn disks, older hosts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vreplica.failover.preview import preview
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.recovery_points import points
from vreplica.units import MIB
from vreplica.vsphere.errors import ReplicaNotAsAsked

Content = Callable[..., Path]


def kinds(found: Any) -> set[str]:
    return {str(f).partition(":")[0].partition(" (")[0] for f in found}


@contextmanager
def settings(world: Any, site: int, **values: Any) -> Iterator[None]:
    name = world.sites[site]["name"]
    before = world.control.settings(name)
    world.control.settings(name, **values)
    try:
        yield
    finally:
        world.control.settings(name, **{k: before[k] for k in values})


def test_devices_are_missed_in_every_place(world: Any, content: Content) -> None:
    with settings(world, 0, key_provider="kms"):
        vm = world.make_vm(
            content(4 * MIB),
            firmware="efi",
            devices=["tpm", "pci", "usb", "cdrom", "serial"],
        )
        job = world.job(vm)
        missing = {"virtual TPM", "PCI device", "USB device", "CD-ROM drive", "serial port"}
        planned = plan(job)
        assert not planned.problems
        assert missing <= kinds(planned.not_carried)
        notes = [f.text for f in check_readiness(job).findings if f.kind.value == "note"]
        assert any("does not get the virtual TPM" in n and "BitLocker" in n for n in notes)
        with pytest.raises(PreflightFailed) as refused:
            run(replace(job, require_complete=True))
        assert any("virtual TPM" in p for p in refused.value.problems)
        report = run(job)
        assert missing <= kinds(report.point.not_carried)
        assert points(job)[-1].not_carried == report.point.not_carried
        said = " ".join(preview(job).remarks)
        assert "BitLocker" in said
        gone = " ".join(preview(job, source_lost=True).remarks)
        assert all(what in gone for what in missing)
    assert not plan(world.job(world.make_vm(content(4 * MIB)))).not_carried


def test_a_new_tpm_is_made_only_where_the_job_asks_for_it(world: Any, content: Content) -> None:
    with settings(world, 0, key_provider="kms"), settings(world, 1, key_provider="kms"):
        vm = world.make_vm(content(4 * MIB), firmware="efi", devices=["tpm"])
        job = world.job(vm)
        job = replace(job, placement=replace(job.placement, new_vtpm=True))
        run(job)
        with world.connect(1) as session:
            made = session.read_vm(session.find_vm(job.placement.name))
        assert made.has_vtpm
        assert run(job).disks[0].mode.value == "delta"


def test_an_encrypted_source_needs_a_policy_or_a_word(world: Any, content: Content) -> None:
    with (
        settings(world, 0, key_provider="kms"),
        settings(world, 1, key_provider="kms", encryption_policy="policy-1"),
    ):
        vm = world.make_vm(content(4 * MIB), encrypted=True)
        job = world.job(vm)
        with pytest.raises(PreflightFailed) as refused:
            run(job)
        assert any("allow_plain_replica" in p for p in refused.value.problems)
        wrong = replace(job, placement=replace(job.placement, storage_policy="policy-2"))
        with pytest.raises(ReplicaNotAsAsked, match="is not encrypted by policy policy-2"):
            run(wrong)
        assert job.placement.name not in world.vm_names(1)
        right = replace(job, placement=replace(job.placement, storage_policy="policy-1"))
        run(right)
        assert run(right).disks[0].mode.value == "delta"
        plain = world.job(world.make_vm(content(4 * MIB), encrypted=True), allow_plain_replica=True)
        run(plain)
        # The word is needed at every run.
        with pytest.raises(PreflightFailed):
            run(replace(plain, allow_plain_replica=False))


def test_an_encrypted_source_needs_the_right_to_read_it(world: Any, content: Content) -> None:
    with settings(world, 0, key_provider="kms"):
        vm = world.make_vm(content(4 * MIB), encrypted=True)
        world.control.set_user(
            world.here, "blind", "blind", ["VirtualMachine.State.CreateSnapshot"]
        )
        blind = replace(world.endpoint(0), user="blind", password="blind")
        report = check_readiness(world.job(vm, source=blind, allow_plain_replica=True))
        assert any("Cryptographer.Access" in f.text for f in report.problems)


def test_hardware_and_guests_that_the_host_lacks_are_said_before_the_copy(
    world: Any, content: Content
) -> None:
    vm = world.make_vm(content(4 * MIB), guest_id="rhel9_64Guest")
    site = world.sites[1]["name"]
    for lacks, said in (
        ({"newest_hardware": "vmx-17"}, r"supports virtual hardware up to vmx-17, and .* vmx-21"),
        ({"missing_guests": ["rhel9_64Guest"]}, "does not support the guest type rhel9_64Guest"),
    ):
        world.control.set_host(site, **lacks)
        try:
            found = plan(world.job(vm)).problems
        finally:
            world.control.set_host(site, newest_hardware="vmx-21", missing_guests=[])
        assert any(re.search(said, problem) for problem in found), found
    assert not plan(world.job(vm)).problems


def test_4kn_disks_and_broken_chains_are_refused_before_the_copy(
    world: Any, content: Content
) -> None:
    with settings(world, 0, api_version="9.1.0.0"):
        vm = world.make_vm(content(4 * MIB), sector_bytes=4096)
        job = world.job(vm)
        with pytest.raises(PreflightFailed) as refused:
            run(job)
        assert any("4,096 bytes (4Kn)" in p for p in refused.value.problems)
        assert job.placement.name not in world.vm_names(1)
        broken = world.make_vm(content(4 * MIB))
        world.control.set_device(world.here, broken, 2000, diskChainBrokenIssue="parentMissing")
        assert any("parentMissing" in p for p in plan(world.job(broken)).problems)
