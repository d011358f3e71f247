"""Remembers the two VMs of a job by what does not change, and finds them by that.

    STATE_DIR/JOB/vms.json    {"source":  {"name": "web01", "instance_uuid": "..."},
                               "replica": {"name": "web01-dr", "instance_uuid": "..."}}

`name` is what the job file said then: where it says something else by now, the VM that was
remembered is not meant. The file can be lost: then the names of the job file decide.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from vreplica.files import replace_durably
from vreplica.sync.job import Job
from vreplica.sync.job_dir import in_state_dir, known_vms_path
from vreplica.vsphere.model import VmInfo, VmRef
from vreplica.vsphere.session import Session


def find_source(session: Session, job: Job) -> VmRef:
    """Finds the source: first by its instance UUID, else as the job names it.

    Raises VmNotFound, AmbiguousVm.
    """
    return _by_uuid(session, source_uuid(job)) or session.find_vm(job.source_vm)


def find_known_replica(session: Session, job: Job) -> VmRef | None:
    """Finds the VM that was this job's replica; None where it is not known, or gone."""
    return _by_uuid(session, replica_uuid(job))


def source_uuid(job: Job) -> str | None:
    """The instance UUID of the VM that the job names; None where it is not remembered."""
    return _remembered(job, "source", job.source_vm)


def replica_uuid(job: Job) -> str | None:
    """The instance UUID of the job's replica; None where it is not remembered."""
    return _remembered(job, "replica", job.placement.name)


def remember(job: Job, *, source: VmInfo | None = None, replica: VmInfo | None = None) -> None:
    """Remembers the VMs that are given. Raises StateDirUnusable."""
    known = _read(job)
    sides = (("source", source, job.source_vm), ("replica", replica, job.placement.name))
    for side, vm, name in sides:
        if vm is not None and vm.instance_uuid:
            known[side] = {"name": name, "instance_uuid": vm.instance_uuid}
    if known != _read(job):
        with in_state_dir():
            replace_durably(known_vms_path(job), json.dumps(known) + "\n")


def _by_uuid(session: Session, uuid: str | None) -> VmRef | None:
    return session.find_by_uuid(uuid) if uuid else None


def _remembered(job: Job, side: str, name: str) -> str | None:
    found = _read(job).get(side)
    if not isinstance(found, dict) or found.get("name") != name:
        return None
    return str(found.get("instance_uuid") or "") or None


def _read(job: Job) -> dict[str, Any]:
    """The file as it is; empty where there is none, or where it cannot be read."""
    with suppress(OSError, ValueError):
        found = json.loads(known_vms_path(job).read_text())
        if isinstance(found, dict):
            return found
    return {}
