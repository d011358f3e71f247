"""Opens vSphere disks over the host's NFC service, and checks beforehand that the host lets us."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from vreplica.disk_errors import HostConnection
from vreplica.nfc import authd
from vreplica.nfc.config import NfcConfig
from vreplica.nfc.disk import NfcDisk
from vreplica.nfc.link import TicketSource, with_trouble
from vreplica.nfc.ticket import TicketService

log = logging.getLogger(__name__)


def open_nfc_disk(
    source: Any,
    *,
    path: str,
    read_only: bool = True,
    vm: str | None = None,
    disk_key: int | None = None,
    first_of_two: bool = False,
    on_reopen: Callable[[], object] | None = None,
    config: NfcConfig | None = None,
) -> NfcDisk:
    """Opens a disk of a VM.

    source: a logged-in pyVmomi stub or ServiceInstance, of vCenter or of a single ESXi host; or a
        function that returns one and logs in again where needed (it is called for every ticket);
        or anything with the two methods of `TicketSource`.
    path: "[datastore] dir/disk.vmdk". For a running VM, the file name of a snapshot's disk from
        the snapshot's own configuration.
    vm: the VM's moref; needed with a stub.
    disk_key: the device key of the disk, for writing. It is found by the path where it is missing.
    first_of_two: another disk will be opened while this one is open. Where both are at one host,
        copies that all have their first disk could wait for their second for ever. So one of the
        host's places for open disks is never given to a first disk.
    on_reopen: called each time the disk was opened again after a lost connection, before the next
        request. What it raises ends the operation.

    A lost connection is made again with a new ticket, so `source` must stay usable while the disk
    is open.

    Raises DiskAccessError, TicketRefused, AdmissionTimeout.
    """
    settings = config or NfcConfig()
    if settings.mode == "nbd":
        log.warning("%s: mode nbd sends the disk's content over the network unencrypted", path)
    tickets = _tickets(source, vm, path, disk_key, settings)
    return NfcDisk(
        tickets,
        settings,
        path,
        read_only=read_only,
        first_of_two=first_of_two,
        on_reopen=on_reopen,
    )


def check_host_access(
    source: Any,
    *,
    path: str,
    read_only: bool = True,
    vm: str | None = None,
    disk_key: int | None = None,
    config: NfcConfig | None = None,
) -> str:
    """Tries everything up to opening a disk, and returns the host that would serve it.

    Takes a ticket and logs in with it: that shows whether port, certificate and privileges are
    good. Arguments and errors are those of `open_nfc_disk`.
    """
    settings = config or NfcConfig()
    tickets = _tickets(source, vm, path, disk_key, settings)
    ticket = tickets.ticket(read_only=read_only)
    try:
        authd.connect(ticket, settings, path=path).close()
    except HostConnection as error:
        told = with_trouble(error, tickets)
        if told is error:
            raise
        raise told from error
    return ticket.host


def _tickets(
    source: Any, vm: str | None, path: str, disk_key: int | None, config: NfcConfig
) -> TicketSource:
    if hasattr(source, "host_trouble"):
        given: TicketSource = source
        return given
    if vm is None:
        raise TypeError("asking a stub for tickets needs the VM's moref (vm=)")
    return TicketService(source, vm, path, disk_key=disk_key, port=config.port)
