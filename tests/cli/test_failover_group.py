"""A group's failover as a user types it: order, one report, kill -9 and the way back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import vreplica
from tests.support.commands import invoke
from vreplica.config import load
from vreplica.lab import Lab, LabControl
from vreplica.service.catalog import jobs, observed
from vreplica.service.catalog.database import Catalog
from vreplica.units import MIB

NAMES = ("db01", "app01", "web01")
YES = ("--final-sync", "yes", "--shutdown-timeout", "3s")


@pytest.fixture(scope="module")
def file(lab: Lab, control: LabControl) -> str:
    """A job file with a group of three running VMs, each with a point."""
    text = (lab.directory / "jobs.toml").read_text()
    head, _, job = text.partition("[jobs.")
    tables = "".join(f"[jobs.{job}".replace("web01", name) + "\n" for name in NAMES)
    path = lab.directory / "group.toml"
    path.write_text(
        head
        + tables
        + '[groups.shop.members]\ndb01 = {}\napp01 = { after = ["db01"] }\n'
        + 'web01 = { after = ["app01"], delay_s = 1 }\n'
    )
    for name in NAMES:
        control.create_vm("site-a", name, disks=[(4 * MIB, True, None)], power_on=True)
        control.guest_write("site-a", name, 2000, 0, b"x" * 4096)
    assert invoke("run", "-q", "-c", str(path)).exit_code == 0
    return str(path)


def jobs_of(lab: Lab, *names: str) -> Path:
    """A job file with these jobs and a state folder of its own; all of them are one group."""
    head, _, job = (lab.directory / "jobs.toml").read_text().partition("[jobs.")
    group = names[0].rstrip("0123456789")
    text = head.replace('state_dir = "state"', f'state_dir = "state-{group}"')
    text += "".join(f"[jobs.{job}".replace("web01", name) + "\n" for name in names)
    text += f"[groups.{group}.members]\n" + "".join(f"{name} = {{}}\n" for name in names)
    path = lab.directory / f"{group}.toml"
    path.write_text(text)
    return path


@pytest.fixture
def started(si: Any) -> Callable[[], list[str]]:
    """Names in the order in which vCenter says that site-a's VMs were asked to shut down."""

    def names() -> list[str]:
        tasks = [t.info for t in si.content.taskManager.recentTask]
        asked = [t for t in tasks if "shutdownguest" in t.descriptionId.lower()]
        return [t.entityName for t in sorted(asked, key=lambda t: t.queueTime)]

    return names


