"""Keeps track of the VM of a test failover: who made it, and on which point it stands.

    test VM, extraConfig      vreplica.test = {"job", "id", "point", "owner", "time", "keep"}
    <job>/tests/<id>/hold     the same, written before the VM is made; locked while its maker lives

A test VM is a linked clone, where the destination can clone: the point it stands on, and every
point before that, may not be removed while the VM exists. A test VM on full copies releases its
point as soon as they are complete, and both marks say so (`copied`). Both marks count, since either
can be lost: a process that died before vCenter had made the VM leaves the file, a lost state
directory leaves the VM.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from vreplica.errors import VSphereError
from vreplica.files import make_private_folder, naming, open_private
from vreplica.points.vm_keys import MADE_KEY, TEST_KEY
from vreplica.stored import (
    Damaged,
    Id,
    Layout,
    Text,
    check_json,
    read_text,
    seal_json,
)
from vreplica.sync.errors import BeingTested, TestMarkDamaged
from vreplica.sync.job import Job
from vreplica.sync.job_dir import in_state_dir, tests_dir
from vreplica.sync.known_vms import find_known_replica
from vreplica.sync.replica.orphan_files import paths_in_folder
from vreplica.vsphere.model import VmInfo, VmRef
from vreplica.vsphere.names import NAME_MAX, escape, unescape
from vreplica.vsphere.session import Session


class _MarkLayout(Layout):
    # A newer version may say more: its test VM holds its point all the same.
    job: Text
    id: Id
    point: Id
    owner: Text
    time: Text
    keep: bool
    copied: bool = False


@dataclass(frozen=True, slots=True)
class OwnerMark:
    """Says who made a test VM, when (ISO, UTC), and of which point.

    `keep`: it is not removed without being asked for. `copied`: its disks are its own by now, and
    stand on no point.
    """

    job: str
    id: str
    point: str
    owner: str
    time: str
    keep: bool
    copied: bool = False

    def dump(self) -> str:
        return seal_json(json.dumps(asdict(self), separators=(",", ":")))

    @classmethod
    def load(cls, text: str) -> Self | None:
        """The mark; None where there is none, or none that can be believed."""
        try:
            value = _MarkLayout.parse(text)
            check_json(text)
        except Damaged:
            return None
        return cls(**value.model_dump())


@dataclass(frozen=True, slots=True)
class TestVm:
    """A test VM that exists. `orphan`: the process that made it is known to be gone."""

    vm: VmInfo
    mark: OwnerMark
    orphan: bool


def this_process() -> str:
    """This process, as people can find it."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def test_name(job: Job) -> str:
    """The name of the job's test VM. One at a time. A long name of the replica is cut."""
    name = unescape(job.placement.name)
    while len(escape(f"{name}-test")) > NAME_MAX:
        name = name[:-1]
    return f"{name}-test"


def find_test_vm(session: Session, job: Job) -> TestVm | None:
    """The job's test VM; None where there is none, or a VM of that name without our mark."""
    return _as_test_vm(job, _vm_of_its_name(session, job))


def points_in_use(session: Session, job: Job) -> frozenset[str]:
    """Ids of the points that a test VM stands on, or is about to. Call `remove_left` before.

    Raises TestMarkDamaged where a mark cannot be believed: it may hold any point.
    """
    vm = _vm_of_its_name(session, job)
    test = _as_test_vm(job, vm)
    marks = [test.mark] if test is not None else []
    if vm is not None and test is None and _is_damaged(vm.extra_config.get(TEST_KEY, "")):
        raise TestMarkDamaged(job=job.name, place=f"test VM {vm.name}")
    for folder, mark in _marks(job):
        if mark is not None:
            marks.append(mark)
        elif test is None or test.mark.id != folder.name:
            raise TestMarkDamaged(job=job.name, place=str(folder / "hold"))
    return frozenset(mark.point for mark in marks if not mark.copied)


def _vm_of_its_name(session: Session, job: Job) -> VmInfo | None:
    ref = session.look_up_vm(test_name(job))
    return session.read_vm(ref) if ref is not None else None


