"""Snapshots, changed blocks and power, end to end: what is asked for is what is on the disks."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from vreplica.lab import Lab, LabControl
from vreplica.units import KIB, MIB
from vreplica.vsphere.change_id import ALL_IN_USE, generation_of
from vreplica.vsphere.errors import (
    CbtCoverage,
    CbtEnableRefused,
    CbtQueryFailed,
    ChangeIdInvalid,
    ObjectGone,
    PowerTimeout,
    QuiesceFailed,
    ToolsUnavailable,
)
from vreplica.vsphere.inventory.snapshots import quiesce_evidence
from vreplica.vsphere.model import GuestState, QuiesceOptions, VmDisk, VmRef
from vreplica.vsphere.session import Session

SITE = "site-a"
BLOCK = 64 * KIB


def mark(disk: VmDisk) -> str:
    """The changeId of a snapshot's disk, which has one."""
    assert disk.change_id
    return disk.change_id


@pytest.fixture
def write(control: LabControl) -> Any:
    def write(vm: VmRef, offset: int, size: int = BLOCK, key: int = 2000) -> None:
        control.guest_write(SITE, vm.moref, key, offset, b"w" * size)

    return write


def disks_of(source: Session, vm: VmRef, snapshot: str | None, change_id: str, **more: Any) -> Any:
    key = more.get("key", 2000)
    capacity = source.read_vm(vm).disk(key).capacity_bytes
    return list(source.changed_extents(vm, snapshot, key, change_id, capacity))


# -- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_read_and_removed(source: Session, new_vm: Any, write: Any) -> None:
    vm = new_vm(power_on=True)
    write(vm, 0)
    made = source.create_snapshot(vm, "daily 100% a/b\\c", "of the job web")
    assert (made.name, made.description) == ("daily 100% a/b\\c", "of the job web")
    assert (made.parent, made.quiesced) == (None, False)
    info = source.read_vm(vm)
    assert [s.moref for s in info.snapshots] == [made.moref]
    assert info.current_snapshot == made.moref
    assert info.snapshots[0].disks == ()
    assert source.read_snapshot(vm, made.moref) == made
    assert info.disks[0].path != made.disks[0].path
    assert info.disks[0].parents == (made.disks[0].path,)
    removal = source.remove_snapshot(vm, made.moref)
    assert (removal.existed, removal.consolidated) == (True, False)
    assert removal.seconds > 0
    assert source.read_vm(vm).snapshots == ()
    assert source.read_vm(vm).disks[0].parents == ()


def test_a_snapshot_that_is_gone_is_removed_without_complaint(source: Session, new_vm: Any) -> None:
    vm = new_vm()
    made = source.create_snapshot(vm, "s")
    source.remove_snapshot(vm, made.moref)
    assert source.remove_snapshot(vm, made.moref).existed is False
    with pytest.raises(ObjectGone, match=made.moref):
        source.read_snapshot(vm, made.moref)


def test_the_tree_is_read_depth_first_with_parents(source: Session, new_vm: Any) -> None:
    vm = new_vm()
    one = source.create_snapshot(vm, "one")
    two = source.create_snapshot(vm, "two")
    source.revert_to_snapshot(vm, one.moref)
    three = source.create_snapshot(vm, "three")
    tree = source.read_vm(vm).snapshots
    assert tree[0].moref == one.moref
    assert {s.moref: s.parent for s in tree} == {
        one.moref: None,
        two.moref: one.moref,
        three.moref: one.moref,
    }
    assert source.read_vm(vm).current_snapshot == three.moref
    whole = source.read_snapshots(vm)
    assert [s.moref for s in whole] == [s.moref for s in tree]
    assert {s.moref: s.disks for s in whole} == {s.moref: s.disks for s in (one, two, three)}
    assert source.read_snapshots(new_vm()) == ()


def test_a_revert_brings_the_disk_back_and_leaves_the_vm_off(
    source: Session, new_vm: Any, write: Any, control: LabControl
) -> None:
    vm = new_vm(power_on=True)
    write(vm, 0)
    kept = source.create_snapshot(vm, "kept")
    control.guest_write(SITE, vm.moref, 2000, 0, b"x" * BLOCK)
    source.revert_to_snapshot(vm, kept.moref)
    assert source.power_state(vm) == "poweredOff"
    source.power_on(vm)
    assert control.guest_read(SITE, vm.moref, 2000, 0, BLOCK) == b"w" * BLOCK


