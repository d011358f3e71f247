"""NFC through the lab: tickets by SOAP, disks as VMDK files, snapshots, running VMs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica import disk_errors
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.disk_errors import DiskFull
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.lab import Lab, LabControl
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc import NfcServer
from vreplica.nfc import errors
from vreplica.nfc.authd import probe
from vreplica.nfc.config import HostLimits, NfcConfig, NfcMode, NfcTimeouts
from vreplica.nfc.disk import NfcDisk
from vreplica.nfc.open import check_host_access, open_nfc_disk
from vreplica.units import KIB, MIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk as open_vddk
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import connect

CAPACITY = 24 * MIB
KEY = 2000


@pytest.fixture
def config(tmp_path: Path) -> NfcConfig:
    return NfcConfig(
        timeouts=NfcTimeouts(5, 5, 5, 5, 5),
        limits=HostLimits(runtime_dir=tmp_path / "run", wait_s=5),
        reconnect_wait_s=0.02,
    )


@pytest.fixture
def open_(si: Any, config: NfcConfig) -> Callable[..., NfcDisk]:
    def go(vm: dict[str, Any], path: str | None = None, **options: Any) -> NfcDisk:
        options.setdefault("config", config)
        where = path or vm["disks"][0]["path"]
        return open_nfc_disk(si, vm=vm["moref"], path=where, **options)

    return go


def make(control: LabControl, name: str, **options: Any) -> dict[str, Any]:
    return control.create_vm("site-a", name, disks=[(CAPACITY, True, None)], **options)


def through_vddk(lab: Lab, vm: dict[str, Any], path: str, *, read_only: bool = True) -> Any:
    """The same disk through the VixDiskLib ABI and the lab's map."""
    spec = lab.specs[0]
    entry = lab.dir.read()["sites"][0]
    connection = VddkConnection(
        server=spec.host,
        port=spec.port,
        user=spec.user,
        password=spec.password,
        thumbprint_sha1=entry["sha1"],
        vmx_spec=f"moref={vm['moref']}",
        read_only=read_only,
    )
    config = VddkConfig(config_file=lab.directory / "vixdisklib.conf")
    return open_vddk(config, connection, path, read_only=read_only)


@pytest.fixture(params=["nfc", "vddk"])
def writing(request: Any, lab: Lab, open_: Any) -> Callable[..., Any]:
    """Opens a disk of a VM for writing, by either way."""

    def go(vm: dict[str, Any], path: str) -> Any:
        if request.param == "vddk":
            return closing(through_vddk(lab, vm, path, read_only=False))
        return closing(open_(vm, path=path, read_only=False))

    return go


def snapshot(si: Any, vm: dict[str, Any]) -> Any:
    task = vim.VirtualMachine(vm["moref"], si._stub).CreateSnapshot_Task("s", "", False, False)
    WaitForTask(task)
    return task.info.result


def nfc_server(lab: Lab, vm: str) -> NfcServer:
    site = lab.sites["site-a"]
    found: NfcServer = site.host_servers.by_host[site.find_vm(vm).host._moId]
    return found


@pytest.mark.parametrize("mode", ["nbd", "nbdssl"])
def test_a_replica_is_written_and_reads_the_same_by_nfc_and_by_vddk(
    lab: Lab, control: LabControl, open_: Any, config: NfcConfig, mode: NfcMode
) -> None:
    vm = make(control, f"replica-{mode}")
    path = vm["disks"][0]["path"]
    data = os.urandom(3 * MIB)
    settings = NfcConfig(mode=mode, limits=config.limits)
    with closing(open_(vm, read_only=False, config=settings)) as disk:
        disk.write_from(5 * MIB, memoryview(data))
    for source in (open_(vm, config=settings), through_vddk(lab, vm, path)):
        with closing(source) as disk:
            assert disk.capacity_bytes == CAPACITY
            back = bytearray(CAPACITY)
            disk.read_into(0, memoryview(back))
            assert back == bytes(5 * MIB) + data + bytes(16 * MIB)
            assert disk.allocated().covers(Extents.of(5 * MIB, 8 * MIB))


def test_check_logs_in_and_opens_nothing(
    lab: Lab, si: Any, control: LabControl, config: NfcConfig
) -> None:
    vm = make(control, "checked")
    path, server = vm["disks"][0]["path"], nfc_server(lab, "checked")
    for read_only in (True, False):
        host = check_host_access(si, vm=vm["moref"], path=path, read_only=read_only, config=config)
        assert host == server.address
    pinned = replace(config, pinned_sha256={server.address: "00" * 32})
    with pytest.raises(errors.HostCertificateMismatch):
        check_host_access(si, vm=vm["moref"], path=path, config=pinned)


