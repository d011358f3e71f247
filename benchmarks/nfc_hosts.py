"""Measures an NFC client against a host in C, in turns with a raw copy over TLS.

    python -m benchmarks.nfc_hosts [--client python|native] [--rounds 5] [--delay-ms 5]

`nfc_host.c` serves one disk in memory, `raw_tls.c` is a raw copy of the same bytes with the same
cipher, `delay.c` delays every byte and limits no rate. All are built with the C compiler (`apt
install gcc libssl-dev`). The host runs on the last core, the client on the first one. Processor
seconds are those of the client's process alone. A round runs everything once; medians count.

The native client is the library of this package in this process. It gets its tickets from a lab's
vCenter, whose host is the one in C.

With a delay, the raw copies go through the same proxy: they show what it lets through.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Protocol

from vreplica.lab import Lab, LabControl
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc import HostProfile, NfcFaultRules
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.config import HostLimits, NfcConfig, NfcMode
from vreplica.nfc.open import open_nfc_disk
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk

HERE = Path(__file__).parent
PATH = "[ds1] bench/bench.vmdk"
TICKET = "52e8a1f0-bench"
BUFFERS = 32
DISK_MIB = 128

CORES = sorted(os.sched_getaffinity(0))
OURS, THEIRS = CORES[0], CORES[-1]
DEPTHS = (1, 8)
WAYS = ("read", "write")


@dataclass(frozen=True)
class Sample:
    """One measured transfer."""

    mib_per_s: float
    cpu_s_per_gib: float


class Client(Protocol):
    """Copies `mib` MiB from or to the disk of a host, in requests of 1 MiB."""

    def copy(self, port: int, mode: NfcMode, depth: int, way: str, mib: int) -> Sample: ...
    def close(self) -> None: ...


class PythonClient:
    """The client of `vreplica.nfc`, in this process."""

    def __init__(self, folder: Path, certificate: ServerCertificate) -> None:
        self._limits = HostLimits(runtime_dir=folder / "run")
        self._certificate = certificate
        self._port = 0

    def copy(self, port: int, mode: NfcMode, depth: int, way: str, mib: int) -> Sample:
        self._port = port
        config = NfcConfig(mode=mode, depth=depth, limits=self._limits)
        disk = open_nfc_disk(self, path=PATH, read_only=way == "read", config=config)
        try:
            return timed(disk.read_many if way == "read" else disk.write_many, mib, depth)
        finally:
            disk.close()

    def close(self) -> None:
        """Nothing is open."""

    # -- TicketSource -----------------------------------------------------------------------

    def ticket(self, *, read_only: bool) -> NfcTicket:
        sha1 = self._certificate.thumbprints.sha1
        return NfcTicket("127.0.0.1", self._port, "vpxa-nfc", sha1, TICKET)

    def host_trouble(self) -> str | None:
        return None

    def capacity_bytes(self) -> int | None:
        return None


class Issued:
    """Tickets of the host in C."""

    def issue(self, **_rights: object) -> str:
        return TICKET


@dataclass
class ForeignHost:
    """The host in C, in the place of a lab host's NFC server."""

    certificate: ServerCertificate
    port: int = 0
    profile: HostProfile = field(default_factory=HostProfile)
    tickets: Issued = field(default_factory=Issued)
    faults: NfcFaultRules = field(default_factory=NfcFaultRules)

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        """It is not the lab's."""