def _as_test_vm(job: Job, vm: VmInfo | None) -> TestVm | None:
    mark = OwnerMark.load(vm.extra_config.get(TEST_KEY, "")) if vm is not None else None
    if vm is None or mark is None or mark.job != job.name:
        return None
    return TestVm(vm, mark, orphan=not mark.keep and _owner_is_gone(_folder(job, mark.id)))


def _is_damaged(mark: str) -> bool:
    return bool(mark) and OwnerMark.load(mark) is None


def release_point(session: Session, job: Job, vm: VmRef, mark: OwnerMark) -> None:
    """Releases the point whose copies a test VM has by now.

    Where this breaks off, the rest of the hold ends with the VM.
    """
    own = replace(mark, copied=True).dump()
    session.set_extra_config(vm, {TEST_KEY: own})
    with (_folder(job, mark.id) / "hold").open("r+") as file:
        file.write(own)
        file.truncate()


def remove_left(session: Session, job: Job, *, kept_too: bool = False) -> str | None:
    """Removes the job's test VM where its process is gone. Returns its name, or None.

    A VM that is to be kept, or of which this machine knows nothing, is removed only with
    `kept_too`. Raises BeingTested, with `kept_too`, while its test runs on this machine.
    """
    test = find_test_vm(session, job)
    removed = None
    if test is not None and kept_too and _owner_is_alive(_folder(job, test.mark.id)):
        raise BeingTested(job=job.name, vm=test.vm.name, owner=test.mark.owner)
    if test is not None and (test.orphan or kept_too):
        try:
            remove_test_vm(session, test.vm.ref)
            removed = test.vm.name
            test = None
        except VSphereError:
            # The host may still copy for a process that was killed: the next run tries again.
            if kept_too:
                raise
    left = [folder for folder, _ in _marks(job) if test is None or test.mark.id != folder.name]
    # vCenter completes a clone whose process was killed: the VM exists in a moment.
    if left and not _is_being_cloned(session, job):
        for folder in left:
            if _owner_is_gone(folder):
                (folder / "hold").unlink(missing_ok=True)
    return removed


def remove_test_vm(session: Session, vm: VmRef) -> None:
    """Powers a test VM off and removes it, with files of copies that were never attached.

    Only files in its own folder: what its extraConfig says may be of anybody.
    """
    session.power_off(vm)
    now = session.read_vm(vm)
    attached = {path for disk in now.disks for path in (disk.path, *disk.parents)}
    for path in paths_in_folder(now.extra_config.get(MADE_KEY, ""), now.vmx_path):
        if path not in attached:
            session.delete_disk(vm, path)
    session.destroy_vm(vm)


@contextmanager
def hold_point(job: Job, mark: OwnerMark) -> Iterator[Path]:
    """Holds a point for a test VM that is about to be made; the lock ends with this process.

    The file is removed at the end, unless the VM is to be kept.
    """
    folder = _folder(job, mark.id)
    with in_state_dir():
        make_private_folder(folder)
    with open_private(folder / "hold") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with naming(folder / "hold"):
            file.truncate(0)
            file.write(mark.dump())
            file.flush()
            os.fsync(file.fileno())
        yield folder
        if not mark.keep:
            (folder / "hold").unlink()


def _folder(job: Job, id_: str) -> Path:
    return tests_dir(job) / id_


def _marks(job: Job) -> Iterator[tuple[Path, OwnerMark | None]]:
    """The folder and the mark of each test, whose id names the folder; None: it is damaged."""
    root = tests_dir(job)
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                yield folder, OwnerMark.load(read_text(folder / "hold"))
            except Damaged:
                yield folder, None


def _is_being_cloned(session: Session, job: Job) -> bool:
    """True while vCenter clones the replica."""
    replica = find_known_replica(session, job) or session.look_up_vm(job.placement.name)
    if replica is None:
        return False
    tasks = session.recent_tasks(replica)
    return any(t.state in ("queued", "running") and "clone" in t.operation.lower() for t in tasks)


def _owner_is_gone(folder: Path) -> bool:
    """True where its process has ended. Only the machine with the lock file knows."""
    return (folder / "hold").exists() and not _owner_is_alive(folder)


def _owner_is_alive(folder: Path) -> bool:
    """True while a process on this machine holds the lock."""
    try:
        with (folder / "hold").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
