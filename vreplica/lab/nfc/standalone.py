"""A host with an NFC server and without vSphere, for tests and benchmarks of the transport.

with StandaloneHost(tmp_path) as host:
    host.store.disks["[ds] a/a.vmdk"] = MemoryDisk(1 << 30)
    disk = open_disk(host, path="[ds] a/a.vmdk", config=host.config())
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc.profile import HostProfile
from vreplica.lab.nfc.server import NfcServer
from vreplica.lab.nfc.store import DiskStore, MemoryStore
from vreplica.lab.nfc.tickets import TicketBook
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.config import HostLimits, NfcConfig, NfcTimeouts

SHORT_TIMEOUTS = NfcTimeouts(connect_s=5, handshake_s=5, read_s=5, write_s=5, close_s=5)


class StandaloneHost:
    """An NFC server with its tickets; also a `TicketSource` for it. A context manager."""

    def __init__(
        self, folder: Path, store: DiskStore | None = None, profile: HostProfile | None = None
    ) -> None:
        """`folder`: for the certificate and the locks."""
        self.folder = folder
        self.profile = profile or HostProfile()
        certificate = ServerCertificate.create(
            folder / "host.pem", "esx01.lab", legacy=self.profile.legacy_tls
        )
        self.server = NfcServer(
            certificate, TicketBook(), store or MemoryStore(), profile=self.profile
        )
        self.trouble: str | None = None
        """The problem of the host that vCenter would report."""
        self.capacity: int | None = None
        """The capacity that vCenter would report."""
        self.connect_to: tuple[str, int] | None = None
        """Another address for the tickets, such as that of a proxy."""

    def config(self, **settings: Any) -> NfcConfig:
        """A configuration with short timeouts and with locks in `folder`, unless given.

        It accepts old TLS of a host that has it.
        """
        if self.profile.legacy_tls:
            settings.setdefault("legacy_tls", frozenset({self.server.address}))
        settings.setdefault("timeouts", SHORT_TIMEOUTS)
        settings.setdefault("reconnect_wait_s", 0.01)
        settings.setdefault("limits", HostLimits(runtime_dir=self.folder / "run", wait_s=5))
        return NfcConfig(**settings)

    @property
    def store(self) -> MemoryStore:
        """The disks in memory."""
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

    def capacity_bytes(self) -> int | None:
        return self.capacity

    # -- the server -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