def test_an_account_without_the_privilege_gets_no_ticket(
    lab: Lab, control: LabControl, connect: Callable[..., Any], config: NfcConfig
) -> None:
    vm = make(control, "forbidden")
    control.set_user("site-a", "guest", "guest", ["System.Read"])
    with pytest.raises(errors.TicketRefused) as caught:
        check_host_access(
            connect(lab.specs[0], user="guest", password="guest"),
            vm=vm["moref"],
            path=vm["disks"][0]["path"],
            config=config,
        )
    assert "VirtualMachine.Provisioning.DiskRandomRead" in str(caught.value)


def test_the_disk_database_is_the_vmdks(control: LabControl, open_: Any) -> None:
    vm = make(control, "database")
    with closing(open_(vm)) as disk:
        assert disk.info.capacity_bytes == CAPACITY
        assert disk.info.uuid.startswith("60 00 c2 9")
        assert disk.info.adapter_type == "lsilogic"


def test_a_running_vm_is_read_below_its_snapshot_only(
    si: Any, control: LabControl, open_: Any
) -> None:
    vm = make(control, "running", power_on=True)
    base = vm["disks"][0]["path"]
    control.guest_write("site-a", "running", KEY, 0, b"before--" * 64)
    with pytest.raises(disk_errors.FileAccess) as caught:
        open_(vm)
    assert "snapshot" in caught.value.remedy

    frozen = snapshot(si, vm)
    control.guest_write("site-a", "running", KEY, 0, b"after---" * 64)
    disks = [d for d in frozen.config.hardware.device if d.key == KEY]
    assert disks[0].backing.fileName == base
    with closing(open_(vm, base)) as disk:
        back = bytearray(512)
        disk.read_into(0, memoryview(back))
        assert back == b"before--" * 64
    leaf = control.describe_vm("site-a", "running")["disks"][0]["path"]
    assert leaf != base
    for path, read_only in ((leaf, True), (leaf, False), (base, False)):
        with pytest.raises(disk_errors.FileAccess):
            open_(vm, path, read_only=read_only)


def test_a_delta_is_copied_from_a_snapshot_to_a_replica(
    si: Any, control: LabControl, open_: Any
) -> None:
    """The engine's own copier between two disks that are open over NFC."""
    source = make(control, "copied", power_on=True)
    for at in (0, 3 * MIB, CAPACITY - 64 * KIB):
        control.guest_write("site-a", "copied", KEY, at, os.urandom(64 * KIB))
    snapshot(si, source)
    target = make(control, "copied-replica")
    with (
        closing(open_(source)) as read,
        closing(open_(target, read_only=False)) as write,
    ):
        copy(CopySpec(read, write, read.allocated()))
    first, second = bytearray(CAPACITY), bytearray(CAPACITY)
    with closing(open_(source)) as one, closing(open_(target)) as two:
        one.read_into(0, memoryview(first))
        two.read_into(0, memoryview(second))
    assert first == second
    assert any(first)


def test_a_disk_that_is_written_is_locked_for_all_others(
    lab: Lab, control: LabControl, open_: Any
) -> None:
    vm = make(control, "locked")
    path = vm["disks"][0]["path"]
    with closing(open_(vm, read_only=False)):
        for read_only in (True, False):
            with pytest.raises(disk_errors.DiskLocked):
                open_(vm, read_only=read_only)
            with pytest.raises(VReplicaError) as caught:
                through_vddk(lab, vm, path, read_only=read_only)
            assert type(caught.value).__name__ == "DiskLocked"
    with closing(through_vddk(lab, vm, path, read_only=False)):
        for read_only in (True, False):
            with pytest.raises(disk_errors.DiskLocked):
                open_(vm, read_only=read_only)
    open_(vm, read_only=False).close()


def test_a_ticket_covers_one_vm_and_for_writing_one_disk(
    si: Any, control: LabControl, open_: Any
) -> None:
    mine = control.create_vm(
        "site-a", "covered", disks=[(CAPACITY, True, None), (CAPACITY, True, None)]
    )
    other = make(control, "not-covered")["disks"][0]["path"]
    with pytest.raises(disk_errors.FileAccess):
        open_(mine, other)
    second = mine["disks"][1]["path"]
    with closing(open_(mine, second, read_only=False)):
        pass
    with pytest.raises(disk_errors.FileAccess):
        open_(mine, second, read_only=False, disk_key=KEY)
    with pytest.raises(errors.DiskNotOfVm):
        open_(mine, other, read_only=False)


