"""One NFC host alone, without vSphere around it: for tests and benchmarks of the transport.

with SoloHost(tmp_path) as host:
    host.store.disks["[ds] a/a.vmdk"] = MemoryDisk(1 << 30)
    disk = open_disk(host, path="[ds] a/a.vmdk", config=host.config())
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc.server import NfcServer
from vreplica.lab.nfc.store import MemoryStore, Store
from vreplica.lab.nfc.tickets import TicketBook
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.config import HostLimits, NfcConfig, NfcTimeouts

PATIENCE = NfcTimeouts(connect_s=5, handshake_s=5, read_s=5, write_s=5, close_s=5)


class SoloHost:
    """A server, its tickets, and a `TicketSource` for it. A context manager."""

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        """`folder` gets the certificate and the locks."""
        self.folder = folder
        certificate = ServerCertificate.create(folder / "host.pem", "esx01.lab")
        self.server = NfcServer(certificate, TicketBook(), store or MemoryStore())
        self.trouble: str | None = None
        """What vCenter would say of the host."""
        self.connect_to: tuple[str, int] | None = None
        """Another address for the tickets, such as a proxy's."""

    def config(self, **settings: Any) -> NfcConfig:
        """Short timeouts and locks of its own, unless `settings` say otherwise."""
        settings.setdefault("timeouts", PATIENCE)
        settings.setdefault("reconnect_wait_s", 0.01)
        settings.setdefault("limits", HostLimits(runtime_dir=self.folder / "run", wait_s=5))
        return NfcConfig(**settings)

    @property
    def store(self) -> MemoryStore:
        """The store, where it is one in memory."""
        assert isinstance(self.server.store, MemoryStore)
        return self.server.store

    # -- TicketSource -----------------------------------------------------------------------

    def ticket(self, *, read_only: bool) -> NfcTicket:
        address, port = self.connect_to or (self.server.address, self.server.port)
        return NfcTicket(
            host=address,
            port=port,
            service=self.server.profile.service,
            thumbprint_sha1=self.server.certificate.thumbprints.sha1,
            session_id=self.server.tickets.issue(
                vm="vm-1", writable=not read_only, allows=lambda _: True
            ),
        )

    def host_trouble(self) -> str | None:
        return self.trouble

    # -- the server -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
