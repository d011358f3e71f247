"""A group by the service: asked, carried out by a mover, put off when it stops, and put back."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import invoke
from tests.support.waiting import until
from vreplica.config import Config, load
from vreplica.failover.machine.journal import load as load_journal
from vreplica.failover.machine.states import FailoverEvent
from vreplica.lab import Lab, LabControl
from vreplica.scheduling.planner import ConcurrencyLimits
from vreplica.scheduling.schedule import Every, ScheduleRule
from vreplica.service.catalog import failover_requests, jobs, movers
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.failover_requests import FailoverRequested
from vreplica.service.dispatcher import Dispatcher
from vreplica.service.failover_worker import FailoverWorker
from vreplica.service.lease import Lease
from vreplica.service.status import job_status
from vreplica.units import MIB

TTL = timedelta(seconds=30)
RULES = {name: ScheduleRule(Every(timedelta(microseconds=1))) for name in ("svc1", "svc2")}
GROUP = {
    "do": "begin",
    "who": "me",
    "group": {},
    "members": ["svc1", "svc2"],
}


# -- the catalog ------------------------------------------------------------------------------


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")
    with opened.transaction() as c:
        movers.join(c, "m1", 4, opened.now(c), TTL)
    yield opened
    opened.close()


def ask(catalog: Catalog, id_: str, job: str, **request: Any) -> None:
    with catalog.transaction() as c:
        failover_requests.add(c, id_, job, {"do": "begin", **request}, catalog.now(c))


def planned(catalog: Catalog) -> list[tuple[str, bool]]:
    plan = Dispatcher(catalog, "m1", RULES, ConcurrencyLimits(), lambda *_: None)
    return [(one.job, one.failover) for one in plan.round({})]


def test_a_group_waits_for_the_runs_of_its_members_and_no_more_of_them_begin(
    catalog: Catalog,
) -> None:
    assert sorted(planned(catalog)) == [("svc1", False), ("svc2", False)]
    ask(catalog, "fo-1", "group:svc", **GROUP)
    assert planned(catalog) == []
    with catalog.transaction() as c:
        c.execute(jobs.t.runs.update().where(jobs.t.runs.c.kind == "run").values(state="done"))
    assert planned(catalog) == [("group:svc", True)]
    assert planned(catalog) == [], "also before a mover has begun it"
    with catalog.transaction() as c:
        assert failover_requests.begin(c, "fo-1", "m1", catalog.now(c)) is not None
        assert jobs.disabled(c) == {"svc1": "fo-1", "svc2": "fo-1"}
    for one in job_status(catalog, RULES):
        assert one.state == "failing over"
        assert one.failover is not None
        assert (one.failover["id"], one.failover["mover"]) == ("fo-1", "m1")


def test_a_member_that_is_asked_for_is_asked_for_once(catalog: Catalog) -> None:
    ask(catalog, "fo-1", "svc2")
    with pytest.raises(FailoverRequested, match="fo-1 is asked"):
        ask(catalog, "fo-2", "group:svc", **GROUP)
    with catalog.transaction() as c:
        c.execute(jobs.t.runs.update().values(state="done"))
    ask(catalog, "fo-3", "group:svc", **GROUP)
    for name in ("svc1", "group:svc"):
        with pytest.raises(FailoverRequested, match="fo-3 is asked"):
            ask(catalog, "fo-4", name)


# -- on a lab ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(lab: Lab, control: LabControl) -> str:
    head, _, job = (lab.directory / "jobs.toml").read_text().partition("[jobs.")
    text = head + "".join(f"[jobs.{job}".replace("web01", name) + "\n" for name in RULES)
    text += '[groups.svc.members]\nsvc1 = {}\nsvc2 = { after = ["svc1"] }\n'
    path = lab.directory / "svc.toml"
    path.write_text(text)
    for name in RULES:
        control.create_vm("site-a", name, disks=[(4 * MIB, True, None)], power_on=True)
    assert invoke("run", "-q", "-c", str(path)).exit_code == 0
    Catalog.open(load(path).catalog_url()).close()
    return str(path)


def a_worker(config: Config, catalog: Catalog) -> FailoverWorker:
    lease = Lease(lambda: True, lambda: None, timedelta(hours=1))
    lease.renew_once()
    return FailoverWorker("m1", catalog, lease, config, lambda *_: None)


@contextmanager
def serving(file: str, *, stops: bool = False) -> Iterator[list[str]]:
    """A mover without an engine; gives the ids of the requests that it has begun.

    `stops`: it stops once, when a guest was asked to shut down, and begins again.
    """
    config, ended, begun, over = load(file), threading.Event(), list[str](), list[str]()
    catalog = Catalog.open(config.catalog_url())

    def carry_out(id_: str) -> None:
        while True:
            worker = a_worker(config, catalog)
            begun.append(id_)
            watching = threading.Thread(target=stop_when_asked, args=(worker, id_))
            watching.start()
            with worker.take(id_) as task:
                assert task is not None
                last = task.step()
                if not last["more"]:
                    task.record_end(last)
            over.append(id_)
            watching.join()
            if not last["more"]:
                return

    def stop_when_asked(worker: FailoverWorker, id_: str) -> None:
        folder = config.state_dir / "svc2/failovers" / id_
        while stops and not over:
            if any(e.event is FailoverEvent.SHUTDOWN_REQUESTED for e in load_journal(folder)):
                worker.stopping = True
                return
            time.sleep(0.02)

    def work() -> None:
        while not ended.is_set():
            with catalog.transaction() as c:
                movers.join(c, "m1", 4, catalog.now(c), TTL)
                given = failover_requests.assign(c, movers.registered(c))
            for id_, _, _ in given:
                carry_out(id_)
            ended.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until("a mover is there", lambda: movers_of(catalog))
        yield begun
    finally:
        ended.set()
        thread.join()
        catalog.close()


def movers_of(catalog: Catalog) -> object:
    with catalog.transaction() as c:
        return movers.registered(c)


def test_a_group_goes_over_by_the_service_also_when_that_stops_in_between_and_back(
    file: str, control: LabControl
) -> None:
    def power() -> list[str]:
        here = [control.describe_vm("site-a", n)["power"] for n in RULES]
        return here + [control.describe_vm("site-b", f"{n}-replica")["power"] for n in RULES]

    on, off = "poweredOn", "poweredOff"
    control.set_guest("site-a", "svc2", shutdown_s=3.0)
    with serving(file, stops=True) as begun:
        yes = ("--final-sync", "yes", "--by-service")
        done = invoke("failover", "group:svc", *yes, "--json", "-c", file)
        assert done.exit_code == 0, done.output
        value = json.loads(done.stdout)
        assert (value["result"], value["state"]) == ("failover-group", "running")
        assert [m["state"] for m in value["members"]] == ["running"] * 2
        assert power() == [off, off, on, on]
        assert begun == [value["failover"]] * 2, "it was put off in between"
        shown = invoke("status", "-c", file).stdout
        assert shown.count("in service at site-b (not committed)") == 2
        undone = invoke("undo", "group:svc", "--by-service", "-c", file)
        assert undone.exit_code == 0, undone.output
        assert "undone" in undone.stdout
    assert power() == [on, on, off, off]
    rows = [
        json.loads(line) for line in invoke("history", "--json", "-c", file).stdout.splitlines()
    ]
    asked = [(r["job"], r["request"]["do"], r["state"]) for r in rows if r["request"]]
    assert asked == [("group:svc", "undo", "done"), ("group:svc", "begin", "done")]
    assert invoke("run", "-q", "-c", file).exit_code == 0
    catalog = Catalog.open(load(file).catalog_url())
    with catalog.transaction() as c:
        assert jobs.disabled(c) == {}
    catalog.close()


def test_a_member_that_fails_is_told_with_nine(file: str, control: LabControl) -> None:
    control.set_guest("site-a", "svc1", shutdown="hangs")
    control.set_guest("site-a", "svc2", shutdown_s=0.1)
    short = ("--shutdown-timeout", "2s", "--final-sync", "yes", "--by-service")
    with serving(file):
        done = invoke("failover", "group:svc", *short, "--json", "-c", file)
        assert done.exit_code == 9, done.output
        states = {m["job"]: m["state"] for m in json.loads(done.stdout)["members"]}
        assert states["svc2"] == "synced"
        control.set_guest("site-a", "svc1", shutdown="works")
        assert invoke("undo", "group:svc", "--by-service", "-q", "-c", file).exit_code == 0
    assert control.describe_vm("site-a", "svc2")["power"] == "poweredOn"


def test_a_group_whose_journals_are_lost_is_adopted_and_put_back_by_the_service(
    file: str, control: LabControl
) -> None:
    for name in RULES:
        control.set_guest("site-a", name, shutdown_s=0.1)
    state_dir = load(file).state_dir
    with serving(file):
        yes = ("--final-sync", "yes", "--by-service", "--json")
        began = invoke("failover", "group:svc", *yes, "-c", file)
        assert began.exit_code == 0, began.output
        failover = json.loads(began.stdout)["failover"]
        for name in (*RULES, ".groups"):
            shutil.rmtree(state_dir / name)
        confirmed = ("--confirm", "svc", "--by-service", "--json")
        done = invoke("failover", "adopt", "group:svc", *confirmed, "-c", file)
        assert done.exit_code == 0, done.output
        value = json.loads(done.stdout.splitlines()[-1])
        assert (value["result"], value["failover"]) == ("failover-adopted-group", failover)
        assert value["state"] == "running"
        assert [m["state"] for m in value["members"]] == ["running"] * 2
        undone = invoke("undo", "group:svc", "--by-service", "-q", "-c", file)
        assert undone.exit_code == 0, undone.output
    on_sites = (("site-a", "{}", "poweredOn"), ("site-b", "{}-replica", "poweredOff"))
    for site, vm, power in on_sites:
        assert {control.describe_vm(site, vm.format(n))["power"] for n in RULES} == {power}
    assert invoke("run", "-q", "-c", file).exit_code == 0


def test_one_job_is_adopted_by_the_service_once_and_by_a_mover_that_is_there(
    file: str, control: LabControl
) -> None:
    state_dir = load(file).state_dir
    yes = ("--final-sync", "yes", "-q")
    assert invoke("failover", "svc1", *yes, "-c", file).exit_code == 0
    shutil.rmtree(state_dir / "svc1")
    with serving(file):
        confirmed = ("--confirm", "svc1", "--by-service", "--json")
        assert invoke("undo", "svc1", "--by-service", "-c", file).exit_code == 3
        for here in (False, True):
            done = invoke("failover", "adopt", "svc1", *confirmed, "-c", file)
            assert done.exit_code == 0, done.output
            value = json.loads(done.stdout.splitlines()[-1])
            assert (value["state"], value["here"]) == ("running", here)
        undone = invoke("undo", "svc1", "--by-service", "-q", "-c", file)
        assert undone.exit_code == 0, undone.output
    assert control.describe_vm("site-a", "svc1")["power"] == "poweredOn"
    assert control.describe_vm("site-b", "svc1-replica")["power"] == "poweredOff"