class Page(HTMLParser):
    """What a page refers to outside of itself, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refers += [f"{tag} {v}" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_in_order_with_one_report_and_back(
    file: str, control: LabControl, started: Callable[[], list[str]], tmp_path: Path
) -> None:
    plan = invoke("failover", "group:shop", "--dry-run", "-c", file)
    assert plan.exit_code == 0
    assert plan.stdout.count("point A while it runs") == 3
    known = json.loads(invoke("failover", "group:shop", "--dry-run", "--json", "-c", file).stdout)
    assert [m["job"] for m in known["members"]] == [m["job"] for m in known["group"]["members"]]
    done = invoke("failover", "group:shop", *YES, "--json", "-c", file)
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["state"] == "running"
    assert started()[-3:] == ["web01", "app01", "db01"]
    records = {m["job"]: m["record"] for m in value["members"]}
    for record in records.values():
        assert record["level"] == "clean-shutdown"
        assert record["downtime_s"] == pytest.approx(sum(record["downtime_parts_s"].values()))
    assert records["db01"]["answered"] < records["app01"]["answered"] < records["web01"]["answered"]
    page = tmp_path / "report.html"
    shown = invoke("failover", "show", "group:shop", "--page", str(page), "-c", file)
    assert shown.exit_code == 0
    seen = Page(page.read_text())
    assert not seen.refers, "the page needs nothing else"
    assert {"Failover of group shop", *NAMES} <= set(seen.words)
    assert "Compared with vCenter's own tasks and events" not in seen.words
    check = ("failover", "show", "group:shop", "--check", "--page", str(page), "-c", file)
    same = json.loads(invoke(*check, "--json").stdout)["check"]
    assert [(same[n]["equal"], same[n]["findings"]) for n in NAMES] == [(True, [])] * 3
    # No task tells of this: a guest that goes down by itself.
    control.power("site-b", "app01-replica", on=False)
    other = invoke(*check)
    assert other.exit_code == 8
    assert "app01: vCenter's own record differs" in other.stdout
    assert "VmPoweredOffEvent of app01-replica, without a task" in other.stdout
    assert Page(page.read_text()).words.count("differs") == 1
    assert invoke("failover", "group:shop", *YES, "-c", file).exit_code == 9
    assert invoke("undo", "group:shop", "-q", "-c", file).exit_code == 0
    assert invoke("run", "-q", "-c", file).exit_code == 0
    listed = json.loads(invoke("failover", "list", "group:shop", "--json", "-c", file).stdout)
    assert listed["failovers"][-1]["state"] == "undone"


def test_the_catalog_is_told_of_each_member(lab: Lab, control: LabControl) -> None:
    path = jobs_of(lab, "told1", "told2")
    for name in ("told1", "told2"):
        control.create_vm("site-a", name, disks=[(4 * MIB, True, None)], power_on=True)
    catalog = Catalog.open(load(path).catalog_url())
    ran = invoke("run", "-q", "-c", str(path))
    assert ran.exit_code == 0, ran.output
    done = invoke("failover", "group:told", *YES, "--json", "-c", str(path))
    assert done.exit_code == 0, done.output
    id_ = json.loads(done.stdout)["failover"]

    def known() -> dict[str, str]:
        with catalog.transaction() as c:
            assert (
                observed.failover_states(c, "told1")[id_]
                == json.loads(
                    invoke("failover", "show", "group:told", "--json", "-c", str(path)).stdout
                )["state"]
            )
            return jobs.disabled(c)

    assert known() == {"told1": id_, "told2": id_}
    shown = invoke("status", "-c", str(path)).stdout
    assert shown.count("in service at site-b (not committed)") == 2
    assert invoke("undo", "group:told", "-q", "-c", str(path)).exit_code == 0
    assert known() == {}
    said = map(json.loads, invoke("history", "--json", "-c", str(path)).stdout.splitlines())
    rows = [(row["job"], row["request"] and row["request"]["do"], row["state"]) for row in said]
    assert sorted(rows, key=str) == [
        (name, verb, "done") for name in ("told1", "told2") for verb in ("failover", "undo", None)
    ]
    # The point of the failover's final sync is the newest that is known.
    documents = map(json.loads, invoke("status", "--json", "-c", str(path)).stdout.splitlines())
    for one in [one for one in documents if one["result"] == "status"]:
        (*_, newest) = vreplica.recovery_points(load(path)[one["job"]])
        assert (one["point"], one["level"]) == (newest.id, newest.level.value)
        assert (one["vm_at"], one["state"]) == ("site-a", "idle")
    catalog.close()


def test_a_guest_that_hangs_stops_the_group_with_nine(file: str, control: LabControl) -> None:
    control.set_guest("site-a", "app01", shutdown="hangs")
    done = invoke("failover", "group:shop", *YES, "--json", "-c", file)
    control.set_guest("site-a", "app01", shutdown="works")
    assert done.exit_code == 9
    value = json.loads(done.stdout)
    states = {m["job"]: m["state"] for m in value["members"]}
    assert states == {"db01": "insured", "app01": "shutting-down", "web01": "synced"}
    assert invoke("commit", "group:shop", "-c", file).exit_code == 9
    assert invoke("undo", "group:shop", "-q", "-c", file).exit_code == 0
    assert invoke("run", "-q", "-c", file).exit_code == 0


def test_killed_in_the_middle_another_process_takes_it_to_the_end_and_back_in_the_same_order(
    file: str, control: LabControl
) -> None:
    control.set_guest("site-a", "app01", shutdown="hangs")
    program = str(Path(sys.executable).with_name("vreplica-sync"))
    command = [program, "failover", "group:shop", "--final-sync", "yes", "-c", file]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    end = time.monotonic() + 60
    for line in process.stderr:
        if "app01: waiting for the guest's shutdown" in line or time.monotonic() > end:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    control.power("site-a", "app01", on=False)
    resumed = invoke("failover", "resume", "group:shop", "--json", "-c", file)
    assert resumed.exit_code == 0, resumed.output
    value = json.loads(resumed.stdout)
    assert [m["state"] for m in value["members"]] == ["running"] * 3
    assert invoke("commit", "group:shop", "-q", "-c", file).exit_code == 0
    assert invoke("undo", "group:shop", "-q", "-c", file).exit_code == 9

    control.set_guest("site-a", "app01", shutdown="works")
    refused = invoke("failover", "group:shop", *YES, "-c", file)
    assert (refused.exit_code, "failback" in refused.output) == (9, True)
    plan = invoke("failback", "group:shop", "--dry-run", "-c", file)
    assert plan.exit_code == 0
    assert plan.stdout.count("point A while it runs") == 3
    one = invoke("failback", "group:shop", "--final-sync", "yes", "--new-vm", "ds", "-c", file)
    assert one.exit_code == 2
    back = invoke("failback", "group:shop", *YES, "--json", "-c", file)
    assert back.exit_code == 0, back.output
    value = json.loads(back.stdout)
    assert (value["state"], value["back"]) == ("running", True)
    records = {m["job"]: m["record"] for m in value["members"]}
    assert records["web01"]["source_off"] < records["app01"]["source_off"]
    assert records["db01"]["answered"] < records["app01"]["answered"] < records["web01"]["answered"]
    assert invoke("commit", "group:shop", "-q", "-c", file).exit_code == 0
    assert invoke("run", "-q", "-c", file).exit_code == 0
    again = invoke("failback", "group:shop", *YES, "-c", file)
    assert (again.exit_code, "no member" in again.output) == (9, True)


def test_an_undo_before_any_source_was_touched_is_done(lab: Lab, control: LabControl) -> None:
    control.create_vm("site-a", "solo", disks=[(4 * MIB, True, None)], power_on=True)
    path = lab.directory / "solo.toml"
    text = (lab.directory / "jobs.toml").read_text().replace("web01", "solo")
    path.write_text(
        text + '\n[groups.one]\non_error = "continue"\n[groups.one.members]\nsolo = {}\n'
    )
    file = str(path)
    assert invoke("run", "-q", "-c", file).exit_code == 0
    no = ("--final-sync", "no", "--require", "clean-shutdown")
    refused = invoke("failover", "group:one", *no, "-c", file)
    assert (refused.exit_code, "nothing was changed" in refused.output) == (9, True)
    assert invoke("undo", "group:one", "-q", "-c", file).exit_code == 0
    assert invoke("run", "-q", "-c", file).exit_code == 0