class NativeClient:
    """The native library, in this process, by its VixDiskLib ABI."""

    def __init__(self, folder: Path, certificate: ServerCertificate) -> None:
        self._host = ForeignHost(certificate)
        self._lab = Lab.create(folder / "lab", sites=("bench",))
        self._lab.start()
        spec = self._lab.specs[0]
        vm = LabControl(self._lab.directory).create_vm(
            "bench", "bench", disks=[(DISK_MIB * MIB, True, None)]
        )
        self._path = vm["disks"][0]["path"]
        site = self._lab.sites["bench"]
        for moid, server in site.host_servers.by_host.items():
            server.stop()
            site.host_servers.by_host[moid] = self._host
        self._connection = VddkConnection(
            server=spec.host,
            port=spec.port,
            user=spec.user,
            password=spec.password,
            thumbprint_sha1=self._lab.dir.read()["sites"][0]["sha1"],
            vmx_spec=f"moref={vm['moref']}",
        )

    def copy(self, port: int, mode: NfcMode, depth: int, way: str, mib: int) -> Sample:
        self._host.port = port
        config = VddkConfig(isolation=False, transport_modes=mode, io_depth=depth)
        connection = replace(self._connection, read_only=way == "read")
        disk = open_vddk_disk(config, connection, self._path, read_only=way == "read")
        try:
            assert disk.transport_mode == mode
            return timed(disk.read_many if way == "read" else disk.write_many, mib, depth)
        finally:
            disk.close()

    def close(self) -> None:
        self._lab.stop()


CLIENTS: dict[str, Callable[[Path, ServerCertificate], Client]] = {
    "python": PythonClient,
    "native": NativeClient,
}


def timed(transfer: Callable[[list[tuple[int, memoryview]]], Any], mib: int, depth: int) -> Sample:
    """Moves `mib` MiB through the disk, again from its start where it ends.

    All requests are one batch, so that the end of a batch costs no round trips. At depth 1 each is
    one, since a client may join the requests of a batch. At most 8 of 32 buffers are in use.
    """
    batch = 1 if depth == 1 else mib
    buffers = [memoryview(bytearray(os.urandom(MIB))) for _ in range(BUFFERS)]
    start, used = perf_counter(), process_time()
    for first in range(0, mib, batch):
        numbers = range(first, first + batch)
        transfer([(n % DISK_MIB * MIB, buffers[n % BUFFERS]) for n in numbers])
    took, used = perf_counter() - start, process_time() - used
    return Sample(mib / took, used * 1024 / mib)


# -- the programs in C ----------------------------------------------------------------------


def build(folder: Path, name: str) -> Path:
    program = folder / name
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    source = str(HERE / f"{name}.c")
    libraries = ["-lssl", "-lcrypto", "-lpthread"]
    subprocess.run(["cc", *flags, "-o", str(program), source, *libraries], check=True)
    return program


@contextmanager
def serving(*command: str, core: int | None = None) -> Iterator[int]:
    """Runs a program that prints its port; yields the port."""
    pinned = ["taskset", "-c", str(core), *command] if core is not None else list(command)
    with subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def raw_copy(program: Path, way: str, kind: str, port: int, mib: int) -> tuple[Sample, str]:
    """One raw copy; returns its cipher too."""
    words = [str(program), way, kind, str(port), str(mib), str(BUFFERS)]
    done = subprocess.run(
        ["taskset", "-c", str(OURS), *words], check=True, capture_output=True, text=True
    )
    rate, used, cipher = done.stdout.split()
    return Sample(float(rate), float(used)), cipher


# -- measuring ------------------------------------------------------------------------------

Found = dict[tuple[str, str], list[Sample]]


class Bench:
    """The programs, running, and one client."""

    def __init__(self, client: Client, raw: Path, ports: dict[str, int], mib: int) -> None:
        self.client = client
        self.raw = raw
        self.ports = ports
        self.mib = mib
        self.ciphers: set[str] = set()

    def round(self, found: Found, modes: tuple[NfcMode, ...], raws: tuple[str, ...]) -> None:
        """Runs everything once, so that a slow time of the machine affects all in the same way."""
        for way in WAYS:
            for kind in raws:
                sample, cipher = raw_copy(self.raw, way, kind, self.ports["raw"], self.mib)
                self.ciphers.add(cipher)
                found.setdefault((f"raw {kind}", way), []).append(sample)
            for mode in modes:
                for depth in DEPTHS:
                    sample = self.client.copy(self.ports["nfc"], mode, depth, way, self.mib)
                    found.setdefault((f"{mode} depth {depth}", way), []).append(sample)


