"""Gets NFC tickets from vCenter or a single ESXi host, over a logged-in pyVmomi connection.

The NFC service is not in the public WSDL, so pyVmomi does not have its type. The type is registered
here, and its object is called like any other managed object:

    vCenter     moref nfcService       the ticket names the ESXi host, service vpxa-nfc
    single ESXi moref ha-nfc-service   the ticket names no host (it is this one), service nfc

To read: NfcGetVmFiles(vm). To write: NfcRandomAccessOpenDisk(vm, disk key, host); a read ticket
used for writing is answered with VIX_E_FILE_READ_ONLY. Source: protocol notes of
cloudbase/OpenVixDiskLib and hystax/OpenVixDiskLib (vCenter 8.0.1, ESXi 8.0.3). From API 9.0 on a
ticket holds the host's whole certificate (pyVmomi's type registry).
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.lazy import LoadedOnUse
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.channel import Thumbprints
from vreplica.nfc.errors import DiskNotOfVm, TicketRefused, TicketUnreachable
from vreplica.nfc.wire import AUTHD_PORT
from vreplica.redact import hide
from vreplica.units import KIB

# pyVmomi makes its types while it runs; what it declares of them for type checkers is partial.
# It is loaded by the first ticket.
VmomiSupport: Any = LoadedOnUse("pyVmomi.VmomiSupport")
vim: Any = LoadedOnUse("pyVmomi", "vim")
vmodl: Any = LoadedOnUse("pyVmomi", "vmodl")

SERVICE_TYPE: Final = "vim.NfcService"
SERVICE_WSDL: Final = "NfcService"

_VERSION: Final = "vim.version.version5"
"""Any version that every server knows is good: the calls are accepted in urn:vim25."""

_VM: Final = ("vm", "vim.VirtualMachine", _VERSION, 0, None)
_KEY: Final = ("diskDeviceKey", "int", _VERSION, 0, None)
_HOST: Final = ("hostForAccess", "vim.HostSystem", _VERSION, 0, None)
_TICKET: Final = "vim.HostServiceTicket"

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_DER_SEQUENCE: Final = b"\x30"

_DISK: Final = (_VM, _KEY, _HOST)
_READ: Final = "VirtualMachine.Provisioning.DiskRandomRead"
_WRITE: Final = "VirtualMachine.Provisioning.DiskRandomAccess"

METHODS: Final = (
    # vmodl name, WSDL name, parameters, result, privilege (VDDK 8.0 Programming Guide)
    ("getVmFiles", "NfcGetVmFiles", (_VM,), _TICKET, _READ),
    ("randomAccessOpenReadonly", "NfcRandomAccessOpenReadonly", _DISK, _TICKET, _READ),
    ("randomAccessOpenDisk", "NfcRandomAccessOpenDisk", _DISK, _TICKET, _WRITE),
    ("getServerNfcLibVersion", "NfcGetServerNfcLibVersion", (_HOST,), "int", "System.Read"),
)

# A single host was observed with the first name; VDDK's library also holds the second.
_MOREFS: Final = {"VirtualCenter": ("nfcService",), "HostAgent": ("ha-nfc-service", "ha-nfc")}


def register() -> Any:
    """Returns pyVmomi's class for the NFC service, and registers it the first time."""
    VmomiSupport.CreateManagedType(
        SERVICE_TYPE,
        SERVICE_WSDL,
        "vmodl.ManagedObject",
        _VERSION,
        [],
        [
            (name, wsdl, _VERSION, parameters, (0, result, result), privilege, [])
            for name, wsdl, parameters, result, privilege in METHODS
        ],
    )
    return VmomiSupport.GetVmodlType(SERVICE_TYPE)


