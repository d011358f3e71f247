"""Measures the downtime of a failover on the lab, with its parts: a VM of 2 GiB with 50 MiB hot.

    python -m benchmarks.downtime [--size-mib 2048] [--hot-mib 50] [--rounds 3] [--dir DIR]

The guest writes the hot part again right before it shuts down, so the final sync has all of it. The
guests of the lab shut down and boot almost at once. So the figures are the time of vreplica;
shutdown and heartbeat have rows of their own.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import vreplica.lab
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.record import record_of
from vreplica.failover.machine.runner import begin_failover
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.lab import LabControl
from vreplica.sync.cycle import run
from vreplica.sync.events import ReplicationEvent, Step
from vreplica.sync.job import Job, Placement
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig
from vreplica.vsphere.model import Endpoint

FILLED = 0.4
STEPS = ("read", "snapshot", "copy", "commit", "release")


def endpoint(site: dict[str, str]) -> Endpoint:
    host, _, port = re.sub("^https://", "", site["url"]).partition("/")[0].partition(":")
    return Endpoint(host, site["user"], site["password"], site["sha256"], int(port))


def write_hot(control: LabControl, site: str, vm: str, mib: int, seed: int) -> None:
    source = random.Random(seed)
    for number in range(mib):
        control.guest_write(site, vm, 2000, number * 7 * MIB, source.randbytes(MIB))


def one(folder: Path, control: LabControl, number: int, size: int, hot: int) -> dict[str, float]:
    sites = vreplica.lab.status(folder)["sites"]
    here, vm = sites[0]["name"], f"hot-{number}"
    content = folder / "content.raw"
    if not content.exists():
        source = random.Random(1)
        with content.open("wb") as file:
            file.truncate(size * MIB)
            for at in range(int(size * FILLED)):
                file.seek(int(at / FILLED) * MIB)
                file.write(source.randbytes(MIB))
    guest = "windows2019srv_64Guest"
    control.create_vm(here, vm, disks=[(size * MIB, True, content)], guest_id=guest)
    control.power(here, vm, on=True)
    job = Job(
        name=vm,
        source=endpoint(sites[0]),
        source_vm=vm,
        destination=endpoint(sites[1]),
        placement=Placement(datastore=sites[1]["datastores"][0], name=f"{vm}-replica"),
        state_dir=folder / "state",
        vddk=VddkConfig(config_file=folder / "vixdisklib.conf"),
    )
    run(job)
    write_hot(control, here, vm, hot, 2)
    steps: list[tuple[str, float]] = []

    def listener(event: ReplicationEvent) -> None:
        if isinstance(event, Step):
            steps.append((event.name, time.monotonic()))

    class Busy(VSpherePorts):
        def shut_down_source(self) -> None:
            write_hot(control, here, vm, hot, 3)
            steps.clear()
            super().shut_down_source()

    journal = job.job_dir / "failovers" / "fo-1"
    journal.parent.mkdir(parents=True)
    with Busy(job, journal.name, listener) as ports:
        begin_failover(journal, ports, FailoverChoices(heartbeat_timeout_s=60), lambda text: None)
    record = record_of(vm, journal.name, load(journal))
    times = dict(steps)
    asked = next(e.time for e in record.entries if e.kind == "call" and "Shutdown" in e.step)
    assert record.source_off is not None
    assert record.downtime_s is not None
    parts = {"shutdown until seen off": (record.source_off - asked).total_seconds()}
    for name, seconds in record.parts_s:
        parts[name] = seconds
        if name == "final sync":
            for first, then in pairwise(STEPS):
                parts[f"  {first}"] = times[then] - times[first]
    parts["downtime (source off to heartbeat)"] = record.downtime_s
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--hot-mib", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None, help="Default: a temporary one.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as name:
        folder = Path(name)
        vreplica.lab.up(folder)
        try:
            control = LabControl(folder)
            rounds = [
                one(folder, control, n, given.size_mib, given.hot_mib) for n in range(given.rounds)
            ]
        finally:
            vreplica.lab.down(folder)
    print(
        f"{given.size_mib} MiB, {given.hot_mib} MiB hot, median of {given.rounds} (best), seconds"
    )
    for part in rounds[0]:
        values = [r[part] for r in rounds]
        print(f"{part:36} {statistics.median(values):7.2f} ({min(values):.2f})")


if __name__ == "__main__":
    main()
