"""Compares NFC with a raw copy of the same bytes over TCP and TLS, one core for each side.

    .venv/bin/python -m pytest benchmarks/test_nfc_throughput.py -s

The disk is in the memory of the host, so the transport alone is measured. The raw copy moves the
same bytes between the same places (128 MiB of the peer, 32 buffers of 1 MiB here), one piece after
the other. All take turns in a round, and the median of the rounds counts. Use an idle machine.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.channel import tls_context
from vreplica.nfc.config import HostLimits, NfcConfig, NfcMode
from vreplica.nfc.open import open_nfc_disk
from vreplica.units import KIB, MIB

HERE = Path(__file__).parent
PATH = "[ds1] bench/bench.vmdk"
SIZE = 128 * MIB
BUFFERS = 32
ROUNDS = 7

CORES = sorted(os.sched_getaffinity(0))
OURS, THEIRS = CORES[0], CORES[-1]


@contextmanager
def peer(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "nfc_peer.py"), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        try:
            yield it
        finally:
            assert it.stdin
            it.stdin.close()
            it.wait()


def line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


class Host:
    """Tickets from a host in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        port, self.sha1 = line(process)
        self.port = int(port)

    def ticket(self, *, read_only: bool) -> NfcTicket:
        assert self._process.stdin
        self._process.stdin.write("read\n" if read_only else "write\n")
        self._process.stdin.flush()
        (session_id,) = line(self._process)
        return NfcTicket("127.0.0.1", self.port, "vpxa-nfc", self.sha1, session_id)

    def host_trouble(self) -> str | None:
        return None

    def capacity_bytes(self) -> int | None:
        return None


@pytest.fixture
def one_core() -> Iterator[None]:
    os.sched_setaffinity(0, {OURS})
    yield
    os.sched_setaffinity(0, CORES)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with peer("host", str(tmp_path), str(THEIRS)) as process:
        yield Host(process)


def raw_rate(port: int, *, tls: bool, write: bool) -> float:
    """Measures one raw copy, in MiB/s."""
    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock: socket.socket = tls_context().wrap_socket(plain) if tls else plain
    if isinstance(sock, ssl.SSLSocket):
        assert sock.version()
    buffers = [memoryview(bytearray(os.urandom(MIB))) for _ in range(BUFFERS)]
    with sock:
        start = perf_counter()
        sock.sendall(struct.pack("<BQ", write, SIZE))
        for number in range(SIZE // MIB):
            view = buffers[number % BUFFERS]
            if write:
                sock.sendall(view)
                continue
            while view:
                view = view[sock.recv_into(view) :]
        if write:
            assert sock.recv(1) == b"k"
        return SIZE / MIB / (perf_counter() - start)


def nfc_rate(host: Host, config: NfcConfig, *, write: bool, request: int = MIB) -> float:
    """Measures reading or writing the whole disk in batches of 32 requests, in MiB/s."""
    disk = open_nfc_disk(host, path=PATH, read_only=not write, config=config)
    buffers = [memoryview(bytearray(os.urandom(request))) for _ in range(BUFFERS)]
    batch = len(buffers) * request
    total = SIZE if request == MIB else 8 * MIB
    transfer = disk.write_many if write else disk.read_many
    start = perf_counter()
    for offset in range(0, total, batch):
        transfer([(offset + n * request, view) for n, view in enumerate(buffers)])
    took = perf_counter() - start
    disk.close()
    return total / MIB / took


@pytest.mark.usefixtures("one_core")
def test_nfc_reaches_most_of_a_raw_copy(
    host: Host, tmp_path: Path, benchmark: BenchmarkFixture
) -> None:
    limits = HostLimits(runtime_dir=tmp_path / "run")

    def settings(mode: NfcMode, depth: int) -> NfcConfig:
        return NfcConfig(mode=mode, depth=depth, limits=limits)

    rates: dict[tuple[str, str], list[float]] = {}

    def compare() -> None:
        # In turns, so that a slow period of the machine affects all in the same way.
        for write in (False, True):
            way = "write" if write else "read"
            for name, port in (("raw TCP", tcp), ("raw TLS", tls)):
                rate = raw_rate(port, tls=port == tls, write=write)
                rates.setdefault((name, way), []).append(rate)
            for mode in ("nbd", "nbdssl"):
                for depth in (1, 8):
                    rate = nfc_rate(host, settings(mode, depth), write=write)
                    rates.setdefault((f"{mode} depth {depth}", way), []).append(rate)

    with peer("raw", str(tmp_path), str(THEIRS)) as raw:
        tcp, tls = map(int, line(raw))
        benchmark.pedantic(compare, rounds=ROUNDS)

    print(f"\n{'MiB/s, median of ' + str(ROUNDS):24}   read  write")
    names = dict.fromkeys(name for name, _ in rates)
    for name in names:
        read, write_ = (median(rates[name, way]) for way in ("read", "write"))
        print(f"{name:24} {read:6.0f} {write_:6.0f}")
    for way in ("read", "write"):
        base = median(rates["raw TLS", way])
        ratio = median(rates["nbdssl depth 8", way]) / base
        print(f"nbdssl depth 8 / raw TLS, {way}: {ratio:.2f}")
        benchmark.extra_info[f"{way}: nbdssl depth 8 / raw TLS"] = round(ratio, 2)
        assert ratio >= 0.6


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_with_5_ms_of_delay_depth_8_is_five_times_depth_1(
    host: Host, tmp_path: Path, benchmark: BenchmarkFixture, write: bool
) -> None:
    """A proxy adds 5 ms in each direction. Requests of 64 KiB make the delay the largest part."""
    limits = HostLimits(runtime_dir=tmp_path / "run")
    with peer("delay", str(host.port), "5") as proxy:
        host.port = int(line(proxy)[0])
        rates: dict[int, list[float]] = {1: [], 8: []}

        def compare() -> None:
            for depth, found in rates.items():
                config = NfcConfig(depth=depth, limits=limits)
                found.append(nfc_rate(host, config, write=write, request=64 * KIB))

        benchmark.pedantic(compare, rounds=5)
    rate = {depth: median(found) for depth, found in rates.items()}
    print(f"\n5 ms: depth 1 {rate[1]:.1f} MiB/s, depth 8 {rate[8]:.1f} ({rate[8] / rate[1]:.1f}x)")
    assert rate[8] >= 5 * rate[1]