@pytest.mark.parametrize(
    ("guest", "quiesce", "evidence"),
    [
        ("windows2019srv_64Guest", QuiesceOptions(windows=True), "application"),
        ("ubuntu64Guest", QuiesceOptions(), "filesystem"),
        ("ubuntu64Guest", None, None),
    ],
)
def test_the_level_is_what_the_evidence_says(
    source: Session, new_vm: Any, guest: str, quiesce: QuiesceOptions | None, evidence: str | None
) -> None:
    vm = new_vm(guest_id=guest, power_on=True)
    before = source.read_vm(vm)
    made = source.create_snapshot(vm, "q", "", quiesce)
    assert made.quiesced == (quiesce is not None)
    assert quiesce_evidence(made, before) == evidence


def test_windows_that_only_froze_its_file_systems_is_not_called_more(
    source: Session, new_vm: Any, control: LabControl
) -> None:
    vm = new_vm(guest_id="windows2019srv_64Guest", power_on=True)
    control.set_guest(SITE, vm.moref, quiesce="filesystemOnly")
    before = source.read_vm(vm)
    made = source.create_snapshot(vm, "q", "", QuiesceOptions(windows=True))
    # The file is there, with the components document and no writer.
    assert made.backup_manifest
    assert (made.vss_writers, made.vss_problem) == ((), None)
    assert quiesce_evidence(made, before) == "filesystem"


