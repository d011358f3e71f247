"""Opens a job's disks over VDDK or NFC: source snapshot, replica leaf, recovery point."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.nfc.open import check_host_access, open_nfc_disk
from vreplica.sync.job import Job, Transport
from vreplica.vddk.config import ENV_LIBDIR, VddkConnection, locate
from vreplica.vddk.errors import LibraryProblem
from vreplica.vddk.open import open_vddk_disk
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
    return _open(
        job, session, vm, disk, snapshot=snapshot, read_only=True, first_of_two=first_of_two
    )


def open_leaf(job: Job, session: Session, vm: VmRef, disk: VmDisk) -> Disk:
    """The current disk of a powered-off VM, for writing."""
    return _open(job, session, vm, disk, snapshot=None, read_only=False)


def open_current(job: Job, session: Session, vm: VmRef, disk: VmDisk) -> Disk:
    """The current disk of a powered-off VM, read-only."""
    return _open(job, session, vm, disk, snapshot=None, read_only=True)


def library_problem(job: Job) -> str | None:
    """The reason why VDDK cannot be loaded, as far as its files show. None: nothing found."""
    if choose_transport(job)[0] is not Transport.VDDK:
        return None
    try:
        locate(job.vddk)
    except LibraryProblem as error:
        return f"{error.message}. {error.advice()}"
    file = job.vddk.config_file
    if file is not None and not os.access(file, os.R_OK):
        return f"VDDK's configuration {file} cannot be read: name a readable file, or none"
    return None


def transport_problem(
    job: Job, session: Session, vm: VmRef, disk: VmDisk, *, read_only: bool
) -> str | None:
    """The reason why a disk's host cannot serve it over NFC: port, certificate, ticket.

    None: nothing found. VDDK connects by itself, and says nothing before it opens a disk.
    """
    if choose_transport(job)[0] is not Transport.NFC:
        return None
    try:
        check_host_access(
            _logged_in(session),
            path=disk.path,
            vm=vm.moref,
            disk_key=disk.key,
            read_only=read_only,
            config=job.nfc,
        )
    except VReplicaError as error:
        return f"{vm.name}: {error.message}. {error.advice()}"
    return None


def _logged_in(session: Session) -> Callable[[], Any]:
    def now() -> Any:
        # A copy makes no calls, and vCenter ends a session after half an hour without one.
        session.refresh()
        return session.service_instance

    return now


def _open(
    job: Job,
    session: Session,
    vm: VmRef,
    disk: VmDisk,
    *,
    snapshot: str | None,
    read_only: bool,
    first_of_two: bool = False,
) -> Disk:
    transport, _ = choose_transport(job)
    if transport is Transport.NFC:
        return open_nfc_disk(
            _logged_in(session),
            path=disk.path,
            vm=vm.moref,
            disk_key=disk.key,
            read_only=read_only,
            first_of_two=first_of_two,
            config=job.nfc,
        )
    connection = vddk_connection(session, vm, snapshot, read_only=read_only)
    return open_vddk_disk(job.vddk, connection, disk.path, read_only=read_only)


def vddk_connection(
    session: Session, vm: VmRef, snapshot: str | None, *, read_only: bool
) -> VddkConnection:
    """The login of VDDK for a VM: as the session logged in."""
    endpoint = session.endpoint
    return VddkConnection(
        server=endpoint.host,
        port=endpoint.port,
        user=endpoint.user,
        password=endpoint.password,
        thumbprint_sha1=session.thumbprint_sha1,
        vmx_spec=f"moref={vm.moref}",
        snapshot_ref=snapshot,
        read_only=read_only,
    )
