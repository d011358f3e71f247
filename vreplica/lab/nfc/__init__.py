"""The NFC side of a lab ESXi host: authd on its own port, tickets, AIO sessions on real disks.

    server = NfcServer(identity, TicketBook(), LibraryStore(resolve))
    server.start()                                   # server.port
    ticket = server.tickets.issue(vm="vm-42", writable=False, allows=lambda path: True)
    ...
    server.stop()

Strict where a host is strict: TLS first, tickets good once, read tickets never write, buffers
within bounds, memory and connections limited. `server.faults` makes it fail on demand.
"""

from vreplica.lab.nfc.faults import Fault, Faults
from vreplica.lab.nfc.server import HostProfile, NfcServer
from vreplica.lab.nfc.store import LibraryStore, MemoryStore, Refused, Store, StoredDisk
from vreplica.lab.nfc.tickets import Grant, TicketBook

__all__ = [
    "Fault",
    "Faults",
    "Grant",
    "HostProfile",
    "LibraryStore",
    "MemoryStore",
    "NfcServer",
    "Refused",
    "Store",
    "StoredDisk",
    "TicketBook",
]