def test_paths_that_are_not_there(control: LabControl, open_: Any) -> None:
    vm = make(control, "paths")
    server_refuses = disk_errors.FileAccess  # a ticket says nothing of files that are not its VM's
    for path in ("[site-a-ds1] paths/none.vmdk", "[nowhere] a/a.vmdk", "[site-a-ds1] ../../x"):
        with pytest.raises(server_refuses):
            open_(vm, path)


def test_a_host_that_is_cut_off_is_said_so(lab: Lab, control: LabControl, open_: Any) -> None:
    vm = make(control, "cut-off")
    with closing(open_(vm)) as disk:
        control.set_host("site-a", connected=False)
        try:
            with pytest.raises(errors.TicketUnreachable) as caught:
                open_(vm)
            assert "HostNotConnected" in str(caught.value)
            # What is open stays open: the data path does not go through vCenter.
            disk.read_into(0, memoryview(bytearray(MIB)))
        finally:
            control.set_host("site-a", connected=True)


def test_a_host_in_maintenance_whose_port_is_closed_is_said_so(
    control: LabControl, si: Any, config: NfcConfig, open_: Any
) -> None:
    vm = make(control, "maintained")
    control.set_host("site-a", maintenance=True)
    try:
        for ask in (
            lambda: open_(vm),
            lambda: check_host_access(
                si, vm=vm["moref"], path=vm["disks"][0]["path"], config=config
            ),
        ):
            with pytest.raises(disk_errors.HostLeaving) as caught:
                ask()
            assert "the host is in maintenance mode" in caught.value.message
    finally:
        control.set_host("site-a", maintenance=False)
    open_(vm).close()


def test_a_renewed_certificate_is_refused_with_both_thumbprints_until_vcenter_knows_it(
    lab: Lab, control: LabControl, open_: Any, tmp_path: Path
) -> None:
    vm = make(control, "renewed")
    server = nfc_server(lab, "renewed")
    old, new = server.certificate, ServerCertificate.create(tmp_path / "new.pem", "esx1.site-a.lab")
    context, server._context = server._context, new.tls_context()
    try:
        with pytest.raises(errors.HostCertificateMismatch) as caught:
            open_(vm)
        told = caught.value
        assert (told.expected, told.found) == (old.thumbprints.sha1, new.thumbprints.sha1)
        assert old.thumbprints.sha1 in told.message
        assert new.thumbprints.sha1 in told.message
        server.certificate = new  # vCenter hands out the new one
        open_(vm).close()
    finally:
        server.certificate, server._context = old, context


def test_a_cycle_goes_on_over_a_connection_that_the_host_cut(
    lab: Lab, control: LabControl, open_: Any
) -> None:
    vm = make(control, "flaky")
    data = os.urandom(CAPACITY)
    with closing(open_(vm, read_only=False)) as disk:
        disk.write_from(0, memoryview(data)[: 4 * MIB])
        nfc_server(lab, "flaky").drop_all()
        disk.write_from(4 * MIB, memoryview(data)[4 * MIB :])
        assert disk.stats.connections == 2
    control.add_nfc_fault("site-a", kind="drop", operation="read", skip=7)
    with closing(open_(vm)) as disk:
        back = bytearray(CAPACITY)
        disk.read_into(0, memoryview(back))
        assert back == data
        assert disk.stats.connections == 2
    control.clear_faults("site-a")


@pytest.mark.parametrize("meanwhile", ["end_sessions", "restart_site"])
def test_a_session_that_ended_meanwhile_is_opened_again_for_the_ticket(
    lab: Lab, control: LabControl, config: NfcConfig, meanwhile: str
) -> None:
    vm = make(control, meanwhile)
    entry, spec = lab.dir.read()["sites"][0], lab.specs[0]
    end = Endpoint(spec.host, spec.user, spec.password, entry["sha256"], spec.port)
    with connect(end) as session:

        def logged_in() -> Any:
            session.refresh()
            return session.service_instance

        path = vm["disks"][0]["path"]
        with closing(
            open_nfc_disk(logged_in, vm=vm["moref"], path=path, read_only=False, config=config)
        ) as disk:
            getattr(control, meanwhile)("site-a")
            nfc_server(lab, meanwhile).drop_all()
            disk.write_from(0, memoryview(b"s" * MIB))
            assert disk.stats.connections == 2


def test_a_disk_is_opened_again_over_a_connection_to_vcenter_that_is_dead(
    lab: Lab, control: LabControl, open_: Any
) -> None:
    vm = make(control, "stale")
    with closing(open_(vm, read_only=False)) as disk:
        control.drop_connections("site-a")
        nfc_server(lab, "stale").drop_all()
        # The stub's pooled connection is dead as well: asking for the ticket tries twice.
        disk.write_from(0, memoryview(b"r" * MIB))
        assert disk.stats.connections == 2


