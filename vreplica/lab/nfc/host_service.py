"""The NFC service of a vCenter, and the NFC servers of its hosts.

    client -- SOAP: NfcGetVmFiles(vm) ----------> ticket: host, port, thumbprint, session id
    client -- authd on the host's own port -----> AIO session on the VM's disks

The service is not in the public WSDL. `vreplica.nfc.ticket` names the source of its calls.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vreplica.lab.api.managed import Managed
from vreplica.lab.api.privileges import require_privilege
from vreplica.lab.api.vmodl import MethodFault, invalid_argument, vim
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.context import SiteContext
from vreplica.lab.nfc import HostProfile, LibraryStore, NfcServer, Refused, TicketBook
from vreplica.lab.nfc.faults import NfcFaultRules
from vreplica.lab.nfc.store import (
    DISK_FULL,
    FILE_ACCESS,
    FILE_LOCKED,
    FILE_NOT_FOUND,
    BeforeWrite,
)
from vreplica.lab.storage.change_map import ChangeMap, UntrackedDisk, ctk_path
from vreplica.lab.storage.datastore_names import datacenter_of
from vreplica.lab.vm.encryption import ACCESS, is_encrypted
from vreplica.lab.web.host import HostHttpsServer
from vreplica.nfc.ticket import register

READ = "VirtualMachine.Provisioning.DiskRandomRead"
WRITE = "VirtualMachine.Provisioning.DiskRandomAccess"
SERVICE: Any = register()
BARE_SERVICE = "nfc"
"""The service in the tickets of a host without a vCenter."""


class HostServers:
    """The NFC server and the HTTPS endpoint of each host of a site."""

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self.by_host: dict[str, NfcServer] = {}
        self._webs: dict[str, HostHttpsServer] = {}
        self._lock = threading.Lock()
        self._read: Counter[str] = Counter()
        """How many clients have each link open."""

    def web(self, host: Any) -> HostHttpsServer:
        """The HTTPS endpoint of a host, which is opened at its first use."""
        with self._lock:
            if host._moId not in self._webs:
                made = HostHttpsServer(self.site, self.by_host[host._moId].certificate)
                made.serve()
                self._webs[host._moId] = made
            return self._webs[host._moId]

    def thumbprint(self, host: Any) -> str | None:
        """The SHA-1 thumbprint of a host, as vCenter shows it."""
        server = self.by_host.get(host._moId)
        return server.certificate.thumbprints.sha1 if server else None

    def certificate(self, host: Any) -> bytes:
        """The certificate of a host, as PEM."""
        text = self.by_host[host._moId].certificate.pem.read_bytes()
        return text[text.index(b"-----BEGIN CERTIFICATE") :]

    def start(self) -> None:
        """Starts the NFC servers of new hosts, except in maintenance. Makes certificates."""
        for host in self.site.hosts():
            if host._moId in self.by_host:
                continue
            store = LibraryStore(
                partial(self.resolve, host), partial(self.writes, host), partial(self.opened, host)
            )
            profile = self.profile(host)
            certificate = self._certificate(host, profile)
            faults = NfcFaultRules(on_change=self.save_fault_rules)
            faults.restore(self.site.nfc_faults.get(host._moId, {}))
            server = NfcServer(
                certificate,
                TicketBook(),
                store,
                address=self.site.spec.host,
                profile=profile,
                faults=faults,
            )
            if not host.maintenance:
                server.start()
            self.by_host[host._moId] = server

    def profile(self, host: Any) -> HostProfile:
        """The limits and traits of a host's NFC service. Raises ValueError."""
        traits = dict(host.nfc or {})
        if self.site.spec.bare_host:
            traits.setdefault("service", BARE_SERVICE)
        return HostProfile.of(host.release, **traits)

    def refresh(self, host: Any) -> None:
        """Takes over a host's release and traits, for connections from now on."""
        profile = self.profile(host)
        certificate = self._certificate(host, profile)
        self.by_host[host._moId].become(profile, certificate)

    def _certificate(self, host: Any, profile: HostProfile) -> ServerCertificate:
        """The host's certificate of this kind, which is made where there is none."""
        legacy = profile.legacy_tls
        if self.site.spec.bare_host and not legacy:
            own: ServerCertificate = self.site.certificate
            return own
        pem = self.site.directory / f"{host.name}{'-legacy' if legacy else ''}.pem"
        if pem.exists():
            return ServerCertificate.load(pem)
        return ServerCertificate.create(pem, host.name, self.site.spec.host, legacy=legacy)

    def save_fault_rules(self) -> None:
        kept = {moid: server.faults.saved_state() for moid, server in self.by_host.items()}
        self.site.nfc_faults = {m: k for m, k in kept.items() if k["rules"]}
        self.site.save_values(nfc_faults=self.site.nfc_faults)

    def stop(self) -> None:
        for server in self.by_host.values():
            server.stop()
        self.by_host.clear()
        for web in self._webs.values():
            web.stop()
        self._webs.clear()

    def cut_off(self) -> None:
        """Closes all ports of the hosts, until `reconnect`."""
        for server in self.by_host.values():
            server.stop()
        with self._lock:
            for web in self._webs.values():
                web.stop()
            self._webs.clear()

    def reconnect(self) -> None:
        for host in self.site.hosts():
            if not host.maintenance:
                self.by_host[host._moId].start()

    def stored(self, host: Any, path: str) -> str:
        """The path of a client as it is stored. Raises InvalidDatastore."""
        names = self.site.names
        return str(names.incoming(path, datacenter_of(host))) if names.active else path

    def resolve(self, host: Any, path: str, read_only: bool) -> Path:
        """The file of a disk. Raises Refused: missing, locked, or in use by a running VM."""
        try:
            path = self.stored(host, path)
            file: Path = self.site.disks.path(path)
        except MethodFault:
            raise Refused(FILE_NOT_FOUND, f"{path} was not found") from None
        if not file.is_file():
            raise Refused(FILE_NOT_FOUND, f"{path} was not found")
        for vm in self.site.vms():
            if path in vm.links and vm.power == "poweredOn":
                leaves = {d.backing.fileName for d in vm.disks()}
                if path in leaves or not read_only:
                    raise Refused(FILE_ACCESS, "the disk is in use by a running VM")
        if read_only and _is_open_for_writing(file):
            raise Refused(FILE_LOCKED, f"{path} is locked")
        return file

    def opened(self, host: Any, path: str) -> Callable[[], None]:
        """Notes that a client has a disk open, with all links below it, until it is closed."""
        path = self.stored(host, path)
        owner = next((v for v in self.site.vms() if path in v.links), None)
        links = Counter([path] if owner is None else owner.chains.ancestry(path))
        with self._lock:
            self._read.update(links)

        def closed() -> None:
            with self._lock:
                self._read.subtract(links)
                links.clear()

        return closed

    def is_read(self, link: str) -> bool:
        """Whether a client of the NFC servers has a link open."""
        with self._lock:
            return self._read[link] > 0

    def writes(self, host: Any, path: str) -> BeforeWrite:
        """Makes the check before each write: space, and the change map if the site tracks it."""
        site, path = self.site, self.stored(host, path)
        file = ctk_path(site.disks.path(path))

        def before(offset: int, length: int) -> None:
            try:
                site.disks.require_room(path, offset, length)
            except MethodFault as full:
                raise Refused(DISK_FULL, full.msg) from None
            if site.settings.track_outside_writes:
                with contextlib.suppress(UntrackedDisk):
                    ChangeMap(file).mark(offset, length)

        return before


