"""Faults on demand: what was asked for is done once, or the error says what is not known."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

from vreplica.errors import VReplicaError
from vreplica.lab import LabControl
from vreplica.units import MIB
from vreplica.vsphere.errors import (
    CbtQueryFailed,
    ConsolidationFailed,
    DatastoreFull,
    FileInUse,
    HostUnreachable,
    OutcomeUnknown,
    QuiesceFailed,
    SnapshotFailed,
    TaskFailed,
    VmNotFound,
    WrongPowerState,
)
from vreplica.vsphere.model import QuiesceOptions, ReplicaSpec, VmRef
from vreplica.vsphere.operations import snapshots as snapshots_module
from vreplica.vsphere.session import Session, connect

SITE = "site-a"


@pytest.fixture
def trouble(control: LabControl) -> Iterator[Any]:
    """`trouble(method=..., action=...)`: a rule, gone after the test."""

    def make(**rule: Any) -> None:
        control.add_fault(SITE, **rule)

    yield make
    control.clear_faults(SITE)


def names(session: Session, vm: VmRef) -> list[str]:
    return [s.name for s in session.read_vm(vm).snapshots]


def test_a_change_whose_answer_is_lost_is_not_repeated(
    source: Session, new_vm: Any, trouble: Any
) -> None:
    vm = new_vm()
    trouble(method="CreateSnapshotEx_Task", object=vm.moref, action="lost-reply", count=None)
    with pytest.raises(OutcomeUnknown, match="It is not known whether"):
        source.create_snapshot(vm, "once")
    assert [t.operation for t in source.recent_tasks(vm)] == ["VirtualMachine.createSnapshotEx"]


def test_a_removal_whose_answer_is_lost_succeeds_when_repeated(
    source: Session, new_vm: Any, trouble: Any
) -> None:
    vm = new_vm()
    made = source.create_snapshot(vm, "s")
    trouble(method="RemoveSnapshot_Task", object=vm.moref, action="lost-reply")
    with pytest.raises(OutcomeUnknown):
        source.remove_snapshot(vm, made.moref)
    source.remove_snapshot(vm, made.moref)
    assert names(source, vm) == []


@pytest.mark.parametrize("action", ["drop", "lost-reply", "session"])
@pytest.mark.parametrize("method", ["RetrievePropertiesEx", "CurrentTime"])
def test_reads_and_what_goes_before_changes_are_repeated(
    source: Session, new_vm: Any, trouble: Any, method: str, action: str
) -> None:
    vm = new_vm()
    trouble(method=method, action=action)
    made = source.create_snapshot(vm, "s")
    trouble(method=method, action=action)
    assert source.remove_snapshot(vm, made.moref).existed
    assert len(source.recent_tasks(vm)) == 2


def test_a_change_refused_for_lack_of_a_session_is_made_once(
    source: Session, new_vm: Any, trouble: Any
) -> None:
    vm = new_vm()
    trouble(method="CreateSnapshotEx_Task", action="session")
    source.create_snapshot(vm, "s")
    assert names(source, vm) == ["s"]


def test_an_answer_that_never_comes_is_given_up(endpoint: Any, new_vm: Any, trouble: Any) -> None:
    vm = new_vm()
    with connect(endpoint(), reply_timeout_s=0.5) as session:
        trouble(method="RetrievePropertiesEx", action="hang")
        with pytest.raises(HostUnreachable, match=r"no answer within 0\.5 s"):
            session.power_state(vm)
        assert session.power_state(vm) == "poweredOff"


def test_a_restart_in_the_middle_of_a_cycle_is_survived(
    source: Session, new_vm: Any, trouble: Any, control: LabControl
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    # The third read is one of those that wait for the task, since that takes long enough.
    trouble(method="RetrievePropertiesEx", action="restart", skip=2)
    control.settings(SITE, task_delay_s=1.0)
    try:
        made = source.create_snapshot(vm, "s")
    finally:
        control.settings(SITE, task_delay_s=0.0)
    trouble(method="QueryChangedDiskAreas", action="restart")
    # The endpoint is away for a moment: reads are repeated once, and then say so.
    answered, end = False, time.monotonic() + 20
    while not answered and time.monotonic() < end:
        with contextlib.suppress(HostUnreachable):
            source.changed_extents(vm, made.moref, 2000, "*", 8 * MIB)
            answered = True
        time.sleep(0.05)
    assert answered
    assert source.remove_snapshot(vm, made.moref).existed
    assert names(source, vm) == []
    gc.collect()  # pyVmomi leaves connections open that fail while they are made


def test_disks_that_were_locked_during_a_removal_are_merged_later(
    source: Session, new_vm: Any, trouble: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "CONSOLIDATION_PAUSE_S", 0.05)
    vm = new_vm(power_on=True)
    made = source.create_snapshot(vm, "s")
    trouble(object=vm.moref, action="locked", count=2)
    removal = source.remove_snapshot(vm, made.moref)
    assert (removal.existed, removal.consolidated) == (True, True)
    info = source.read_vm(vm)
    assert (info.snapshots, info.consolidation_needed) == ((), False)
    assert info.disks[0].parents == ()
    assert source.consolidate(vm) is False


def test_disks_that_stay_locked_are_told_with_the_file(
    source: Session, new_vm: Any, trouble: Any, control: LabControl, monkeypatch: Any
) -> None:
    monkeypatch.setattr(snapshots_module, "CONSOLIDATION_PAUSE_S", 0.01)
    vm = new_vm(power_on=True)
    made = source.create_snapshot(vm, "s")
    trouble(object=vm.moref, action="locked", count=None)
    with pytest.raises(ConsolidationFailed, match="is locked by another process") as caught:
        source.remove_snapshot(vm, made.moref)
    assert "Consolidate the VM's disks" in caught.value.explain()[0]
    assert source.read_vm(vm).consolidation_needed
    control.clear_faults(SITE)
    assert source.consolidate(vm) is True


FAULTS: list[tuple[str, type[VReplicaError]]] = [
    ("ApplicationQuiesceFault", QuiesceFailed),
    ("FilesystemQuiesceFault", QuiesceFailed),
    ("NoDiskSpace", DatastoreFull),
    ("TooManySnapshotLevels", SnapshotFailed),
    ("SnapshotLocked", SnapshotFailed),
    ("InvalidPowerState", WrongPowerState),
    ("FileLocked", FileInUse),
    ("GenericVmConfigFault", TaskFailed),
    ("SystemError", TaskFailed),
]


@pytest.mark.parametrize("where", ["call", "task"])
@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[f for f, _ in FAULTS])
def test_a_snapshot_that_fails_says_why_and_leaves_none(
    source: Session,
    new_vm: Any,
    trouble: Any,
    fault: str,
    expected: type[VReplicaError],
    where: str,
) -> None:
    vm = new_vm(power_on=True)
    trouble(method="*napshot*", object=vm.moref, fault=fault, where=where, message="on purpose")
    with pytest.raises(expected) as caught:
        source.create_snapshot(vm, "s", "", QuiesceOptions())
    assert caught.value.where.vm == vm.name
    assert caught.value.explain()
    assert names(source, vm) == []
    source.create_snapshot(vm, "s")


@pytest.mark.parametrize("fault", ["NotSupported", "SystemError"])
def test_changed_areas_that_cannot_be_had_are_told_apart_from_stale_ids(
    source: Session, new_vm: Any, trouble: Any, fault: str
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    made = source.create_snapshot(vm, "s")
    since = made.disks[0].change_id
    trouble(method="QueryChangedDiskAreas", fault=fault)
    with pytest.raises(CbtQueryFailed, match=fault):
        source.changed_extents(vm, made.moref, 2000, since, 8 * MIB)


def test_a_replica_that_could_not_be_made_leaves_nothing(
    source: Session, new_vm: Any, trouble: Any
) -> None:
    vm = new_vm()
    trouble(method="createVm*", where="task", fault="NoDiskSpace")
    trouble(method="CreateVM_Task", where="task", fault="NoDiskSpace")
    spec = ReplicaSpec(f"{vm.name}-r", source.read_vm(vm), "site-a-ds2")
    with pytest.raises(DatastoreFull):
        source.create_replica(spec)
    with pytest.raises(VmNotFound):
        source.find_vm(spec.name)
