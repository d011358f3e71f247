"""The NFC server of a lab ESXi host: authd on its own port, tickets, AIO sessions on disks.

    server = NfcServer(certificate, TicketBook(), LibraryStore(resolve))
    server.start()                                   # server.port
    ticket = server.tickets.issue(vm="vm-42", writable=False, allows=lambda path: True)
    ...
    server.stop()

It is strict where a host is strict: TLS first, a ticket is good once, a read ticket cannot write,
buffers, memory and connections are limited. `server.faults` makes it fail on demand.
"""

from vreplica.lab.nfc.faults import NfcFaultRule, NfcFaultRules
from vreplica.lab.nfc.profile import RELEASES, Announced, HostProfile
from vreplica.lab.nfc.server import NfcServer
from vreplica.lab.nfc.store import DiskStore, LibraryStore, MemoryStore, Refused, StoredDisk
from vreplica.lab.nfc.tickets import Grant, TicketBook

__all__ = [
    "RELEASES",
    "Announced",
    "DiskStore",
    "Grant",
    "HostProfile",
    "LibraryStore",
    "MemoryStore",
    "NfcFaultRule",
    "NfcFaultRules",
    "NfcServer",
    "Refused",
    "StoredDisk",
    "TicketBook",
]
