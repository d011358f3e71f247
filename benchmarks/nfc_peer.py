"""Runs the other side of the NFC benchmarks, in its own process on its own core.

python benchmarks/nfc_peer.py host DIR CORE     a lab host; prints port, thumbprint, then
                                               answers each line of stdin with a ticket
python benchmarks/nfc_peer.py raw DIR CORE      a TCP and a TLS port that send or take 128 MiB
python benchmarks/nfc_peer.py delay PORT MS     a proxy that delays every byte by MS, both ways
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import threading
from collections import deque
from pathlib import Path
from time import monotonic, sleep

from vreplica.disk import MemoryDisk
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc import LibraryStore, MemoryStore
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.units import MIB

PATH = "[ds1] bench/bench.vmdk"
CAPACITY = 128 * MIB


def memory() -> MemoryStore:
    store = MemoryStore()
    disk = store.disks[PATH] = MemoryDisk(CAPACITY)
    block = memoryview(os.urandom(MIB))
    for offset in range(0, CAPACITY, MIB):
        disk.write_from(offset, block)
    return store


def host(folder: Path, file: str = "") -> None:
    store = LibraryStore(lambda _path, _read_only: Path(file)) if file else memory()
    with StandaloneHost(folder, store) as solo:
        print(solo.server.port, solo.server.certificate.thumbprints.sha1, flush=True)
        for line in sys.stdin:
            ticket = solo.ticket(read_only=line.strip() == "read")
            if isinstance(store, MemoryStore):
                store.disks[PATH].ops.clear()
            print(ticket.session_id, flush=True)


def raw(folder: Path) -> None:
    """Serves clients. Each sends u8 direction (0: to me) and u64 bytes; then the bytes follow."""
    context = ServerCertificate.create(folder / "raw.pem", "raw").tls_context()
    content = [memoryview(bytearray(os.urandom(MIB))) for _ in range(CAPACITY // MIB)]
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    print(*(port.getsockname()[1] for port in ports), flush=True)

    def serve(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        while True:
            plain, _ = listener.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = tls.wrap_socket(plain, server_side=True) if tls else plain
            with sock:
                direction, size = struct.unpack("<BQ", sock.recv(9))
                for number in range(size // MIB):
                    view = content[number % len(content)]
                    if direction == 0:
                        sock.sendall(view)
                        continue
                    while view:
                        view = view[sock.recv_into(view) :]
                if direction:
                    sock.sendall(b"k")

    threading.Thread(target=serve, args=(ports[0], None), daemon=True).start()
    threading.Thread(target=serve, args=(ports[1], context), daemon=True).start()
    sys.stdin.read()


class Line:
    """One direction of the delaying proxy: bytes leave `delay_s` after they arrive."""

    LIMIT = 64 * MIB

    def __init__(self, source: socket.socket, target: socket.socket, delay_s: float) -> None:
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._take, args=(source, delay_s), daemon=True).start()
        threading.Thread(target=self._give, args=(target,), daemon=True).start()

    def _take(self, source: socket.socket, delay_s: float) -> None:
        while True:
            try:
                data = source.recv(256 * 1024)
            except OSError:
                data = b""
            with self._changed:
                while self._held > self.LIMIT:
                    self._changed.wait()
                self._held += len(data)
                self._queue.append((monotonic() + delay_s, data))
                self._changed.notify()
            if not data:
                return

    def _give(self, target: socket.socket) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                due, data = self._queue.popleft()
                self._held -= len(data)
                self._changed.notify()
            left = due - monotonic()
            if left > 0:
                sleep(left)
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return


def delay(port: int, delay_s: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Line(client, server, delay_s)
            Line(server, client, delay_s)

    threading.Thread(target=serve, daemon=True).start()
    sys.stdin.read()


def main(kind: str, *words: str) -> None:
    if kind == "delay":
        delay(int(words[0]), float(words[1]) / 1000)
        return
    os.sched_setaffinity(0, {int(words[1])})
    {"host": host, "raw": raw}[kind](Path(words[0]), *words[2:])


if __name__ == "__main__":
    main(*sys.argv[1:])
