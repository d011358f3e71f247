"""Opens disks with VDDK, or with the native library that has its ABI."""

from __future__ import annotations

import os

from vreplica.disk import Disk
from vreplica.sync.job import Job
from vreplica.sync.transport.opening import Opening
from vreplica.vddk.config import VddkConnection, bundled_libdir, locate
from vreplica.vddk.errors import LibraryProblem
from vreplica.vddk.open import open_vddk_disk
from vreplica.vddk.tls import tls_problem
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session


def open_disk(opening: Opening) -> Disk:
    # `on_reopen` is not needed: vreplica.vddk never opens a writer's disk again.
    connection = vddk_connection(
        opening.session, opening.vm, opening.snapshot, read_only=opening.read_only
    )
    return open_vddk_disk(
        opening.job.vddk, connection, opening.disk.path, read_only=opening.read_only
    )


def library_problem(job: Job) -> str | None:
    try:
        library = locate(job.vddk).path
    except LibraryProblem as error:
        return f"{error.message}. {error.advice()}"
    file = job.vddk.config_file
    if file is not None and not os.access(file, os.R_OK):
        return f"VDDK's configuration {file} cannot be read: name a readable file, or none"
    bundled = bundled_libdir()
    # VMware's brings its own OpenSSL.
    return tls_problem(library) if bundled and library.is_relative_to(bundled) else None


def host_problem(opening: Opening) -> str | None:
    """None: VDDK connects to the host by itself, and says nothing of it before it opens a disk."""
    return None


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
