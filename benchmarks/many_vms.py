"""Measures what is asked of a vCenter of 5,000 VMs: govmomi's simulator, of Debian's package.

    python -m benchmarks.many_vms [--vms 5000] [--hosts 20] [--rounds 3]

A login; a listing of all VMs and places; `check` and `plan` of one job and of four, new ones (their
VMs are found by name) and known ones (by instance UUID). The simulator is a process of its own, so
its time counts in the seconds of the wall clock alone. Bytes are those of the answers. Limits:
300 KB and 1 s of processor time for one job; four jobs take at most 1.3 times as much time as one.
The simulator has neither change tracking nor NFC, so every job has problems; all that is asked of
vCenter is asked all the same.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest import mock

from vreplica import load
from vreplica.sync.known_vms import remember
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.sites import SiteSessions
from vreplica.vsphere.connection.certificate import fetch_certificate
from vreplica.vsphere.connection.link import ServerLink
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import connect

PROGRAM: Final = str(Path(sys.executable).with_name("vreplica-sync"))
GOPATH: Final = Path("/usr/share/gocode")
SOURCE: Final = Path(__file__).parent / "vcenters" / "vcsim.go"
JOBS: Final = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vms", type=int, default=5000)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["MANY_PASSWORD"] = "pass"
    with (
        tempfile.TemporaryDirectory() as name,
        simulator(Path(name), 1, options.hosts, options.vms) as port,
    ):
        file = write_jobs(Path(name), port)
        print(f"{options.vms} VMs on {options.hosts} hosts; the best and median of the rounds")
        print(f"{'':24} {'calls':>6} {'KB':>6} {'CPU s':>13} {'wall s':>13}")
        site = load(file)["job0"].source
        report("login", cost(lambda: enter(site)), [in_process(lambda: enter(site))])
        report(
            "listing of the site", cost(lambda: listed(site)), [in_process(lambda: listed(site))]
        )
        for known in (False, True):
            if known:
                remember_sources(file)
            for command, count in itertools.product(("check", "plan"), (1, JOBS)):
                kind = f"{command}, {count} {'known' if known else 'new'} job{'s' * (count > 1)}"
                asked = cost(lambda: work(command, file, count))  # noqa: B023  called at once
                taken = [timed(command, file, count) for _ in range(options.rounds)]
                report(kind, asked, taken)


def report(kind: str, asked: tuple[int, int], taken: list[tuple[float, float]]) -> None:
    cpu, wall = ([t[n] for t in taken] for n in (0, 1))
    print(
        f"{kind:24} {asked[0]:6} {asked[1] / 1000:6.0f} "
        f"{min(cpu):6.2f} {median(cpu):6.2f} {min(wall):6.2f} {median(wall):6.2f}"
    )


def enter(site: Endpoint) -> None:
    with connect(site):
        pass


def listed(site: Endpoint) -> None:
    with connect(site) as session, session.one_look():
        session.vms()
        session.datastores()
        session.hosts()
        session.networks()


def work(command: str, file: Path, count: int) -> None:
    """Does what the command does with the first jobs."""
    config = load(file)
    with SiteSessions(one_look=True) as sessions:
        for name in list(config)[:count]:
            if command == "check":
                check_readiness(config[name], sessions)
            else:
                plan(config[name], sessions=sessions)


@contextmanager
def simulator(folder: Path, *size: int) -> Iterator[int]:
    """Builds and starts the simulator; yields its port. `size`: datacenters, hosts, VMs in each."""
    shutil.copy(SOURCE, folder)
    settings = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": "", "CGO_ENABLED": "0"}
    command = ["go", "build", "-o", "vcsim", SOURCE.name]
    environment = {**os.environ, **settings}
    environment.setdefault("GOCACHE", str(Path.home() / ".cache" / "go-build"))
    subprocess.run(command, cwd=folder, env=environment, check=True)
    run = [str(folder / "vcsim"), *map(str, size)]
    pipe = subprocess.PIPE
    log = subprocess.DEVNULL  # the simulator reports every method that it lacks
    with subprocess.Popen(run, stdin=pipe, stdout=pipe, stderr=log, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1])
        process.communicate()


def write_jobs(folder: Path, port: int) -> Path:
    sha256 = hashlib.sha256(fetch_certificate("127.0.0.1", port, timeout_s=10)).hexdigest()
    site = f"""\
state_dir = "state"
[sites.main]
host = "127.0.0.1"
port = {port}
user = "user"
password = {{ env = "MANY_PASSWORD" }}
sha256 = "{sha256}"
"""
    jobs = "".join(
        f"""
[jobs.job{number}]
source = {{ site = "main", vm = "DC0_C0_RP0_VM{number}" }}
destination = {{ site = "main", datastore = "LocalDS_0", name = "replica{number}" }}
"""
        for number in range(JOBS)
    )
    file = folder / "jobs.toml"
    file.write_text(site + jobs)
    return file


def remember_sources(file: Path) -> None:
    """As after a run."""
    config = load(file)
    for name in config:
        job = config[name]
        job.job_dir.mkdir(parents=True, exist_ok=True)
        with connect(job.source) as session:
            remember(job, source=session.read_vm(session.find_vm(job.source_vm)))


def cost(work: Callable[[], object]) -> tuple[int, int]:
    """Returns the calls of some work, and the bytes of the answers."""
    asked, received = [], []
    ask, take = ServerLink.ask, http.client.HTTPResponse.read

    def noted(link: ServerLink, operation: str, *more: Any, **named: Any) -> Any:
        asked.append(operation)
        return ask(link, operation, *more, **named)

    def counted(response: http.client.HTTPResponse, *more: Any) -> bytes:
        data = take(response, *more)
        received.append(len(data))
        return data

    with (
        mock.patch.object(ServerLink, "ask", noted),
        mock.patch.object(http.client.HTTPResponse, "read", counted),
    ):
        work()
    return len(asked), sum(received)


def in_process(work: Callable[[], object]) -> tuple[float, float]:
    """Returns processor and wall seconds of some work, without the start of a program."""
    before, began = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - before, time.perf_counter() - began


def timed(command: str, file: Path, count: int) -> tuple[float, float]:
    """Returns processor and wall seconds of the command, its start included."""
    names = [f"job{number}" for number in range(count)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [PROGRAM, command, "-c", str(file), "--json", *names], capture_output=True, check=False
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = [json.loads(line)["job"] for line in done.stdout.splitlines()]
    assert found == names, done.stderr.decode()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


if __name__ == "__main__":
    main()
