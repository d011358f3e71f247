"""vSphere disks over the ESXi host's NFC service, without VDDK.

    from vreplica import nfc

    with closing(nfc.open_disk(session.stub, vm="vm-42", path="[ds1] web/web.vmdk")) as disk:
        disk.read_into(0, view)

`open_disk` is all that a replication needs; `probe` tells beforehand whether a host's port 902
answers. See docs/transports.md for when to prefer VDDK and for what is known of the protocol.
"""

from __future__ import annotations

import logging
from typing import Any

from vreplica.nfc.authd import Greeting, Ticket, probe
from vreplica.nfc.config import HostLimits, Mode, NfcConfig, Timeouts
from vreplica.nfc.disk import NfcDisk, NfcDiskInfo, NfcStats
from vreplica.nfc.link import TicketSource
from vreplica.nfc.ticket import TicketService

__all__ = [
    "Greeting",
    "HostLimits",
    "Mode",
    "NfcConfig",
    "NfcDisk",
    "NfcDiskInfo",
    "NfcStats",
    "Ticket",
    "TicketService",
    "TicketSource",
    "Timeouts",
    "open_disk",
    "probe",
]

log = logging.getLogger(__name__)


def open_disk(
    source: Any,
    *,
    path: str,
    read_only: bool = True,
    vm: str | None = None,
    disk_key: int | None = None,
    config: NfcConfig | None = None,
) -> NfcDisk:
    """Open a disk of a VM.

    source: a logged-in pyVmomi stub or ServiceInstance, of vCenter or of a bare ESXi host; or a
        function that returns one and logs in again where that is needed (it is called for every
        ticket); or anything with the two methods of `TicketSource`.
    path: "[datastore] dir/disk.vmdk". For a running VM the file name of a snapshot's disk, from
        the snapshot's own configuration.
    vm: the VM's moref; needed with a stub.
    disk_key: the device key of the disk, for writing; found by the path where it is not given.

    The connection is made again, with a new ticket from `source`, when it is lost; so `source`
    must stay usable while the disk is open.

    Raises NfcError (of `vreplica.nfc.errors`), TicketRefused, AdmissionTimeout.
    """
    settings = config or NfcConfig()
    if settings.mode == "nbd":
        log.warning("%s: mode nbd sends the disk's content over the network unencrypted", path)
    if hasattr(source, "host_trouble"):
        tickets: TicketSource = source
    else:
        if vm is None:
            raise TypeError("open_disk needs the VM's moref (vm=) to ask a stub for tickets")
        tickets = TicketService(source, vm, path, disk_key=disk_key, port=settings.port)
    return NfcDisk(tickets, settings, path, read_only=read_only)
