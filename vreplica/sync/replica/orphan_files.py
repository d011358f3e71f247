"""Deletes disk files in the replica's folder that neither the replica nor a point needs."""

from __future__ import annotations

import json
from collections.abc import Iterable

from vreplica.errors import VReplicaError
from vreplica.files import replace_durably
from vreplica.points.vm_keys import MADE_KEY
from vreplica.sync.events import Listener, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import unused_path
from vreplica.sync.replica.state import ReplicaState
from vreplica.vsphere.model import VmDisk
from vreplica.vsphere.session import Session


def made_by_run(replica: ReplicaState) -> tuple[str, ...]:
    """Files that the run which marked the leaf was making. Read before a revert forgets it."""
    try:
        return tuple(json.loads(replica.vm.extra_config.get(MADE_KEY) or "[]"))
    except ValueError:
        return ()


def base_files(disks: Iterable[VmDisk]) -> set[str]:
    """The lowest links of these disks: what stays when the last snapshot of a disk is gone."""
    return {d.parents[-1] if d.parents else d.path for d in disks}


def remember_unused(job: Job, paths: Iterable[str]) -> None:
    """What is about to lose its last user; kept until `delete_unused` has seen to it."""
    if wanted := {*unused(job), *paths}:
        _keep_unused(job, wanted)


def delete_unused(job: Job, session: Session, replica: ReplicaState, listener: Listener) -> None:
    """Delete remembered disk files in the replica's folder that neither it nor a snapshot has.

    Those that cannot be deleted now are remembered on.
    """
    paths = unused(job)
    if not paths:
        return
    snapshots = session.read_snapshots(replica.vm.ref)
    disks = [*replica.vm.disks, *(d for s in snapshots for d in s.disks)]
    used = {path for d in disks for path in (d.path, *d.parents)}
    folder = replica.vm.vmx_path.rpartition("/")[0] + "/"
    left = []
    for path in paths:
        if path in used or not path.startswith(folder):
            continue
        try:
            if session.delete_disk(replica.vm.ref, path):
                listener(Step("tidy", f"deleted {path}, which no recovery point needs"))
        except VReplicaError as error:
            left.append(path)
            text = f"{path} is not needed any more and could not be deleted"
            listener(Warn(f"{text}; the next run tries again: {error.message}"))
    _keep_unused(job, left)


def unused(job: Job) -> list[str]:
    """Paths that were remembered."""
    try:
        return unused_path(job).read_text().splitlines()
    except FileNotFoundError:
        return []


def _keep_unused(job: Job, paths: Iterable[str]) -> None:
    path = unused_path(job)
    lines = sorted(paths)
    if not lines:
        path.unlink(missing_ok=True)
        return
    replace_durably(path, "".join(f"{line}\n" for line in lines))
