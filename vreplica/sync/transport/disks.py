"""Chooses a job's transport and opens its disks: source snapshot, replica leaf, recovery point."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import cast

from vreplica.disk import Disk
from vreplica.sync.job import Job, Transport
from vreplica.sync.transport.opening import DiskTransport, Opening
from vreplica.vddk.config import ENV_LIBDIR
from vreplica.vsphere.model import VmDisk, VmRef
from vreplica.vsphere.session import Session


def choose_transport(job: Job) -> tuple[Transport, str]:
    """The transport that the job's disks are opened over, with the reason. Never AUTO."""
    if job.transport is not Transport.AUTO:
        return job.transport, "the job says so"
    if job.vddk.libdir is not None:
        return Transport.VDDK, f"the job names VDDK in {job.vddk.libdir}"
    if os.environ.get(ENV_LIBDIR):
        return Transport.VDDK, f"{ENV_LIBDIR} names VDDK in {os.environ[ENV_LIBDIR]}"
    if job.vddk.config_file is not None:
        return Transport.VDDK, f"the job configures VDDK by {job.vddk.config_file}"
    return Transport.NFC, "no VDDK is named; NFC needs none"


def open_snapshot_disk(
    job: Job,
    session: Session,
    vm: VmRef,
    snapshot: str,
    disk: VmDisk,
    *,
    first_of_two: bool = False,
) -> Disk:
    """A disk as a snapshot froze it, read-only. `disk` comes from the snapshot's own config.

    `first_of_two`: another one will be opened while this one is.
    """
    opening = Opening(
        job, session, vm, disk, snapshot=snapshot, read_only=True, first_of_two=first_of_two
    )
    return _transport(job).open_disk(opening)


def open_leaf(
    job: Job,
    session: Session,
    vm: VmRef,
    disk: VmDisk,
    *,
    on_reopen: Callable[[], object] | None = None,
) -> Disk:
    """The current disk of a powered-off VM, for writing.

    `on_reopen`: called after the disk was opened again, where its connection was lost, and before
    anything more is written to it. It may raise.
    """
    return _transport(job).open_disk(
        Opening(job, session, vm, disk, snapshot=None, read_only=False, on_reopen=on_reopen)
    )


def open_current(job: Job, session: Session, vm: VmRef, disk: VmDisk) -> Disk:
    """The current disk of a powered-off VM, read-only."""
    return _transport(job).open_disk(Opening(job, session, vm, disk, snapshot=None, read_only=True))


def library_problem(job: Job) -> str | None:
    """What keeps the transport's library from being loaded. None: nothing found."""
    return _transport(job).library_problem(job)


def transport_problem(
    job: Job, session: Session, vm: VmRef, disk: VmDisk, *, read_only: bool
) -> str | None:
    """What keeps a disk's host from serving it. None: nothing found."""
    opening = Opening(job, session, vm, disk, snapshot=None, read_only=read_only)
    return _transport(job).host_problem(opening)


def _transport(job: Job) -> DiskTransport:
    """The module with the transport's name. A job of one transport does not load the other."""
    name = choose_transport(job)[0].value
    return cast(DiskTransport, import_module(f"vreplica.sync.transport.{name}"))