def test_the_writers_that_took_part_are_named(
    source: Session, new_vm: Any, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = new_vm(guest_id="windows2019srv_64Guest", power_on=True)
    before = source.read_vm(vm)
    made = source.create_snapshot(vm, "q", "", QuiesceOptions(windows=True))
    assert made.vss_writers == ("System Writer", "SqlServerWriter")
    monkeypatch.setattr(
        "vreplica.lab.web.folder.DatastoreFiles.get", lambda _, r, p: r.reply(403, b"")
    )
    unread = source.read_snapshot(vm, made.moref)
    assert unread.vss_writers is None
    assert "Datastore.Browse" in (unread.vss_problem or "")
    assert quiesce_evidence(unread, before) == "filesystem", "no proof, no claim"


@pytest.mark.parametrize(
    ("trouble", "kind"), [("applicationFault", "application"), ("filesystemFault", "filesystem")]
)
def test_a_guest_that_cannot_be_quiesced_leaves_no_snapshot(
    source: Session, new_vm: Any, control: LabControl, trouble: str, kind: str
) -> None:
    vm = new_vm(guest_id="windows2019srv_64Guest", power_on=True)
    control.set_guest(SITE, vm.moref, quiesce=trouble)
    with pytest.raises(QuiesceFailed) as caught:
        source.create_snapshot(vm, "q", "", QuiesceOptions(windows=True))
    assert caught.value.kind == kind
    assert caught.value.where.vm == vm.name
    assert source.read_vm(vm).snapshots == ()


@pytest.mark.parametrize(
    ("tools", "power_on", "status"),
    [
        ("notRunning", True, "not running"),
        ("notInstalled", True, "not installed"),
        ("running", False, "VM is poweredOff"),
    ],
)
def test_quiescing_that_would_silently_not_happen_is_refused(
    source: Session, new_vm: Any, control: LabControl, tools: str, power_on: bool, status: str
) -> None:
    vm = new_vm(power_on=power_on)
    control.set_guest(SITE, vm.moref, tools=tools)
    with pytest.raises(ToolsUnavailable, match=status):
        source.create_snapshot(vm, "q", "", QuiesceOptions())
    assert source.read_vm(vm).snapshots == ()
    assert source.create_snapshot(vm, "crash").quiesced is False


def test_a_snapshot_waits_for_another_task_of_the_vm(
    source: Session, new_vm: Any, control: LabControl, lab: Lab
) -> None:
    vm = new_vm(power_on=True)
    control.settings(SITE, task_delay_s=0.4)
    try:
        first = threading.Thread(target=lambda: source.create_snapshot(vm, "theirs"))
        first.start()
        time.sleep(0.2)
        mine = source.create_snapshot(vm, "mine")
        first.join()
    finally:
        control.settings(SITE, task_delay_s=0.0)
    assert [s.name for s in source.read_vm(vm).snapshots] == ["theirs", "mine"]
    assert mine.parent is not None


# -- changed block tracking -----------------------------------------------------------------------


def test_changes_between_two_snapshots_are_exactly_what_was_written(
    source: Session, new_vm: Any, write: Any
) -> None:
    vm = new_vm(power_on=True, disks=[(8 * MIB, True, None), (8 * MIB, False, None)])
    assert source.enable_cbt(vm) is True
    assert source.enable_cbt(vm) is False
    write(vm, 0)
    first = source.create_snapshot(vm, "first")
    base = {d.key: mark(d) for d in first.disks}
    write(vm, 1 * MIB)
    write(vm, 8 * MIB - BLOCK)
    write(vm, 3 * MIB, 512, key=2001)
    source.remove_snapshot(vm, first.moref)
    second = source.create_snapshot(vm, "second")
    write(vm, 5 * MIB)
    assert all(generation_of(base[d.key]) == generation_of(mark(d)) for d in second.disks)
    assert disks_of(source, vm, second.moref, base[2000]) == [
        (1 * MIB, 1 * MIB + BLOCK),
        (8 * MIB - BLOCK, 8 * MIB),
    ]
    assert disks_of(source, vm, second.moref, base[2001], key=2001) == [(3 * MIB, 3 * MIB + BLOCK)]
    third = source.create_snapshot(vm, "third")
    since = mark(second.disks[0])
    assert disks_of(source, vm, third.moref, since) == [(5 * MIB, 5 * MIB + BLOCK)]


@pytest.mark.parametrize("page_size", [1, 2, 7, 2000])
def test_answers_of_any_page_size_are_whole(
    source: Session, new_vm: Any, write: Any, control: LabControl, page_size: int
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    first = source.create_snapshot(vm, "first")
    written = [(i * 4 * BLOCK, i * 4 * BLOCK + BLOCK) for i in range(20)]
    for start, _ in written:
        write(vm, start)
    second = source.create_snapshot(vm, "second")
    control.settings(SITE, page_size=page_size)
    try:
        found = disks_of(source, vm, second.moref, mark(first.disks[0]))
    finally:
        control.settings(SITE, page_size=2000)
    assert found == written


def test_areas_in_use_are_what_was_ever_written(source: Session, new_vm: Any, write: Any) -> None:
    vm = new_vm(power_on=True, cbt=True)
    write(vm, 2 * MIB)
    made = source.create_snapshot(vm, "s")
    assert disks_of(source, vm, made.moref, ALL_IN_USE) == [(2 * MIB, 2 * MIB + BLOCK)]


def test_a_powered_off_vm_is_asked_without_a_snapshot(
    source: Session, new_vm: Any, write: Any
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    made = source.create_snapshot(vm, "s")
    since = mark(made.disks[0])
    source.remove_snapshot(vm, made.moref)
    write(vm, 4 * MIB)
    with pytest.raises(CbtQueryFailed, match="snapshot"):
        disks_of(source, vm, None, since)
    source.shutdown_guest(vm)
    source.wait_power(vm, "poweredOff", 10)
    assert disks_of(source, vm, None, since) == [(4 * MIB, 4 * MIB + BLOCK)]


def test_tracking_is_not_switched_on_above_a_snapshot(source: Session, new_vm: Any) -> None:
    vm = new_vm()
    source.create_snapshot(vm, "before")
    with pytest.raises(CbtEnableRefused, match="before"):
        source.enable_cbt(vm)
    assert source.read_vm(vm).cbt_enabled is False


def test_without_tracking_a_snapshot_has_no_change_id(source: Session, new_vm: Any) -> None:
    vm = new_vm(power_on=True)
    made = source.create_snapshot(vm, "s")
    assert made.disks[0].change_id is None
    with pytest.raises(CbtQueryFailed, match="FileFault"):
        disks_of(source, vm, made.moref, ALL_IN_USE)


def test_a_change_id_of_before_a_reset_is_invalid(source: Session, new_vm: Any) -> None:
    vm = new_vm(power_on=True, cbt=True)
    made = source.create_snapshot(vm, "s")
    old = mark(made.disks[0])
    source.remove_snapshot(vm, made.moref)
    source.disable_cbt(vm)
    source.remove_snapshot(vm, source.create_snapshot(vm, "off").moref)
    assert source.enable_cbt(vm)
    fresh = source.create_snapshot(vm, "on again")
    assert generation_of(old) != generation_of(mark(fresh.disks[0]))
    with pytest.raises(ChangeIdInvalid, match="FileFault"):
        disks_of(source, vm, fresh.moref, old)


def test_a_change_id_of_before_a_revert_is_of_another_generation(
    source: Session, new_vm: Any, write: Any
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    kept = source.create_snapshot(vm, "kept")
    write(vm, 0)
    source.revert_to_snapshot(vm, kept.moref)
    source.power_on(vm)
    later = source.create_snapshot(vm, "later")
    old, new = mark(kept.disks[0]), mark(later.disks[0])
    assert generation_of(old) != generation_of(new)
    with pytest.raises(ChangeIdInvalid):
        disks_of(source, vm, later.moref, old)


@pytest.mark.parametrize("text", ["nonsense", "52 de/notanumber"])
def test_a_change_id_that_never_was_is_invalid(source: Session, new_vm: Any, text: str) -> None:
    vm = new_vm(power_on=True, cbt=True)
    made = source.create_snapshot(vm, "s")
    with pytest.raises(ChangeIdInvalid, match="InvalidArgument"):
        disks_of(source, vm, made.moref, text)


def test_a_session_that_ends_between_pages_goes_on(
    source: Session, new_vm: Any, write: Any, control: LabControl
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    for block in range(0, 60, 2):
        write(vm, block * BLOCK)
    made = source.create_snapshot(vm, "s")
    control.settings(SITE, page_size=1)
    for skip in (3, 11, 19):
        control.add_fault(SITE, method="QueryChangedDiskAreas", action="session", skip=skip)
    try:
        found = disks_of(source, vm, made.moref, ALL_IN_USE)
        struck = [rule["struck"] for rule in control.list_faults(SITE)]
    finally:
        control.clear_faults(SITE)
        control.settings(SITE, page_size=2000)
    assert found == [(b * BLOCK, (b + 1) * BLOCK) for b in range(0, 60, 2)]
    assert struck == [1, 1, 1]


@pytest.mark.parametrize("bug", ["past-end", "empty-page"])
def test_answers_with_a_known_bug_are_cut_or_refused(
    source: Session, new_vm: Any, write: Any, control: LabControl, bug: str
) -> None:
    vm = new_vm(power_on=True, cbt=True)
    for offset in (0, 4 * BLOCK, 8 * MIB - BLOCK):
        write(vm, offset)
    made = source.create_snapshot(vm, "s")
    control.settings(SITE, page_size=2, cbt_bug=bug)
    try:
        if bug == "past-end":
            found = disks_of(source, vm, made.moref, ALL_IN_USE)
            assert found[-1] == (8 * MIB - BLOCK, 8 * MIB)
        else:
            with pytest.raises(CbtCoverage, match="speaks for 0 bytes"):
                disks_of(source, vm, made.moref, ALL_IN_USE)
    finally:
        control.settings(SITE, page_size=2000, cbt_bug="")


# -- power ----------------------------------------------------------------------------------------


def test_power_is_brought_to_what_is_wanted_and_repeating_changes_nothing(
    source: Session, new_vm: Any
) -> None:
    vm = new_vm()
    for _ in range(2):
        source.power_on(vm)
        assert source.power_state(vm) == "poweredOn"
    for _ in range(2):
        source.power_off(vm)
        assert source.power_state(vm) == "poweredOff"
    source.shutdown_guest(vm)
    assert len(source.recent_tasks(vm)) == 2


def test_a_guest_is_shut_down_and_waited_for(
    source: Session, new_vm: Any, control: LabControl
) -> None:
    vm = new_vm(power_on=True)
    control.set_guest(SITE, vm.moref, shutdown_s=0.3)
    seen: list[GuestState] = []
    source.shutdown_guest(vm)
    source.wait_power(vm, "poweredOff", 20, on_tick=lambda left, guest: seen.append(guest))
    assert seen[0].guest_state == "shuttingDown"
    assert source.power_state(vm) == "poweredOff"


def test_a_guest_that_hangs_is_told_with_its_state(
    source: Session, new_vm: Any, control: LabControl
) -> None:
    vm = new_vm(power_on=True)
    control.set_guest(SITE, vm.moref, shutdown="hangs")
    source.shutdown_guest(vm)
    left: list[float] = []
    with pytest.raises(PowerTimeout, match="still poweredOn") as caught:
        source.wait_power(vm, "poweredOff", 0.3, on_tick=lambda seconds, _: left.append(seconds))
    assert caught.value.where.vm == vm.name
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0.0
    assert source.power_state(vm) == "poweredOn"


def test_nobody_is_asked_to_shut_down_without_tools(
    source: Session, new_vm: Any, control: LabControl
) -> None:
    vm = new_vm(power_on=True)
    control.set_guest(SITE, vm.moref, tools="notInstalled")
    with pytest.raises(ToolsUnavailable, match="not installed"):
        source.shutdown_guest(vm)
    assert source.power_state(vm) == "poweredOn"


def test_a_booting_guest_is_waited_for(source: Session, new_vm: Any, control: LabControl) -> None:
    vm = new_vm()
    control.set_guest(SITE, vm.moref, tools="notRunning")
    source.power_on(vm)
    with pytest.raises(PowerTimeout, match="running Tools"):
        source.wait_guest(vm, 0.1)
    timer = threading.Timer(0.2, lambda: control.set_guest(SITE, vm.moref, tools="running"))
    timer.start()
    assert source.wait_guest(vm, 20).heartbeat == "green"
    timer.join()
