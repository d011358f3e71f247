"""Tickets: what is asked of which object, and what its faults become."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import VmomiSupport, vim, vmodl

from vreplica.disk import MemoryDisk
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc import errors, ticket
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.open import open_nfc_disk
from vreplica.nfc.ticket import TicketService

LEAF = "[ds1] web/web-000002.vmdk"
MIDDLE = "[ds1] web/web-000001.vmdk"
BASE = "[ds1] web/web.vmdk"
OTHER = "[ds1] web/other.vmdk"
RIGHT = "VirtualMachine.Provisioning.DiskRandomRead"


def backing(*paths: str) -> Any:
    made = None
    for path in reversed(paths):
        made = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=path, diskMode="persistent", parent=made
        )
    return made


class Stub:
    """Answers as a server does, from `answers`; keeps what was asked. No network."""

    def __init__(self, api: str = "VirtualCenter") -> None:
        self.host = "10.0.0.7:443"
        self.version = "vim.version.version9"
        self.asked: list[tuple[str, ...]] = []
        self.morefs = {"nfcService"} if api == "VirtualCenter" else {"ha-nfc-service"}
        self.ticket: Any = vim.HostServiceTicket(
            host="10.0.0.21" if api == "VirtualCenter" else None,
            port=902,
            sslThumbprint="AA:BB",
            service="vpxa-nfc" if api == "VirtualCenter" else "nfc",
            serviceVersion="1.1",
            sessionId="52cdebc5",
        )
        self.raises: list[Exception] = []
        self.runtime = vim.host.RuntimeInfo(connectionState="connected", inMaintenanceMode=False)
        self.vm_host: Any = vim.HostSystem("host-9", self)
        self._api = api

    def InvokeMethod(self, mo: Any, info: Any, args: Any, outer: Any = None) -> Any:
        self.asked.append((mo._moId, info.wsdlName, *(str(getattr(a, "_moId", a)) for a in args)))
        if mo._moId not in self.morefs:
            raise vmodl.fault.ManagedObjectNotFound(obj=mo)
        if self.raises:
            raise self.raises.pop(0)
        return self.ticket

    def InvokeAccessor(self, mo: Any, info: Any) -> Any:
        values: dict[tuple[str, str], Callable[[], Any]] = {
            ("ServiceInstance", "content"): lambda: vim.ServiceInstanceContent(
                about=vim.AboutInfo(apiType=self._api)
            ),
            ("vm-42", "name"): lambda: "web",
            ("vm-42", "runtime"): lambda: vim.vm.RuntimeInfo(host=self.vm_host),
            ("vm-42", "config"): lambda: vim.vm.ConfigInfo(
                hardware=vim.vm.VirtualHardware(
                    device=[
                        vim.vm.device.VirtualLsiLogicController(key=1000),
                        vim.vm.device.VirtualDisk(key=2000, backing=backing(OTHER)),
                        vim.vm.device.VirtualDisk(key=2001, backing=backing(LEAF, MIDDLE, BASE)),
                    ]
                )
            ),
            ("host-9", "runtime"): lambda: self.runtime,
        }
        return values[mo._moId, info.name]()


def service(stub: Stub, path: str = LEAF, **options: Any) -> TicketService:
    return TicketService(stub, "vm-42", path, **options)


def test_the_type_is_registered_once_with_four_methods() -> None:
    kind = ticket.register()
    assert ticket.register() is kind
    assert kind._wsdlName == "NfcService"
    info = VmomiSupport.GetWsdlMethod("urn:vim25", "NfcRandomAccessOpenDisk").info
    assert [p.name for p in info.params] == ["vm", "diskDeviceKey", "hostForAccess"]
    assert info.result is vim.HostServiceTicket


def test_a_read_ticket_of_vcenter_names_the_host() -> None:
    stub = Stub()
    made = service(stub).ticket(read_only=True)
    assert stub.asked == [("nfcService", "NfcGetVmFiles", "vm-42")]
    assert made == NfcTicket("10.0.0.21", 902, "vpxa-nfc", "AA:BB", "52cdebc5")
    assert "52cdebc5" not in repr(made)


@pytest.mark.parametrize("path", [LEAF, MIDDLE, BASE])
def test_a_write_ticket_names_disk_and_host(path: str) -> None:
    """Any link of the chain stands for its disk."""
    stub = Stub()
    service(stub, path).ticket(read_only=False)
    call = ("nfcService", "NfcRandomAccessOpenDisk", "vm-42", "2001", "host-9")
    assert stub.asked == [call]


def test_a_key_that_is_known_is_not_looked_for() -> None:
    stub = Stub()
    service(stub, "[ds1] elsewhere.vmdk", disk_key=2000).ticket(read_only=False)
    assert stub.asked[0][3] == "2000"


def test_writing_a_disk_that_the_vm_does_not_have() -> None:
    with pytest.raises(errors.DiskNotOfVm) as caught:
        service(Stub(), "[ds1] elsewhere.vmdk").ticket(read_only=False)
    assert "elsewhere" in str(caught.value)


def test_a_bare_host_has_another_moref_and_is_the_host_itself() -> None:
    stub = Stub("HostAgent")
    source = service(stub)
    made = source.ticket(read_only=True)
    assert (made.host, made.service) == ("10.0.0.7", "nfc")
    assert stub.asked == [("ha-nfc-service", "NfcGetVmFiles", "vm-42")]


def test_the_moref_that_a_bare_host_knows_is_found_once() -> None:
    stub = Stub("HostAgent")
    stub.morefs = {"ha-nfc"}
    source = service(stub)
    source.ticket(read_only=True)
    source.ticket(read_only=True)
    assert [call[0] for call in stub.asked] == ["ha-nfc-service", "ha-nfc", "ha-nfc"]


def test_a_server_without_the_service_refuses() -> None:
    stub = Stub()
    stub.morefs = set()
    with pytest.raises(errors.TicketRefused) as caught:
        service(stub).ticket(read_only=True)
    assert caught.value.fault == "ManagedObjectNotFound"


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (
            vim.fault.NoPermission(privilegeId="VirtualMachine.X"),
            "TicketRefused",
            "VirtualMachine.X",
        ),
        (
            vim.fault.NotAuthenticated(privilegeId="System.View"),
            "TicketUnreachable",
            "the session has ended",
        ),
        (vmodl.fault.HostNotConnected(msg="not connected"), "TicketUnreachable", "not connected"),
        (vim.fault.InvalidState(msg="in that state"), "TicketRefused", "in that state"),
        (OSError("no route"), "TicketUnreachable", "no route"),
    ],
)
def test_faults_become_errors_that_say_whether_a_retry_helps(
    fault: Exception, kind: str, says: str
) -> None:
    stub = Stub()
    stub.raises = [fault, fault]
    with pytest.raises(errors.TicketRefused) as caught:
        service(stub).ticket(read_only=True)
    assert type(caught.value).__name__ == kind
    assert caught.value.retryable == (kind == "TicketUnreachable")
    assert says in str(caught.value)
    assert LEAF in str(caught.value)


@pytest.mark.parametrize("stale", [ConnectionResetError("stale"), ssl.SSLEOFError(8, "stale")])
def test_a_stale_pooled_connection_is_tried_once_more(stale: OSError) -> None:
    stub = Stub()
    stub.raises = [stale]
    assert service(stub).ticket(read_only=True).session_id == "52cdebc5"
    stub.raises = [ConnectionResetError("stale"), ConnectionResetError("really")]
    with pytest.raises(errors.TicketUnreachable):
        service(stub).ticket(read_only=True)


def test_the_hosts_state_explains_what_902_cannot() -> None:
    stub = Stub()
    source = service(stub)
    assert source.host_trouble() is None
    stub.runtime.inMaintenanceMode = True
    assert source.host_trouble() == "the host is in maintenance mode"
    stub.runtime.connectionState = "notResponding"
    assert source.host_trouble() == "vCenter says the host is notResponding"


def test_a_host_that_the_account_cannot_see_is_told() -> None:
    stub = Stub()
    stub.vm_host = None
    source = service(stub)
    assert source.host_trouble() is None
    assert source.ticket(read_only=True).host == "10.0.0.21"
    with pytest.raises(errors.TicketRefused, match="cannot see the VM's ESXi host"):
        source.ticket(read_only=False)


def test_a_function_is_asked_for_the_connection_of_every_ticket() -> None:
    stubs: list[Stub] = []

    def log_in() -> Stub:
        stubs.append(Stub())
        return stubs[-1]

    source = TicketService(log_in, "vm-42", LEAF)
    assert not stubs
    source.ticket(read_only=True)
    source.ticket(read_only=True)
    assert [len(stub.asked) for stub in stubs] == [1, 1]
    assert source.host_trouble() is None
    assert len(stubs) == 2


def test_open_disk_with_a_stub_needs_to_know_the_vm() -> None:
    with pytest.raises(TypeError):
        open_nfc_disk(Stub(), path=LEAF)


def test_open_disk_goes_from_stub_to_disk(tmp_path: Path) -> None:
    with StandaloneHost(tmp_path) as host:
        host.store.disks[LEAF] = MemoryDisk(1 << 20)
        stub = Stub()
        given = host.ticket(read_only=False)
        stub.ticket = vim.HostServiceTicket(
            host=given.host,
            port=given.port,
            sslThumbprint=given.thumbprint_sha1,
            service=given.service,
            serviceVersion="1.1",
            sessionId=given.session_id,
        )
        source = vim.ServiceInstance("ServiceInstance", stub)
        disk = open_nfc_disk(source, path=LEAF, vm="vm-42", read_only=False, config=host.config())
        disk.write_from(0, memoryview(b"t" * 512))
        disk.close()
        assert disk.capacity_bytes == 1 << 20


def test_plain_mode_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with StandaloneHost(tmp_path) as host:
        host.store.disks[LEAF] = MemoryDisk(1 << 20)
        open_nfc_disk(host, path=LEAF, config=host.config(mode="nbd")).close()
    assert "unencrypted" in caplog.text
