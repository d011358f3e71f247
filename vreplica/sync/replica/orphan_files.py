"""Deletes disk files in the replica's folder that neither the replica nor a point needs.

A run names the files that it makes in `vreplica.made` on the replica before they exist. It names
files that are about to lose their last user in `<job>/unused` before they lose it. So a run that
fails or is killed leaves no file behind: the next run knows both lists.
"""

from __future__ import annotations

from collections.abc import Iterable

from vreplica.errors import VReplicaError
from vreplica.files import replace_durably
from vreplica.points.vm_keys import MADE_KEY
from vreplica.stored import Damaged, parse_texts, read_lines, seal_text
from vreplica.sync.job import Job
from vreplica.sync.job_dir import in_state_dir, unused_path
from vreplica.sync.replica.state import ReplicaState
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.model import VmDisk


def made_by_run(replica: ReplicaState) -> tuple[str, ...]:
    """Files that the run in `vreplica.leaf` was making. Read it before a revert takes it away."""
    return paths_in_folder(replica.vm.extra_config.get(MADE_KEY, ""), replica.vm.vmx_path)


def paths_in_folder(text: str, vmx_path: str) -> tuple[str, ...]:
    """The paths of a `vreplica.made` that are in the VM's own folder. Damaged: none.

    Whoever may edit the VM may write that value, so it names no file that we delete elsewhere.
    """
    folder = vmx_path.rpartition("/")[0] + "/"
    try:
        paths = parse_texts(text) if text else ()
    except Damaged:
        return ()
    return tuple(p for p in paths if p.startswith(folder) and ".." not in p.split("/"))


def base_files(disks: Iterable[VmDisk]) -> set[str]:
    """The lowest links of these disks: what stays when the last snapshot of a disk is gone."""
    return {d.parents[-1] if d.parents else d.path for d in disks}


def remember_unused(job: Job, paths: Iterable[str]) -> None:
    """Records files that are about to lose their last user, for `delete_unused`."""
    if wanted := {*unused(job), *paths}:
        _keep_unused(job, wanted)


def delete_unused(context: RunContext, replica: ReplicaState) -> None:
    """Deletes recorded disk files in the replica's folder that no disk or snapshot has.

    Files that cannot be deleted now stay recorded.
    """
    job, destination = context.job, context.sites.destination
    paths = unused(job)
    if not paths:
        return
    snapshots = destination.read_snapshots(replica.vm.ref)
    disks = [*replica.vm.disks, *(d for s in snapshots for d in s.disks)]
    used = {path for d in disks for path in (d.path, *d.parents)}
    folder = replica.vm.vmx_path.rpartition("/")[0] + "/"
    left = []
    for path in paths:
        if path in used or not path.startswith(folder) or ".." in path.split("/"):
            continue
        context.fence()
        try:
            if destination.delete_disk(replica.vm.ref, path):
                context.step("tidy", f"deleted {path}, which no recovery point needs")
        except VReplicaError as error:
            left.append(path)
            text = f"{path} is not needed any more and could not be deleted"
            context.warn(f"{text}; the next run tries again: {error.message}")
    _keep_unused(job, left)


def unused(job: Job) -> list[str]:
    """The recorded paths."""
    with in_state_dir():
        try:
            return read_lines(unused_path(job))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except Damaged:
            # What it named stays at the destination: that costs space, and no data.
            return []


def _keep_unused(job: Job, paths: Iterable[str]) -> None:
    path = unused_path(job)
    lines = sorted(paths)
    if not lines:
        path.unlink(missing_ok=True)
        return
    replace_durably(path, seal_text("".join(f"{line}\n" for line in lines)))
