"""A lab that version 0.1 has made, and that was killed while it ran, starts with all it had.

tests/samples/README.md says how it was made. Expected values belong to the sample and stay.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica.lab import Lab, LabControl
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.lab_dir import free_port
from vreplica.units import KIB, MIB

SAMPLE = Path(__file__).parent.parent / "samples" / "v0_1" / "lab"
CHANGE_IDS = [
    "99 4e 4f d3 ce 89 42 32-bb d9 7a da 97 b8 e3 3a/3",
    "d7 3a 52 ae 2e 83 4c 04-97 94 9e 86 09 6b 99 05/3",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("older") / "lab"
    with tarfile.open(SAMPLE / "files.tar.xz") as files:
        files.extractall(folder, filter="data")
    config = json.loads((SAMPLE / "lab.json").read_text())
    for site in config["sites"]:
        name, port = site["name"], free_port("127.0.0.1")
        site["port"] = site["spec"]["port"] = port
        site["url"] = f"https://127.0.0.1:{port}/sdk"
        ServerCertificate.create(folder / name / "site.pem", name)
        with closing(sqlite3.connect(folder / name / "state.db")) as database:
            database.executescript((SAMPLE / f"{name}.sql").read_text())
    (folder / "lab.json").write_text(json.dumps(config))
    with Lab(folder) as running:
        yield running


@pytest.fixture
def sites(lab: Lab, connect: Callable[..., Any]) -> dict[str, Any]:
    return {spec.name: connect(spec) for spec in lab.specs}


def vms(site: Any) -> dict[str, Any]:
    content = site.content
    view = content.viewManager.CreateContainerView(
        content.rootFolder, [vim.VirtualMachine], True
    ).view
    return {vm.name: vm for vm in view}


def wait(task: Any) -> Any:
    WaitForTask(task)
    return task.info.result


def disks(vm: Any) -> list[Any]:
    return [d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]


def test_vms_have_their_names_ids_power_and_configuration(sites: dict[str, Any]) -> None:
    found = vms(sites["site-a"])
    assert {n: (v._moId, v.runtime.powerState) for n, v in found.items()} == {
        "web01": ("vm-1018", "poweredOn"),
        "win01": ("vm-1024", "poweredOn"),
        "tmpl": ("vm-1028", "poweredOff"),
        "linked": ("vm-1033", "poweredOff"),
    }
    web = found["web01"]
    assert {"guestinfo.note": "kept"}.items() <= {
        o.key: o.value for o in web.config.extraConfig
    }.items()
    assert web.config.changeVersion == "2026-11-30T19:09:31.538946+00:00"
    assert web.guest.ipAddress == "10.0.0.5"
    assert web.guest.hostName == "web01.example"
    assert [v.value for v in web.customValue] == ["ops"]
    assert web.runtime.host.name == "esx1.site-a.lab"
    assert [n.name for n in found["win01"].network] == ["dv-prod"]
    assert sites["site-a"].content.about.instanceUuid == "ab0e57ce-d3b5-448f-b8c2-29c50809bb5c"


def test_snapshots_stand_with_their_change_ids(sites: dict[str, Any]) -> None:
    found = vms(sites["site-a"])
    first = found["web01"].snapshot.rootSnapshotList[0]
    assert (first.name, first.description, first.quiesced) == ("first", "d1", True)
    assert [s.name for s in first.childSnapshotList] == ["second"]
    assert [d.backing.changeId for d in disks(found["web01"])] == CHANGE_IDS
    assert [d.backing.changeId for d in disks(first.snapshot)] == [
        i.replace("/3", "/1") for i in CHANGE_IDS
    ]
    vss = found["win01"].snapshot.rootSnapshotList[0]
    assert vss.backupManifest == "vss_manifests1.zip"


def test_a_guest_reads_what_it_has_written_and_changes_are_told(
    control: LabControl, sites: dict[str, Any]
) -> None:
    for offset, letter in ((0, b"A"), (64 * KIB, b"B"), (128 * KIB, b"C")):
        assert control.guest_read("site-a", "web01", 2000, offset, 512) == letter * 512
    web = vms(sites["site-a"])["web01"]
    task = web.CreateSnapshot_Task(name="third", description="", memory=False, quiesce=False)
    third = wait(task)
    since = CHANGE_IDS[0].replace("/3", "/1")
    areas = web.QueryChangedDiskAreas(third, 2000, 0, since).changedArea
    assert [(a.start, a.length) for a in areas] == [(64 * KIB, 128 * KIB)]
    wait(web.RemoveAllSnapshots_Task())
    assert web.snapshot is None
    for offset, letter in ((0, b"A"), (64 * KIB, b"B"), (128 * KIB, b"C")):
        assert control.guest_read("site-a", "web01", 2000, offset, 512) == letter * 512


def test_a_linked_clone_with_a_customization_starts_on_its_parent(sites: dict[str, Any]) -> None:
    found = vms(sites["site-a"])
    linked = found["linked"]
    assert linked.guest.customizationInfo.customizationStatus == "TOOLSDEPLOYPKG_PENDING"
    wait(linked.PowerOnVM_Task())
    deadline = time.monotonic() + 10
    while linked.guest.customizationInfo.customizationStatus != "TOOLSDEPLOYPKG_SUCCEEDED":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert linked.guest.ipAddress == "10.0.0.9"
    manager = sites["site-a"].content.customizationSpecManager
    assert manager.GetCustomizationSpec("static").spec.identity.domain == "lab"


def test_settings_capacities_and_users_are_kept(
    lab: Lab, control: LabControl, sites: dict[str, Any], connect: Callable[..., Any]
) -> None:
    settings = control.settings("site-a")
    assert (settings["page_size"], settings["track_outside_writes"]) == (7, True)
    datacenter = sites["site-a"].content.rootFolder.childEntity[0]
    assert {d.name: d.summary.capacity for d in datacenter.datastore}["site-a-ds2"] == 64 * MIB
    hosts = datacenter.hostFolder.childEntity[0].host
    assert {h.name: h.summary.hardware.memorySize for h in hosts}["esx2.site-a.lab"] == 4096 * MIB
    reader = connect(lab.specs[0], "reader", "pw")
    with pytest.raises(vim.fault.NoPermission):
        vms(reader)["tmpl"].Destroy_Task()
    assert control.guest_path("site-a", "web01", "/tmp/note.txt").read_text() == "in the guest\n"


def test_fault_rules_go_on_where_they_stood(control: LabControl, sites: dict[str, Any]) -> None:
    rule = control.list_faults("site-a")[0]
    assert (rule["method"], rule["count"], rule["struck"]) == ("Rename_Task", 3, 1)
    template = vms(sites["site-a"])["tmpl"]
    for _ in range(2):
        with pytest.raises(vim.fault.InvalidName):
            template.Rename_Task("other")
    wait(template.Rename_Task("template"))
    assert {f["host"] for f in control.list_nfc_faults("site-a")} == {
        "esx1.site-a.lab",
        "esx2.site-a.lab",
    }


def test_a_task_that_ran_has_failed_and_events_are_kept(sites: dict[str, Any]) -> None:
    content = sites["site-a"].content
    task = vim.Task("task-1036", sites["site-a"]._stub)
    assert task.info.state == "error"
    assert task.info.error.reason == "restart"
    events = content.eventManager.QueryEvents(vim.event.EventFilterSpec())
    assert [type(e).__name__.rpartition(".")[2] for e in events[:4]] == [
        "UserLoginSessionEvent",
        "VmPoweredOnEvent",
        "VmPoweredOnEvent",
        "VmClonedEvent",
    ]


def test_a_vm_that_needs_consolidation_is_consolidated(sites: dict[str, Any]) -> None:
    stuck = vms(sites["site-b"])["stuck"]
    assert stuck.runtime.consolidationNeeded
    wait(stuck.ConsolidateVMDisks_Task())
    assert not stuck.runtime.consolidationNeeded
    assert [d.backing.parent for d in disks(stuck)] == [None]


def test_a_vm_that_was_unregistered_is_registered_again(sites: dict[str, Any]) -> None:
    datacenter = sites["site-b"].content.rootFolder.childEntity[0]
    cluster = datacenter.hostFolder.childEntity[0]
    task = datacenter.vmFolder.RegisterVM_Task(
        path="[site-b-ds1] gone/gone.vmx",
        asTemplate=False,
        pool=cluster.resourcePool,
        host=cluster.host[0],
    )
    gone = wait(task)
    assert gone.name == "gone"
    assert [s.name for s in gone.snapshot.rootSnapshotList] == ["s"]
    wait(gone.PowerOnVM_Task())
