"""Disables Storage vMotion of the source while VDDK reads its files.

    PrepareForAccess      vCenter disables RelocateVM for the VM
      snapshot, copies, snapshot off
    EndAccess             with the same identity, also after a crash: else the VM stays locked

`<job>/held` names the VM that is locked, from before the first call to after the second. So the
next run after a kill unlocks it. Only VMware's own library can ask this of a vCenter, and an ESXi
host knows no Storage vMotion (VDDK 8.0 Programming Guide).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vreplica.disk_errors import DiskBusy
from vreplica.errors import VReplicaError
from vreplica.files import replace_durably
from vreplica.stored import Damaged, is_id, read_lines, seal_text
from vreplica.sync.events import Listener, Warn
from vreplica.sync.job import Job, Transport
from vreplica.sync.job_dir import vmotion_lock_path
from vreplica.sync.transport.disks import choose_transport
from vreplica.sync.transport.vddk import vddk_connection
from vreplica.vddk.access import IDENTITY_MAX, end_access, prepare_for_access
from vreplica.vddk.config import ENV_LIBDIR
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session


@contextmanager
def storage_vmotion_locked(
    job: Job, source: Session, vm: VmRef, listener: Listener
) -> Iterator[None]:
    """Disables Storage vMotion of `vm` inside, where that is possible.

    It never stops a run: what fails is a warning.
    """
    mark = vmotion_lock_path(job)
    if not _possible(job, source):
        yield
        return
    if mark.exists():
        _unlock(job, source, VmRef(_locked_vm(mark) or vm.moref, vm.name), mark, listener)
    locked = _lock(job, source, vm, mark, listener)
    try:
        yield
    finally:
        if locked:
            _unlock(job, source, vm, mark, listener)


def lock_owner(job: Job) -> str:
    """The identity that VDDK locks with: the same for every run of a job."""
    return f"vreplica-{job.name}"[:IDENTITY_MAX]


def _possible(job: Job, source: Session) -> bool:
    vmwares = job.vddk.libdir is not None or bool(os.environ.get(ENV_LIBDIR))
    return choose_transport(job)[0] is Transport.VDDK and vmwares and source.about.is_vcenter


def _locked_vm(mark: Path) -> str | None:
    """moref of the VM that is locked; None where the file is damaged: it is the source, then."""
    try:
        moref = "".join(read_lines(mark))
    except Damaged:
        return None
    return moref if is_id(moref) else None


def _lock(job: Job, source: Session, vm: VmRef, mark: Path, listener: Listener) -> bool:
    replace_durably(mark, seal_text(f"{vm.moref}\n"))
    connection = vddk_connection(source, vm, None, read_only=True)
    try:
        prepare_for_access(job.vddk, connection, lock_owner(job))
    except DiskBusy:
        # That serves as well, until the other program enables it again.
        listener(Warn(f"Storage vMotion of {vm.name} is disabled by another program already"))
    except VReplicaError as error:
        listener(Warn(f"Storage vMotion of {vm.name} could not be disabled: {error.message}"))
    else:
        return True
    mark.unlink(missing_ok=True)
    return False


def _unlock(job: Job, source: Session, vm: VmRef, mark: Path, listener: Listener) -> None:
    connection = vddk_connection(source, vm, None, read_only=True)
    try:
        end_access(job.vddk, connection, lock_owner(job))
    except VReplicaError as error:
        text = f"Storage vMotion of {vm.name} may still be disabled, the next run enables it"
        listener(Warn(f"{text}: {error.message}"))
        return
    mark.unlink(missing_ok=True)
