"""`vreplica-sync serve` over a lab: killed, restarted, two movers on one PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

import vreplica
from tests.support import waiting
from tests.support.commands import with_confirmation
from vreplica.cli.app import app
from vreplica.failover.machine import journal as journals
from vreplica.failover.machine.states import FailoverEvent
from vreplica.lab import LabControl, down, up
from vreplica.scheduling.planner import ROUND_S
from vreplica.service.catalog import tables
from vreplica.service.catalog.database import Catalog
from vreplica.units import MIB
from vreplica.vsphere.session import connect

CLOCKED = """
import datetime, pathlib, sys
from vreplica.service.catalog.database import Catalog
file, true = pathlib.Path(sys.argv.pop(1)), Catalog.now
def ahead():
    return datetime.timedelta(hours=int(file.read_text()) if file.exists() else 0)
Catalog.now = lambda self, c=None: true(self, c) + ahead()
from vreplica.cli import main; main()
"""
"""The command, with the catalog's clock set ahead by the hours that a file says."""


@dataclass
class Fleet:
    """A lab with hosts at two sites, VMs on all of them, and job files that share a catalog."""

    folder: Path
    control: LabControl
    status: dict[str, Any]
    vms: list[str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def job_file(self, name: str, service: str, schedule: str, hosts: int = 1) -> Path:
        """Like the lab's own, with one job a VM; `name` has a state folder of its own."""
        lab = self.folder / "lab"
        text = (lab / "jobs.toml").read_text().partition("[jobs.")[0]
        text = text.replace('state_dir = "state"', f'state_dir = "state-{name}"')
        text += f"[service]\n{service}\n"
        for number, vm in enumerate(self.vms):
            text += (
                f"\n[jobs.{vm}]\n"
                f'source = {{ site = "site-a", vm = "{vm}" }}\n'
                f'destination = {{ site = "site-b", datastore = "site-b-ds1", name = "{vm}-r",'
                f' host = "{host_name("site-b", number % hosts, self.status)}" }}\n'
                f'schedule = {{ {schedule} }}\nkeep = 3\ntransport = "nfc"\n'
            )
        path = lab / f"{name}.toml"
        path.write_text(text)
        return path

    def serve(self, path: Path, mover: str) -> subprocess.Popen[bytes]:
        command = self.command(path, mover)
        with (self.folder / f"{mover}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def command(self, path: Path, mover: str) -> list[str]:
        program = [sys.executable, "-c", CLOCKED, str(self.clock)]
        return [*program, "serve", "--config", str(path), "--mover", mover]

    @property
    def clock(self) -> Path:
        return self.folder / "hours-ahead"

    def points(self, path: Path) -> dict[str, list[str]]:
        config = vreplica.load(path)
        return {vm: [p.id for p in vreplica.recovery_points(config[vm])] for vm in self.vms}

    def journal(self, vm: str) -> list[journals.Entry]:
        """Of the failover of a VM, on whichever mover it is."""
        found = list(self.folder.glob(f"lab/state-*/{vm}/failovers/fo-*"))
        return journals.load(found[0]) if found else []

    def effects(self, vm: str) -> Counter[str]:
        return Counter(e.step for e in self.journal(vm) if e.kind == "intent")

    def leftovers(self) -> list[str]:
        return [vm for vm in self.vms if self.control.describe_vm("site-a", vm)["snapshots"]]


def host_name(site: str, number: int, status: dict[str, Any]) -> str:
    (found,) = [s for s in status["sites"] if s["name"] == site]
    return str(found["hosts"][number])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[[int, int], Fleet]]:
    made: list[Fleet] = []

    def make(vms: int, hosts: int) -> Fleet:
        lab = tmp_path / "lab"
        status = up(lab, temporary=True, hosts=hosts)
        control = LabControl(lab)
        for site in status["sites"]:
            config = vreplica.load(lab / "jobs.toml")
            with connect(config.endpoint(site["name"])) as session:
                site["hosts"] = [h.name for h in session.hosts()]
        names = [f"vm{n:02d}" for n in range(vms)]
        for number, name in enumerate(names):
            host = host_name("site-a", number % hosts, status)
            disk = (4 * MIB, True, None)
            control.create_vm("site-a", name, disks=[disk], power_on=True, host=host)
        made.append(Fleet(tmp_path, control, status, names))
        return made[0]

    yield make
    for one in made:
        for process in one.processes:
            process.kill()
            process.wait()
        down(one.folder / "lab")


def until(what: str, holds: Callable[[], object], seconds: float = 120.0) -> None:
    waiting.until(what, holds, seconds, poll_s=0.2)


def runs(catalog: Catalog, *states: str) -> list[dict[str, Any]]:
    t = tables.runs
    columns = (t.c.id, t.c.job, t.c.kind, t.c.state, t.c.mover, t.c.holds, t.c.error)
    query = sa.select(*columns, t.c.queued, t.c.began, t.c.ended)
    return catalog.read(query.where(t.c.state.in_(states)) if states else query)


def write(fleet: Fleet, text: bytes) -> None:
    for vm in fleet.vms:
        fleet.control.guest_write("site-a", vm, 2000, 0, text.ljust(512, b"."))


def assert_points_and_runs_agree(fleet: Fleet, path: Path, catalog: Catalog) -> None:
    """Each point on a replica is that of one run, and none is there twice. The run is done; or
    lost, where its mover was killed for good between the point and the word of it."""
    made = Counter(r["id"] for state in ("done", "lost") for r in runs(catalog, state))
    for vm, ids in fleet.points(path).items():
        assert len(ids) == len(set(ids)), vm
        assert ids, vm
        assert all(made[i] == 1 for i in ids if not i.startswith("fo-")), (vm, ids)


def test_a_killed_service_goes_on_where_it_was_and_a_stopped_one_leaves_nothing(
    fleet: Callable[[int, int], Fleet],
) -> None:
    here = fleet(3, 1)
    path = here.job_file("one", 'lease = "5s"', 'every = "2s"')
    first = here.serve(path, "m1")
    database = vreplica.load(path).state_dir / "catalog.sqlite"
    until("the catalog is there", database.exists)
    catalog = Catalog.open(f"sqlite:///{database}")
    until("every job has run", lambda: len({r["job"] for r in runs(catalog, "done")}) == 3)
    until("a run is under way", lambda: bool(runs(catalog, "running")))
    first.kill()
    first.wait()
    cut_off = {r["id"] for r in runs(catalog, "running")}

    second = here.serve(path, "m1")
    until("what was cut off has ended", lambda: cut_off <= {r["id"] for r in runs(catalog, "done")})
    before = len(runs(catalog, "done"))
    until("runs go on", lambda: len(runs(catalog, "done")) > before + 3)
    # The clock is set, with runs under way: nobody is taken to be dead, no job stands still.
    for hours in ("3", "-3", "0"):
        here.clock.write_text(hours)
        before = len(runs(catalog, "done"))
        until(f"runs go on {hours} h ahead", lambda n=before: len(runs(catalog, "done")) > n + 3)
    taken = subprocess.run(here.command(path, "m1"), capture_output=True, check=False)
    assert taken.returncode == 3
    assert b"is running here as mover m1" in taken.stderr

    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    assert not runs(catalog, "running")
    assert here.leftovers() == []
    assert {r["state"] for r in catalog.history(limit=1000)} <= {"done", "cancelled", "queued"}
    assert_points_and_runs_agree(here, path, catalog)
    catalog.close()


def cli(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from vreplica.cli import main; main()", *arguments]
    return subprocess.Popen(
        [*command, "--config", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def called(path: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*with_confirmation(*arguments), "--config", str(path)])
    assert done.exit_code == code, done.output
    return done.output


def test_a_failover_goes_on_when_the_service_that_does_it_is_killed_and_when_it_is_stopped(
    fleet: Callable[[int, int], Fleet],
) -> None:
    here = fleet(2, 1)
    path = here.job_file("one", 'lease = "5s"', 'every = "1s"')
    first = here.serve(path, "m1")
    database = vreplica.load(path).state_dir / "catalog.sqlite"
    until("the catalog is there", database.exists)
    catalog = Catalog.open(f"sqlite:///{database}")
    until("every job has run", lambda: len({r["job"] for r in runs(catalog, "done")}) == 2)

    # Killed while it waits for the guest's shutdown; the client that asked waits on.
    here.control.set_guest("site-a", "vm00", shutdown_s=4)
    client = cli(path, "failover", "vm00", "--final-sync", "yes", "--by-service", "--json")
    # Not right after the call, where nobody can know whether the guest has been asked.
    asked = FailoverEvent.SHUTDOWN_REQUESTED
    until("the guest was asked", lambda: any(e.event is asked for e in here.journal("vm00")))
    first.kill()
    first.wait()
    second = here.serve(path, "m1")
    until("it is gone on with", lambda: len({e.epoch for e in here.journal("vm00")}) > 2)
    # Stopped in the middle: it is put off until the next start.
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    third = here.serve(path, "m1")
    answer, _ = client.communicate(timeout=120)
    assert (client.returncode, b'"state": "running"' in answer) == (0, True), answer
    effects = here.effects("vm00")
    assert effects["ShutdownGuest source"] == effects["PowerOn replica"] == 1, effects
    assert json.loads(called(path, "failover", "show", "vm00", "--check", "--json"))

    # The other job went on, this one did not, and is not late.
    def newest(job: str) -> datetime:
        return max(r["queued"] for r in catalog.history([job]) if r["kind"] == "run")

    begun = next(r["began"] for r in catalog.history(["vm00"]) if r["kind"] == "failover")
    until("vm01 runs on", lambda: newest("vm01") > begun)
    assert newest("vm00") < begun
    status, _ = json_lines(called(path, "status", "vm00", "--json"))
    assert (status["state"], status["failover"]["state"]) == ("disabled", "running")
    again = called(path, "failover", "vm00", "--final-sync", "no", "--by-service", code=9)
    assert "has a failover that has not ended" in again

    called(path, "undo", "vm00", "--by-service")
    until("vm00 runs again", lambda: newest("vm00") > begun)
    # What was done without the service is known to it, too.
    called(path, "failover", "vm00", "--final-sync", "no", "--commit")
    here_and_there = {r["state"] for r in catalog.read(sa.select(tables.failovers))}
    assert here_and_there == {"undone", "committed"}
    third.send_signal(signal.SIGTERM)
    assert third.wait(60) == 0
    points = {r["id"] for r in catalog.read(sa.select(tables.points)) if r["job"] == "vm01"}
    assert points == set(here.points(path)["vm01"])
    asked = [r["what"] for r in catalog.audit_trail("vm00") if r["what"].startswith("failover")]
    assert Counter(asked) == {"failover asked": 2, "failover done": 2, "failover by hand": 1}
    catalog.close()


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@dataclass
class Observer:
    """Counts, in the lab, VMs of each host that have a snapshot of ours: runs at one moment."""

    fleet: Fleet
    ignore: set[str]
    """A failover waits for nobody's place."""
    highest: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Observer:
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()
        self.thread.join()

    def _watch(self) -> None:
        hosts = len(self.fleet.status["sites"][0]["hosts"])
        before: dict[str, list[str]] = {}
        while not self.stopped.wait(0.1):
            seen = {
                vm: self.fleet.control.describe_vm("site-a", vm)["snapshots"]
                for vm in self.fleet.vms
                if vm not in self.ignore
            }
            # A look takes its time; what is in two of them was there between them, all at once.
            now = Counter(
                host_name("site-a", n % hosts, self.fleet.status)
                for n, vm in enumerate(self.fleet.vms)
                if set(seen.get(vm, ())) & set(before.get(vm, ()))
            )
            before = seen
            self.looks += 1
            for host, n in now.items():
                self.highest[host] = max(self.highest[host], n)


def most_at_once(rows: list[dict[str, Any]], kind: str) -> int:
    """The most runs that held one resource of a kind at one moment, by the catalog's times."""
    steps: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for row in rows:
        for resource in row["holds"]:
            if resource.startswith(kind) and row["began"] and row["ended"]:
                steps[resource] += [(row["began"], 1), (row["ended"], -1)]
    highest = 0
    for changes in steps.values():
        level = 0
        for _, change in sorted(changes):
            level += change
            highest = max(highest, level)
    return highest


def two_movers(
    here: Fleet,
    postgres: Callable[..., str],
    *,
    hosts: int,
    schedule: str,
    lease_s: int,
    runs_per_mover: int,
    seconds: float = 120,
) -> None:
    """Two a host; every job is due all the time, and its RPO is watched."""
    per_host = 2
    url = postgres()
    os.environ["VREPLICA_TEST_DATABASE"] = url
    service = (
        f'database = {{ env = "VREPLICA_TEST_DATABASE" }}\nlease = "{lease_s}s"\n'
        f"runs_per_host = {per_host}\nruns_per_datastore = 100\n"
        f"runs_per_mover = {runs_per_mover}"
    )
    paths = {m: here.job_file(m, service, schedule, hosts) for m in ("m1", "m2")}
    catalog = Catalog.open(url)
    with Observer(here, {here.vms[0]}) as observer:
        movers = {m: here.serve(path, m) for m, path in paths.items()}
        jobs = len(here.vms)
        until(
            "every job has run",
            lambda: len({r["job"] for r in runs(catalog, "done")}) == jobs,
            seconds=seconds,
        )
        assert {r["mover"] for r in runs(catalog, "done")} == {"m1", "m2"}
        # The database is cut off while a failover waits for its guest's shutdown.
        failed = here.vms[0]
        here.control.set_guest("site-a", failed, shutdown_s=3)
        client = cli(paths["m1"], "failover", failed, "--final-sync", "yes", "--by-service")
        until(
            "the guest was asked",
            lambda: "ShutdownGuest source" in here.effects(failed),
            seconds=seconds,
        )
        postgres(restart=True)
        answer, _ = client.communicate(timeout=seconds)
        assert client.returncode == 0, answer
        assert here.effects(failed)["PowerOn replica"] == 1
        called(paths["m1"], "undo", failed, "--by-service")

        def running_on(mover: str) -> list[dict[str, Any]]:
            return [r for r in runs(catalog, "running") if r["mover"] == mover]

        # Killed under load, restarted under its name: its own runs go on.
        until("m1 is at work", lambda: bool(running_on("m1")), seconds=seconds)
        movers["m1"].kill()
        movers["m1"].wait()
        cut_off = {r["id"] for r in running_on("m1")}
        movers["m1"] = here.serve(paths["m1"], "m1")
        until(
            "what was cut off has ended",
            lambda: not cut_off & {r["id"] for r in runs(catalog, "running")},
            seconds=seconds,
        )
        assert cut_off <= {r["id"] for r in runs(catalog, "done")}
        # Killed for good: after the lease and a third, the other has its jobs.
        until("m2 is at work", lambda: bool(running_on("m2")), seconds=seconds)
        movers["m2"].kill()
        movers["m2"].wait()
        killed = catalog.now()
        # From here on a snapshot may also be one that m2 has left.
        highest = dict(observer.highest)
        orphans = {r["job"] for r in running_on("m2")}
        until(
            "m1 has run what m2 had begun",
            lambda: (
                orphans
                <= {
                    r["job"]
                    for r in runs(catalog, "done")
                    if r["mover"] == "m1" and r["ended"] > killed
                }
            ),
            seconds=seconds,
        )
        lost = [r for r in runs(catalog, "lost") if r["mover"] == "m2" and r["ended"] > killed]
        assert {r["job"] for r in lost} >= orphans
        # docs/service.md: the lease and a third, seen within a quarter, and a round.
        took = max(r["ended"] for r in lost) - killed
        print(f"taken over after {took.total_seconds():.1f} s with a lease of {lease_s} s")
        assert took < timedelta(seconds=lease_s * (4 / 3 + 1 / 4) + ROUND_S)
        movers["m1"].send_signal(signal.SIGTERM)
        assert movers["m1"].wait(90) == 0
    rows = runs(catalog)
    print(f"{Counter(r['state'] for r in rows)}, at most {highest} a host")
    assert {r["state"] for r in rows} <= {"done", "lost", "cancelled", "queued"}, rows
    assert not [e for e in catalog.audit_trail(limit=10_000) if e["what"] == "RPO violated"]
    assert observer.looks > 5
    assert max(highest.values()) <= per_host
    assert most_at_once([r for r in rows if r["state"] == "done"], "host:") <= per_host
    assert here.leftovers() == []
    assert_points_and_runs_agree(here, paths["m1"], catalog)
    catalog.close()


def test_two_movers_share_the_work_and_one_takes_over_from_the_other(
    fleet: Callable[[int, int], Fleet], postgres: Callable[..., str]
) -> None:
    # The lease outlasts the restart of a mover on a machine that has much else to do.
    schedule, here = 'every = "3s", rpo = "2m"', fleet(8, 2)
    two_movers(here, postgres, hosts=2, schedule=schedule, lease_s=15, runs_per_mover=4)


@pytest.mark.slow
def test_sixty_vms_on_six_hosts_by_two_movers(
    fleet: Callable[[int, int], Fleet], postgres: Callable[..., str]
) -> None:
    schedule, here = 'every = "30s", rpo = "4m"', fleet(60, 6)
    two_movers(
        here, postgres, hosts=6, schedule=schedule, lease_s=30, runs_per_mover=8, seconds=300
    )
