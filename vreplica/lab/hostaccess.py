"""The NFC service of the vCenter and the NFC servers of its hosts.

    client -- SOAP: NfcGetVmFiles(vm) ----------> ticket: host, port, thumbprint, session id
    client -- authd on the host's own port -----> AIO session on the VM's disks

The service is not in the public WSDL; `vreplica.nfc.ticket` says where its calls come from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vreplica.lab.managed import Managed
from vreplica.lab.nfc import Identity, LibraryStore, NfcServer, Refused, TicketBook
from vreplica.lab.nfc.store import FILE_ACCESS, FILE_NOT_FOUND
from vreplica.lab.privileges import need
from vreplica.lab.vmodl import MethodFault, invalid_argument, vim
from vreplica.nfc.ticket import register

if TYPE_CHECKING:
    from vreplica.lab.site import Site

READ = "VirtualMachine.Provisioning.DiskRandomRead"
WRITE = "VirtualMachine.Provisioning.DiskRandomAccess"
SERVICE: Any = register()


class HostServers:
    """One NFC server for each host of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.by_host: dict[str, NfcServer] = {}

    def start(self) -> None:
        store = LibraryStore(self.resolve)
        for host in self.site.cluster.host:
            pem = self.site.directory / f"{host.name}.pem"
            if pem.exists():
                identity = Identity.load(pem)
            else:
                identity = Identity.make(pem, host.name, self.site.spec.host)
            server = NfcServer(identity, TicketBook(), store, address=self.site.spec.host)
            server.start()
            self.by_host[host._moId] = server

    def stop(self) -> None:
        for server in self.by_host.values():
            server.stop()
        self.by_host.clear()

    def resolve(self, path: str, read_only: bool) -> Path:
        """Raises Refused: not there, or the running VM's own leaf."""
        try:
            file = self.site.disks.path(path)
        except MethodFault:
            raise Refused(FILE_NOT_FOUND, f"{path} was not found") from None
        if not file.is_file():
            raise Refused(FILE_NOT_FOUND, f"{path} was not found")
        for vm in self.site.vms():
            if path in vm.links and vm.power == "poweredOn":
                leaves = {d.backing.fileName for d in vm.disks()}
                if path in leaves or not read_only:
                    raise Refused(FILE_ACCESS, "the disk is in use by a running VM")
        return file


class NfcService(Managed, SERVICE):
    def _ticket(self, vm: Any, *, writable: bool) -> Any:
        site = self._site
        need(site, site.current.user, WRITE if writable else READ, vm)
        vm.host.need_connected()
        server = site.host_servers.by_host[vm.host._moId]
        moid = vm._moId

        def allows(path: str) -> bool:
            # Asked when the disk is opened: the VM's links may be others by then.
            found: Any = site.objects.get(moid)
            return found is not None and path in found.links

        return vim.HostServiceTicket(
            host=site.spec.host,
            port=server.port,
            sslThumbprint=server.identity.thumbprints.sha1,
            service=server.profile.service,
            serviceVersion="1.1",
            sessionId=server.tickets.issue(vm=moid, writable=writable, allows=allows),
        )

    def NfcGetVmFiles(self, vm: Any) -> Any:
        return self._ticket(vm, writable=False)

    def NfcRandomAccessOpenReadonly(self, vm: Any, diskDeviceKey: int, hostForAccess: Any) -> Any:
        self._need_disk(vm, diskDeviceKey)
        return self._ticket(vm, writable=False)

    def NfcRandomAccessOpenDisk(self, vm: Any, diskDeviceKey: int, hostForAccess: Any) -> Any:
        self._need_disk(vm, diskDeviceKey)
        return self._ticket(vm, writable=True)

    def _need_disk(self, vm: Any, key: int) -> None:
        if all(d.key != key for d in vm.disks()):
            raise invalid_argument("diskDeviceKey")

    def NfcGetServerNfcLibVersion(self, hostForAccess: Any) -> int:
        server = self._site.host_servers.by_host[hostForAccess._moId]
        return int(server.profile.nfc_version)
