"""Compares NFC (a lab host in another process) with the VDDK ABI on one VMDK file.

    .venv/bin/python -m pytest benchmarks/test_nfc_vddk.py --benchmark-only -s

The VDDK side is the native library on the local file, without network and TLS. So it shows the cost
of the ABI and its helper process, not the speed of VMware's library with a host.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter, process_time

from pytest_benchmark.fixture import BenchmarkFixture

from vreplica.disk import Arena, Disk
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.config import HostLimits, NfcConfig, NfcMode
from vreplica.nfc.open import open_nfc_disk
from vreplica.units import GIB, MIB
from vreplica.vddk.abi import DiskType
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk

SIZE = 256 * MIB
BATCH = 8
ROUNDS = 5
PATH = "[ds1] bench/bench.vmdk"


class Host:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port, self.sha1 = self._line()

    def _line(self) -> list[str]:
        assert self._process.stdout
        return self._process.stdout.readline().split()

    def ticket(self, *, read_only: bool) -> NfcTicket:
        assert self._process.stdin
        self._process.stdin.write("read\n" if read_only else "write\n")
        self._process.stdin.flush()
        (session_id,) = self._line()
        return NfcTicket("127.0.0.1", int(self.port), "vpxa-nfc", self.sha1, session_id)

    def host_trouble(self) -> str | None:
        return None

    def capacity_bytes(self) -> int | None:
        return None


@contextmanager
def serving(folder: Path, file: Path) -> Iterator[Host]:
    peer = Path(__file__).with_name("nfc_peer.py")
    core = str(max(os.sched_getaffinity(0)))
    command = [sys.executable, str(peer), "host", str(folder), core, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        yield Host(it)
        assert it.stdin
        it.stdin.close()


def rate(disk: Disk, arena: Arena, *, write: bool) -> tuple[float, float]:
    """Measures the whole disk: MiB/s, and CPU seconds of this process for each GiB."""
    transfer = disk.write_many if write else disk.read_many
    views = [arena.view[n * MIB : (n + 1) * MIB] for n in range(BATCH)]
    disk.register(arena)
    start, cpu = perf_counter(), process_time()
    for offset in range(0, SIZE, BATCH * MIB):
        transfer([(offset + n * MIB, view) for n, view in enumerate(views)])
    return SIZE / MIB / (perf_counter() - start), (process_time() - cpu) * GIB / SIZE


def test_the_same_file_by_nfc_and_by_the_vddk_abi(
    tmp_path: Path, benchmark: BenchmarkFixture
) -> None:
    file = tmp_path / "bench.vmdk"
    Library.load().create(file, SIZE, DiskType.VMFS_THIN)
    limits = HostLimits(runtime_dir=tmp_path / "run")
    arena = Arena(BATCH * MIB)
    arena.view[:] = os.urandom(BATCH * MIB)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}

    with serving(tmp_path, file) as host:

        def over_nfc(mode: NfcMode) -> Callable[[bool], Disk]:
            config = NfcConfig(mode=mode, limits=limits)
            return lambda read_only: open_nfc_disk(
                host, path=PATH, read_only=read_only, config=config
            )

        def over_vddk(isolation: bool) -> Callable[[bool], Disk]:
            config = VddkConfig(isolation=isolation)
            return lambda read_only: open_vddk_disk(
                config, VddkConnection(), str(file), read_only=read_only
            )

        ways = {
            "nfc nbdssl": over_nfc("nbdssl"),
            "nfc nbd": over_nfc("nbd"),
            "vddk abi, helper": over_vddk(True),
            "vddk abi, in process": over_vddk(False),
        }

        def compare() -> None:
            for name, opener in ways.items():
                for write in (True, False):
                    with closing(opener(not write)) as disk:
                        found.setdefault((name, "write" if write else "read"), []).append(
                            rate(disk, arena, write=write)
                        )

        benchmark.pedantic(compare, rounds=ROUNDS)

    print(f"\n{'best of ' + str(ROUNDS):24}      read MiB/s, CPU s/GiB     write MiB/s, CPU s/GiB")
    for name in ways:
        cells = []
        for way in ("read", "write"):
            speed = max(s for s, _ in found[name, way])
            cpu = min(c for _, c in found[name, way])
            cells.append(f"{speed:14.0f} {cpu:10.2f}")
            benchmark.extra_info[f"{name} {way} MiB/s"] = round(speed)
        print(f"{name:24}", *cells)