def test_the_hosts_certificate_is_kept_over_a_restart_of_the_lab(tmp_path: Path) -> None:
    lab = Lab.create(tmp_path / "lab", sites=("a",))
    prints = []
    for _ in range(2):
        with lab:
            site = lab.sites["a"]
            (server,) = site.host_servers.by_host.values()
            prints.append(server.certificate.thumbprints)
    assert prints[0] == prints[1]


def test_many_hosts_have_a_server_each(tmp_path: Path) -> None:
    with Lab.create(tmp_path / "lab", sites=("a",), hosts=3) as lab:
        site = lab.sites["a"]
        servers = list(site.host_servers.by_host.values())
        assert len({s.port for s in servers}) == 3
        assert len({s.certificate.thumbprints.sha1 for s in servers}) == 3
        for server in servers:
            assert "NFCSSL supported" in probe("127.0.0.1", server.port)


def test_a_datastore_that_is_full_refuses_writes_until_there_is_room(
    lab: Lab, control: LabControl, writing: Any, request: Any
) -> None:
    disks = [(CAPACITY, True, None), (4 * MIB, False, None)]
    vm = control.create_vm("site-a", request.node.name[-60:], disks=disks)
    thin, thick = (d["path"] for d in vm["disks"])
    store = lab.sites["site-a"].datastore("site-a-ds1")
    before, data = store.capacity, memoryview(os.urandom(MIB))
    control.set_datastore(
        "site-a", "site-a-ds1", capacity=lab.sites["site-a"].disks.used("site-a-ds1") + 3 * MIB
    )
    try:
        with writing(vm, thin) as disk:
            disk.write_from(0, data)
            disk.write_from(MIB, data)
            with pytest.raises((disk_errors.DiskFull, DiskFull), match="site-a-ds1"):
                disk.write_many([(number * MIB, data) for number in range(2, 8)])
            # What is there already can be written again.
            disk.write_from(0, data)
        # A thick disk has its room.
        with writing(vm, thick) as disk:
            disk.write_from(0, data)
    finally:
        control.set_datastore("site-a", "site-a-ds1", capacity=before)
    with writing(vm, thin) as disk:
        disk.write_from(7 * MIB, data)


@pytest.mark.parametrize("tracked", [False, True])
def test_writes_from_outside_are_in_the_change_map_where_the_lab_is_set_so(
    control: LabControl, si: Any, writing: Any, tracked: bool, request: Any
) -> None:
    vm = make(control, request.node.name[-60:], cbt=True)
    first = snapshot(si, vm)
    change_id = next(d for d in first.config.hardware.device if d.key == KEY).backing.changeId
    leaf = control.describe_vm("site-a", vm["moref"])["disks"][0]["path"]
    control.settings("site-a", track_outside_writes=tracked)
    try:
        with writing(vm, leaf) as disk:
            disk.write_from(MIB + 64 * KIB - 512, memoryview(os.urandom(1024)))
    finally:
        control.settings("site-a", track_outside_writes=False)
    taken = snapshot(si, vm)
    machine = vim.VirtualMachine(vm["moref"], si._stub)
    areas = machine.QueryChangedDiskAreas(taken, KEY, 0, change_id).changedArea
    assert [(a.start, a.length) for a in areas] == ([(MIB, 128 * KIB)] if tracked else [])


def test_a_link_that_a_client_reads_is_merged_or_not_as_the_lab_is_set(
    control: LabControl, si: Any, open_: Any
) -> None:
    vm = make(control, "merged under a reader")
    machine = vim.VirtualMachine(vm["moref"], si._stub)
    control.power("site-a", vm["moref"], on=True)
    path = vm["disks"][0]["path"]
    for merges in (True, False):
        taken = snapshot(si, vm)
        control.settings("site-a", merge_under_reader=merges)
        with closing(open_(vm, path)):
            if merges:
                WaitForTask(taken.RemoveSnapshot_Task(False))
            else:
                with pytest.raises(vim.fault.FileLocked):
                    WaitForTask(taken.RemoveSnapshot_Task(False))
            assert machine.runtime.consolidationNeeded is not merges
    WaitForTask(machine.ConsolidateVMDisks_Task())
    assert not machine.runtime.consolidationNeeded
    assert control.describe_vm("site-a", vm["moref"])["links"] == {path: ""}
    control.settings("site-a", merge_under_reader=True)
