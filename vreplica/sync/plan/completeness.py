"""Compares what the source has with what its replica gets, beside the content of its disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vreplica.sync.job import Job
from vreplica.sync.replica.shape import is_content_encrypted, replicated_disks
from vreplica.sync.replica.state import ReplicaState
from vreplica.vsphere.model import NotCarried, VmDisk, VmInfo


def left_out(
    job: Job, source: VmInfo, replica: VmInfo | None, *, has_nvram: bool
) -> tuple[NotCarried, ...]:
    """What the replica does not have, and what that means for this job.

    has_nvram: the point has the source's NVRAM, or will have it.

    What somebody has added to the replica, or what an original had before a failback, is there.
    """
    there = {_kind(found) for found in replica.not_carried} if replica is not None else set()
    missing = (
        found
        for found in source.not_carried
        if (not has_nvram if found.key == "nvram" else _kind(found) not in there)
    )
    return tuple(_for_job(job, found) for found in missing)


def will_have_nvram(source: VmInfo, replica: ReplicaState | None) -> bool:
    """True where the next point has the source's NVRAM: hosts lock that of a running VM."""
    known = replica is not None and replica.latest is not None and replica.latest.nvram
    return bool(known) or source.power_state == "poweredOff"


def _kind(found: NotCarried) -> str:
    return found.what.partition(" (")[0]


def _for_job(job: Job, found: NotCarried) -> NotCarried:
    if found.key == "vtpm" and job.placement.new_vtpm:
        means = found.means.replace("has none, or an empty one", "gets a new, empty one")
        return replace(found, means=means)
    return found


def completeness_problems(job: Job, source: VmInfo, replica: ReplicaState | None) -> Iterator[str]:
    """What keeps the run from starting."""
    has_nvram = will_have_nvram(source, replica)
    missing = left_out(job, source, replica.vm if replica else None, has_nvram=has_nvram)
    if job.require_complete and missing:
        yield (
            f"require_complete is set, and a replica of {source.ref.name} does not get: "
            f"{'; '.join(map(str, missing))}. Remove these from {source.ref.name}, or accept that "
            "and drop require_complete"
        )
    disks = replicated_disks(job, source)
    yield from _encryption_problems(job, source, disks, replica)
    for disk in disks:
        if disk.is_4kn:
            yield (
                f"{disk.label} has sectors of 4,096 bytes (4Kn), and its replica would have 512, "
                "with which its guest does not find its partitions: list "
                f"{disk.label!r} in exclude_disks"
            )
        if disk.chain_issue:
            yield (
                f"{disk.label}: vCenter says that its chain of files is broken "
                f"({disk.chain_issue}): repair it before the next run"
            )


def _encryption_problems(
    job: Job, source: VmInfo, disks: tuple[VmDisk, ...], replica: ReplicaState | None
) -> Iterator[str]:
    if job.allow_plain_replica or not is_content_encrypted(source, disks):
        return
    name = source.ref.name
    if replica is not None and not replica.vm.encrypted:
        yield (
            f"{name} is encrypted and replica {replica.vm.ref.name} is not: encrypt that VM in "
            "vCenter, or accept a plain replica (allow_plain_replica = true)"
        )
    elif replica is None and job.placement.storage_policy is None:
        yield (
            f"{name} is encrypted, and its replica would hold the same content in plain: name the "
            "id of an encrypting policy in destination.storage_policy, or accept a plain replica "
            "(allow_plain_replica = true)"
        )