class TicketService:
    """Gets tickets for one disk of one VM. Implements `vreplica.nfc.link.TicketSource`."""

    def __init__(
        self,
        source: Any,
        vm: str,
        path: str,
        *,
        disk_key: int | None = None,
        port: int = AUTHD_PORT,
    ) -> None:
        """source: a pyVmomi stub or ServiceInstance, or a function that returns one.

        The function is called for every ticket, so that it can log in again: a session that only
        copies makes no calls, and vCenter ends it after half an hour. vm: a moref. path: the
        disk's.
        """
        self._source = source
        self._moid = vm
        self._path = path
        self._disk_key = disk_key
        self._port = port
        self._moref: str | None = None
        self._stub: Any = None
        self._vm: Any = None
        if not callable(source):
            self._connect()

    def _connect(self) -> None:
        source = self._source() if callable(self._source) else self._source
        self._stub = getattr(source, "_stub", source)
        self._vm = vim.VirtualMachine(self._moid, self._stub)

    def ticket(self, *, read_only: bool) -> NfcTicket:
        """Returns a new ticket. Raises TicketRefused; TicketUnreachable where a retry may help."""
        if callable(self._source):
            self._connect()
        purpose = f"{'read' if read_only else 'write'} {self._path}"
        answer = self._ask(lambda: self._open(read_only), purpose)
        ticket = NfcTicket(
            host=answer.host or self._stub_host(),
            port=answer.port or self._port,
            service=answer.service,
            thumbprint_sha1=answer.sslThumbprint or "",
            session_id=answer.sessionId,
            certificate_sha256=self._sha256(getattr(answer, "sslCertificate", None), purpose),
        )
        if not _can_be_used(ticket):
            reason = "it names no host, port or service that can be"
            raise TicketRefused(vm=self._moid, purpose=purpose, fault="bad ticket", reason=reason)
        return ticket

    def host_trouble(self) -> str | None:
        """Says the state of the VM's host that keeps port 902 from answering; None: nothing."""
        if self._vm is None:
            self._connect()
        purpose = "ask for the host's state"
        try:
            runtime = self._ask(lambda: self._host(purpose).runtime, purpose)
        except TicketRefused:
            return None
        if runtime.connectionState != "connected":
            return f"vCenter says the host is {runtime.connectionState}"
        if runtime.inMaintenanceMode:
            return "the host is in maintenance mode"
        return None

    def capacity_bytes(self) -> int | None:
        """Returns the capacity that vCenter has for the disk; None where the VM has no such disk.

        Raises TicketRefused.
        """
        if self._vm is None:
            self._connect()
        purpose = f"ask for the capacity of {self._path}"
        for device, path in self._ask(lambda: list(self._links()), purpose):
            if device.key == self._disk_key if self._disk_key is not None else path == self._path:
                return int(device.capacityInBytes or device.capacityInKB * KIB)
        return None

    def _sha256(self, pem: str | None, purpose: str) -> str:
        """Returns the thumbprint of the certificate in a ticket; empty where it holds none."""
        if not pem:
            return ""
        found = _PEM.search(pem)
        try:
            der = ssl.PEM_cert_to_DER_cert(found[0] if found else "")
            if not der.startswith(_DER_SEQUENCE):
                raise ValueError
            return Thumbprints.of(der).sha256
        except ValueError:
            reason = "the certificate in it cannot be read"
            raise TicketRefused(
                vm=self._moid, purpose=purpose, fault="bad ticket", reason=reason
            ) from None

    # -- calls ------------------------------------------------------------------------------

    def _open(self, read_only: bool) -> Any:
        if read_only:
            return self._call(lambda service: service.NfcGetVmFiles(self._vm))
        key, host = self._key(), self._host(f"write {self._path}")
        return self._call(lambda service: service.NfcRandomAccessOpenDisk(self._vm, key, host))

    def _call(self, call: Callable[[Any], Any]) -> Any:
        """Calls the service; tries the morefs that it may have, once, and keeps the good one."""
        morefs = (self._moref,) if self._moref else self._candidates()
        for moref in morefs:
            try:
                answer = call(self._service(moref))
            except vmodl.fault.ManagedObjectNotFound as fault:
                if moref == morefs[-1] or fault.obj is None or self._is_vm(fault.obj):
                    raise
                continue
            self._moref = moref
            return answer
        raise AssertionError("there is at least one candidate")

    def _service(self, moref: str | None = None) -> Any:
        return register()(moref or self._moref or self._candidates()[0], self._stub)

    def _candidates(self) -> tuple[str, ...]:
        about = vim.ServiceInstance("ServiceInstance", self._stub).content.about
        return _MOREFS.get(about.apiType, _MOREFS["VirtualCenter"])

    def _is_vm(self, reference: Any) -> bool:
        return bool(getattr(reference, "_moId", None) == self._moid)

    def _host(self, purpose: str) -> Any:
        # Read each time: the VM may have moved since the last ticket.
        host = self._vm.runtime.host
        if host is None:
            reason = "the account cannot see the VM's ESXi host: give it Read-only there"
            raise TicketRefused(vm=self._moid, purpose=purpose, fault="no host", reason=reason)
        return host

    def _stub_host(self) -> str:
        """Returns the address of the stub's server, for the ticket of a single host."""
        address, _, port = str(self._stub.host).rpartition(":")
        return (address if port.isdigit() and address else str(self._stub.host)).strip("[]")

    def _key(self) -> int:
        if self._disk_key is None:
            for device, path in self._links():
                if path == self._path:
                    return int(device.key)
            raise DiskNotOfVm(
                vm=str(self._vm.name),
                purpose=f"write {self._path}",
                fault="no such disk",
                reason="no disk of the VM has this path in its chain",
            )
        return self._disk_key

    def _links(self) -> Iterator[tuple[Any, str]]:
        """Yields (device, path) of every link of every disk, leaf first."""
        for device in self._vm.config.hardware.device:
            if isinstance(device, vim.vm.device.VirtualDisk):
                backing = device.backing
                while backing is not None:
                    yield device, str(backing.fileName)
                    backing = getattr(backing, "parent", None)

    def _ask(self, call: Callable[[], Any], purpose: str) -> Any:
        vm = self._moid
        try:
            try:
                return call()
            except (ConnectionError, ssl.SSLEOFError, http.client.HTTPException):
                # A pooled connection that the server has closed fails once. Asking twice does no
                # harm: a ticket that is not used expires.
                return call()
        except vim.fault.NotAuthenticated as fault:
            # The fault also names a privilege, but the login is what is missing.
            reason = "the session has ended"
            raise TicketUnreachable(
                vm=vm, purpose=purpose, fault=_name(fault), reason=reason
            ) from fault
        except vmodl.fault.SecurityError as fault:
            privilege = getattr(fault, "privilegeId", None)
            reason = f"the account lacks {privilege}" if privilege else hide(str(fault.msg))
            raise TicketRefused(
                vm=vm, purpose=purpose, fault=_name(fault), reason=reason
            ) from fault
        except vmodl.MethodFault as fault:
            unreachable = (
                vmodl.fault.HostCommunication,
                vim.fault.HostConnectFault,
                vim.fault.TaskInProgress,
            )
            kind = TicketUnreachable if isinstance(fault, unreachable) else TicketRefused
            reason = hide(fault.msg or "") or "no reason was given"
            raise kind(vm=vm, purpose=purpose, fault=_name(fault), reason=reason) from fault
        except (OSError, http.client.HTTPException) as error:
            raise TicketUnreachable(
                vm=vm, purpose=purpose, fault="no answer", reason=hide(str(error)) or _name(error)
            ) from error
        except VReplicaError:
            raise
        except Exception as error:
            # What pyVmomi's reader raises for an answer that does not fit its tables.
            reason = hide(f"{type(error).__name__}: {error}")[:300]
            raise TicketRefused(
                vm=vm, purpose=purpose, fault="an answer that cannot be read", reason=reason
            ) from error


def _can_be_used(ticket: NfcTicket) -> bool:
    """True where every part has the form that it must have: it came from elsewhere."""
    return (
        re.fullmatch(r"[\w.:%-]{1,253}", ticket.host, re.ASCII) is not None
        and 0 < ticket.port < 1 << 16
        and all(
            text.isascii() and text.isprintable()
            for text in (ticket.service, ticket.thumbprint_sha1, ticket.session_id)
        )
    )


def _name(problem: object) -> str:
    return type(problem).__name__.rpartition(".")[2]
