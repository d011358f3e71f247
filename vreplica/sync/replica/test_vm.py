"""The VM of a test failover, as others see it: who made it, on which point it stands, whether
it is left over.

    test VM, extraConfig      vreplica.test = {"job", "id", "point", "owner", "time", "keep"}
    <job>/tests/<id>/hold     the same, written before the VM is made; locked while its maker lives

A test VM is a linked clone, where the destination can clone: the point it stands on, and every one
before it, may not be removed while it exists. One on full copies lets go of its point as soon as
they are complete, and both marks say so (`copied`). Both marks count, since either can be lost: a
process that died before vCenter had made the VM leaves the file, a lost state directory leaves the
VM.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vreplica.errors import VSphereError
from vreplica.points.vm_keys import MADE_KEY, TEST_KEY
from vreplica.sync.errors import BeingTested
from vreplica.sync.job import Job
from vreplica.sync.job_dir import in_state_dir, tests_dir
from vreplica.vsphere.errors import VmNotFound
from vreplica.vsphere.model import VmInfo, VmRef
from vreplica.vsphere.session import Session


@dataclass(frozen=True, slots=True)
class Mark:
    """Who made a test VM, when (ISO, UTC), of which point; `keep`: not to be cleaned up;
    `copied`: its disks are its own by now, and stand on no point."""

    job: str
    id: str
    point: str
    owner: str
    time: str
    keep: bool
    copied: bool = False

    def dump(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Mark | None:
        try:
            value: dict[str, Any] = json.loads(text)
            # A newer version may say more: its test VM holds its point all the same.
            return cls(**{f.name: value[f.name] for f in fields(cls) if f.name in value})
        except (ValueError, TypeError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class TestVm:
    """A test VM that exists. `orphan`: the process that made it is known to be gone."""

    vm: VmInfo
    mark: Mark
    orphan: bool


def me() -> str:
    """The owner as people can find it."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def test_name(job: Job) -> str:
    """The name of the job's test VM. One at a time."""
    return f"{job.placement.name}-test"


def find(session: Session, job: Job) -> TestVm | None:
    """The job's test VM, if there is one; never a VM without our mark."""
    try:
        vm = session.read_vm(session.find_vm(test_name(job)))
    except VmNotFound:
        return None
    mark = Mark.load(vm.extra_config.get(TEST_KEY, ""))
    if mark is None or mark.job != job.name:
        return None
    return TestVm(vm, mark, orphan=not mark.keep and _dead(_folder(job, mark.id)))


def held(session: Session, job: Job) -> frozenset[str]:
    """Ids of the points that a test VM stands on, or is about to. `clean` goes before."""
    marks = [mark for _, mark in _holds(job)]
    if (test := find(session, job)) is not None:
        marks.append(test.mark)
    return frozenset(mark.point for mark in marks if not mark.copied)


def let_go(session: Session, job: Job, vm: VmRef, mark: Mark) -> None:
    """Of the point whose copies a test VM has by now. What is still held where this breaks off
    goes with the VM."""
    own = replace(mark, copied=True).dump()
    session.set_extra_config(vm, {TEST_KEY: own})
    with (_folder(job, mark.id) / "hold").open("r+") as file:
        file.write(own)
        file.truncate()


def clean(session: Session, job: Job, *, all_of_them: bool = False) -> str | None:
    """Remove the job's test VM where it is left over, or (all_of_them) in any case.

    Returns the name of what was removed. One that is to be kept, or of which this machine knows
    nothing, is left alone unless `all_of_them`; one whose maker lives, in any case: BeingTested.
    """
    test = find(session, job)
    removed = None
    if test is not None and all_of_them and _locked(_folder(job, test.mark.id)):
        raise BeingTested(job=job.name, vm=test.vm.name, owner=test.mark.owner)
    if test is not None and (test.orphan or all_of_them):
        try:
            remove(session, test.vm.ref)
            removed = test.vm.name
            test = None
        except VSphereError:
            # A host that still copies for a process that was killed holds the file: next time.
            if all_of_them:
                raise
    left = [f for f, mark in _holds(job) if test is None or test.mark.id != mark.id]
    # A clone whose process was killed goes on in vCenter, and is there in a moment.
    if left and not _is_cloned(session, job):
        for folder in left:
            if _dead(folder):
                (folder / "hold").unlink(missing_ok=True)
    return removed


def remove(session: Session, vm: VmRef) -> None:
    """Switch a test VM off and remove it, with disk files that it made and did not come to have."""
    session.power_off(vm)
    now = session.read_vm(vm)
    attached = {path for disk in now.disks for path in (disk.path, *disk.parents)}
    for path in json.loads(now.extra_config.get(MADE_KEY) or "[]"):
        if path not in attached:
            session.delete_disk(vm, path)
    session.destroy_vm(vm)


@contextmanager
def hold(job: Job, mark: Mark) -> Iterator[Path]:
    """Hold a point for a test VM that is about to be made; the lock dies with this process.

    The file goes at the end, unless the VM is to be kept.
    """
    folder = _folder(job, mark.id)
    with in_state_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "hold").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(mark.dump())
        file.flush()
        os.fsync(file.fileno())
        yield folder
        if not mark.keep:
            (folder / "hold").unlink()


def _folder(job: Job, id_: str) -> Path:
    return tests_dir(job) / id_


def _holds(job: Job) -> Iterator[tuple[Path, Mark]]:
    root = tests_dir(job)
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        with suppress(FileNotFoundError):
            if mark := Mark.load((folder / "hold").read_text()):
                yield folder, mark


def _is_cloned(session: Session, job: Job) -> bool:
    """Is a copy of the replica being made right now?"""
    try:
        tasks = session.recent_tasks(session.find_vm(job.placement.name))
    except VmNotFound:
        return False
    return any(t.state in ("queued", "running") and "clone" in t.operation.lower() for t in tasks)


def _dead(folder: Path) -> bool:
    """Is the maker gone? Only known where its lock file is: not on another machine."""
    return (folder / "hold").exists() and not _locked(folder)


def _locked(folder: Path) -> bool:
    try:
        with (folder / "hold").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