def middle(found: Found, name: str, way: str) -> Sample:
    samples = found[name, way]
    return Sample(median(s.mib_per_s for s in samples), median(s.cpu_s_per_gib for s in samples))


def table(title: str, found: Found) -> dict[str, Any]:
    """Prints medians; returns them for JSON."""
    rounds = len(next(iter(found.values())))
    print(f"\n{title}, median of {rounds}\n{'':18} {'MiB/s':>15}   {'client CPU s/GiB':>17}")
    print(f"{'':18} {'read':>7} {'write':>7}   {'read':>8} {'write':>8}")
    values: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in found):
        read, write = (middle(found, name, way) for way in WAYS)
        print(
            f"{name:18} {read.mib_per_s:7.0f} {write.mib_per_s:7.0f}"
            f"   {read.cpu_s_per_gib:8.2f} {write.cpu_s_per_gib:8.2f}"
        )
        values[name] = {
            way: {"mib_per_s": s.mib_per_s, "cpu_s_per_gib": s.cpu_s_per_gib}
            for way, s in zip(WAYS, (read, write), strict=True)
        }
    return values


def ratio(found: Found, first: str, second: str, field: str) -> str:
    values = [
        getattr(middle(found, first, way), field) / getattr(middle(found, second, way), field)
        for way in WAYS
    ]
    return f"{first} / {second}: read {values[0]:.2f}, write {values[1]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--client", choices=CLIENTS, default="python")
    parser.add_argument("--mib", type=int, default=256, help="a multiple of 32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay-ms", type=float, default=5.0, help="each way; 0: not measured")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.mib % BUFFERS:
        parser.error(f"--mib is a multiple of {BUFFERS}")
    logging.disable(logging.WARNING)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        host, raw, delay = (build(folder, name) for name in ("nfc_host", "raw_tls", "delay"))
        certificate = ServerCertificate.create(folder / "host.pem", "esx01.bench")
        pem = str(certificate.pem)
        words = [str(host), "--pem", pem, "--mib", str(DISK_MIB), "--ticket", TICKET]
        ports = {
            "nfc": stack.enter_context(serving(*words, core=THEIRS)),
            "raw": stack.enter_context(serving(str(raw), "serve", pem, str(DISK_MIB), core=THEIRS)),
        }
        os.sched_setaffinity(0, {OURS})
        client = CLIENTS[options.client](folder, certificate)
        stack.callback(client.close)
        results: dict[str, Any] = {"client": options.client, "mib": options.mib}

        bench = Bench(client, raw, ports, options.mib)
        found: Found = {}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            bench.round(found, ("nbdssl", "nbd"), ("tls", "tcp"))
        results["no delay"] = table(f"{options.client}, {options.mib} MiB", found)
        print(f"cipher of the raw copy: {', '.join(sorted(bench.ciphers - {'none'}))}")
        for field in ("mib_per_s", "cpu_s_per_gib"):
            print(f"{field}: {ratio(found, 'nbdssl depth 8', 'raw tls', field)}")

        if options.delay_ms:
            proxies = {
                name: stack.enter_context(serving(str(delay), str(port), str(options.delay_ms)))
                for name, port in ports.items()
            }
            bench = Bench(client, raw, proxies, options.mib)
            found = {}
            for number in range(options.rounds):
                print(f"delayed round {number + 1} of {options.rounds}", file=sys.stderr)
                bench.round(found, ("nbdssl", "nbd"), ("tls", "tcp"))
            title = f"{options.client}, {options.delay_ms:g} ms each way"
            results["delay"] = table(title, found)
            for mode in ("nbdssl", "nbd"):
                print(ratio(found, f"{mode} depth 8", f"{mode} depth 1", "mib_per_s"))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
