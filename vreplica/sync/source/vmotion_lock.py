"""The source's files stay where they are while VDDK reads them: no Storage vMotion meanwhile.

    PrepareForAccess      vCenter disables RelocateVM for the VM
      snapshot, copies, snapshot off
    EndAccess             with the same identity, also after a crash: else the VM stays pinned

`<job>/held` names the VM that is held, from before the first call to after the second, so that
the next run after a kill ends it. Only VMware's own library can ask this of a vCenter, and an
ESXi host knows no Storage vMotion (VDDK 8.0 Programming Guide).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vreplica.disk_errors import DiskBusy
from vreplica.errors import VReplicaError
from vreplica.files import replace_durably
from vreplica.sync.events import Listener, Warn
from vreplica.sync.job import Job, Transport
from vreplica.sync.job_dir import vmotion_lock_path
from vreplica.sync.transport import choose, vddk_connection
from vreplica.vddk.access import IDENTITY_MAX, end_access, prepare_for_access
from vreplica.vddk.config import ENV_LIBDIR
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session


@contextmanager
def held_in_place(job: Job, source: Session, vm: VmRef, listener: Listener) -> Iterator[None]:
    """Inside, Storage vMotion of `vm` is disabled, where that can be. Never keeps a run from
    its work: what cannot be had is a warning."""
    mark = vmotion_lock_path(job)
    if not _possible(job, source):
        yield
        return
    if mark.exists():
        _end(job, source, VmRef(mark.read_text().strip(), vm.name), mark, listener)
    held = _begin(job, source, vm, mark, listener)
    try:
        yield
    finally:
        if held:
            _end(job, source, vm, mark, listener)


def identity(job: Job) -> str:
    """Whose hold it is: the same for every run of a job."""
    return f"vreplica-{job.name}"[:IDENTITY_MAX]


def _possible(job: Job, source: Session) -> bool:
    vmwares = job.vddk.libdir is not None or bool(os.environ.get(ENV_LIBDIR))
    return choose(job)[0] is Transport.VDDK and vmwares and source.about.is_vcenter


def _begin(job: Job, source: Session, vm: VmRef, mark: Path, listener: Listener) -> bool:
    replace_durably(mark, f"{vm.moref}\n")
    connection = vddk_connection(source, vm, None, read_only=True)
    try:
        prepare_for_access(job.vddk, connection, identity(job))
    except DiskBusy:
        # Somebody else has disabled it, which serves as well until they enable it again.
        listener(Warn(f"Storage vMotion of {vm.name} is disabled by another program already"))
    except VReplicaError as error:
        listener(Warn(f"Storage vMotion of {vm.name} could not be disabled: {error.message}"))
    else:
        return True
    mark.unlink(missing_ok=True)
    return False


def _end(job: Job, source: Session, vm: VmRef, mark: Path, listener: Listener) -> None:
    connection = vddk_connection(source, vm, None, read_only=True)
    try:
        end_access(job.vddk, connection, identity(job))
    except VReplicaError as error:
        text = f"Storage vMotion of {vm.name} may still be disabled, the next run enables it"
        listener(Warn(f"{text}: {error.message}"))
        return
    mark.unlink(missing_ok=True)