def _is_open_for_writing(file: Path) -> bool:
    """Whether a link is open for writing: its descriptor file is locked then."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class NfcService(Managed, SERVICE):
    def _ticket(self, vm: Any, host: Any, *, writable: bool, key: int | None = None) -> Any:
        """A ticket for all disks of a VM, or for the disk with this key."""
        site = self._site
        require_privilege(site, site.current.user, WRITE if writable else READ, vm)
        if is_encrypted(vm.config):
            require_privilege(site, site.current.user, ACCESS, vm)
        server = self._server(host)
        moid = vm._moId

        def allows(path: str) -> bool:
            # Called when a disk is opened: the links of the VM may have changed by then.
            found: Any = site.objects.get(moid)
            if found is None:
                return False
            try:
                path = site.host_servers.stored(host, path)
            except MethodFault:
                return False
            if key is None:
                return path in found.links
            leaf = next((d.backing.fileName for d in found.disks() if d.key == key), "")
            return path in found.chains.ancestry(leaf)

        certificate = None
        if server.profile.shows_certificate:
            certificate = site.host_servers.certificate(host).decode()
        return vim.HostServiceTicket(
            # A host alone names no host: the client is connected to it.
            host=None if site.spec.bare_host else site.spec.host,
            port=server.port,
            sslThumbprint=server.certificate.thumbprints.sha1,
            sslCertificate=certificate,
            service=server.profile.service,
            serviceVersion="1.1",
            sessionId=server.tickets.issue(vm=moid, writable=writable, allows=allows),
        )

    def _server(self, host: Any) -> NfcServer:
        if host is None:
            raise invalid_argument("hostForAccess")
        host.require_connected()
        server: NfcServer = self._site.host_servers.by_host[host._moId]
        return server

    def NfcGetVmFiles(self, vm: Any) -> Any:
        return self._ticket(vm, vm.host, writable=False)

    def NfcRandomAccessOpenReadonly(self, vm: Any, diskDeviceKey: int, hostForAccess: Any) -> Any:
        self._need_disk(vm, diskDeviceKey)
        return self._ticket(vm, hostForAccess, writable=False, key=diskDeviceKey)

    def NfcRandomAccessOpenDisk(self, vm: Any, diskDeviceKey: int, hostForAccess: Any) -> Any:
        self._need_disk(vm, diskDeviceKey)
        return self._ticket(vm, hostForAccess, writable=True, key=diskDeviceKey)

    def _need_disk(self, vm: Any, key: int) -> None:
        if all(d.key != key for d in vm.disks()):
            raise invalid_argument("diskDeviceKey")

    def NfcGetServerNfcLibVersion(self, hostForAccess: Any) -> int:
        return int(self._server(hostForAccess).profile.nfc_version)
