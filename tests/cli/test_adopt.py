"""`failover adopt`: the mover or its state directory is lost, the replica's own marks are not.

Power states are read by pyVmomi, data as the guests have it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.support.commands import invoke
from vreplica.failover import adopt as adopting
from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

MARKER = b"WRITTEN-IN-SERVICE".ljust(512, b"!")
AT = 2 * MIB


@dataclass
class Night:
    """A job between two sites, run by movers that have a state directory each."""

    lab: Lab
    control: LabControl
    job: str
    managed: Callable[[str, str], Any]

    @property
    def replica(self) -> str:
        return f"{self.job}-replica"

    def mover(self, name: str) -> Callable[..., Result]:
        """The commands of a mover: `mover("new")("undo")`."""
        text = (self.lab.directory / "jobs.toml").read_text().replace("web01", self.job)
        state = self.lab.directory / f"state-{name}-{self.job}"
        text = re.sub(r'state_dir = ".*"', f'state_dir = "{state}"', text)
        file = self.lab.directory / f"{self.job}-{name}.toml"
        file.write_text(text)

        def run(verb: str, *args: str) -> Result:
            words = verb.split()
            if words == ["failover", "adopt"]:
                args = ("--confirm", self.job, *args)
            return invoke(*words, self.job, *args, "-c", str(file))

        return run

    def power(self) -> tuple[bool, bool]:
        """Source on, replica on; as vCenter has it."""
        pairs = (("site-a", self.job), ("site-b", self.replica))
        on = [self.managed(*p).runtime.powerState == "poweredOn" for p in pairs]
        return on[0], on[1]

    def write(self) -> None:
        self.control.guest_write("site-b", self.replica, 2000, AT, MARKER)

    def has_marker(self, site: str, vm: str) -> bool:
        found: bytes = self.control.guest_read(site, vm, 2000, AT, 512)
        return found == MARKER

    def power_off_replica(self) -> None:
        WaitForTask(self.managed("site-b", self.replica).PowerOffVM_Task())

    def power_on(self, site: str, vm: str) -> None:
        WaitForTask(self.managed(site, vm).PowerOnVM_Task())


@pytest.fixture
def night(lab: Lab, control: LabControl, connect: Callable[..., Any]) -> Night:
    name = f"web-{uuid.uuid4().hex[:8]}"
    control.create_vm(
        "site-a",
        name,
        disks=[(4 * MIB, True, None)],
        guest_id="windows2019srv_64Guest",
        power_on=True,
    )
    control.guest_write("site-a", name, 2000, 0, b"x" * 4096)
    sites = {spec.name: connect(spec) for spec in lab.specs}

    def managed(site: str, vm: str) -> Any:
        content = sites[site].content
        view = content.viewManager.CreateContainerView(
            content.rootFolder, [vim.VirtualMachine], True
        )
        (found,) = [v for v in view.view if v.name == vm]
        return found

    made = Night(lab, control, name, managed)
    assert made.mover("old")("run", "-q").exit_code == 0
    return made


def failed_over(night: Night, *more: str) -> str:
    """Failed over by the mover `old`, and written to in service. Its id."""
    done = night.mover("old")(
        "failover", "--final-sync", "yes", "--heartbeat-timeout", "20s", "--json", *more
    )
    assert done.exit_code == 0, done.output
    night.write()
    return str(json.loads(done.stdout)["failover"])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_replica_in_service_is_adopted_and_undone_on_a_machine_without_its_state(
    night: Night,
) -> None:
    failover = failed_over(night)
    night.power_off_replica()  # its host restarts
    new = night.mover("new")
    for verb, args in (
        ("plan", ()),
        ("run", ()),
        ("failover", ("--dry-run",)),
        ("failover", ("--final-sync", "yes")),
        ("failover", ("--final-sync", "no")),
        ("failover", ("--source-lost", "--final-sync", "no")),
        ("failover resume", ()),
        ("undo", ()),
        ("commit", ()),
        ("failback", ("--final-sync", "yes")),
    ):
        refused = new(verb, *args)
        assert refused.exit_code == 3, (verb, refused.output)
        assert failover in refused.output, (verb, refused.output)
        assert "failover adopt" in said(refused), (verb, refused.output)
        assert "by hand" not in said(refused)
    adopted = new("failover adopt", "--json")
    assert adopted.exit_code == 0, adopted.output
    value = json.loads(adopted.stdout.splitlines()[-1])
    assert (value["failover"], value["state"], value["here"]) == (failover, "running", False)
    assert (value["replica"], value["source"]) == ("poweredOff", "poweredOff")
    shown = json.loads(new("failover show", "--json").stdout)
    assert shown["facts"]["level"] == "clean-shutdown"
    assert shown["downtime_s"] > 0
    # The mover that had it comes back: it can do nothing.
    for verb, args in (("undo", ()), ("commit", ()), ("failover resume", ()), ("run", ())):
        late = night.mover("old")(verb, *args)
        assert late.exit_code == 3, (verb, late.output)
    assert night.power() == (False, False)
    night.power_on("site-b", night.replica)
    assert night.has_marker("site-b", night.replica), "nothing was reverted"
    assert new("undo").exit_code == 0
    assert night.power() == (True, False)
    points = json.loads(new("points", "--json").stdout)
    assert [b["failover"] for b in points["side_branches"]] == [failover]
    assert new("run", "-q").exit_code == 0


def test_a_committed_failover_is_adopted_and_failed_back(night: Night) -> None:
    failover = failed_over(night)
    assert night.mover("old")("commit").exit_code == 0
    new = night.mover("new")
    assert "failover adopt" in said(new("failback", "--final-sync", "yes"))
    adopted = new("failover adopt", "--json")
    value = json.loads(adopted.stdout.splitlines()[-1])
    assert (value["failover"], value["state"]) == (failover, "committed")
    again = json.loads(new("failover adopt", "--json").stdout.splitlines()[-1])
    assert again["here"] is True
    assert new("failback", "--final-sync", "yes", "--heartbeat-timeout", "20s").exit_code == 0
    assert night.power() == (True, False)
    assert night.has_marker("site-a", night.job)
    late = night.mover("old")("failback", "--final-sync", "yes")
    assert late.exit_code == 3, late.output
    assert new("commit").exit_code == 0
    assert new("run", "-q").exit_code == 0
    # The old mover learns that it is over, and runs the job again.
    assert night.mover("old")("run", "-q").exit_code == 3
    over = night.mover("old")("failover adopt", "--json")
    assert json.loads(over.stdout.splitlines()[-1])["set_aside"] == [failover]
    assert night.mover("old")("run", "-q").exit_code == 0


def test_a_replica_that_somebody_started_is_adopted_and_what_it_wrote_is_kept(
    night: Night,
) -> None:
    night.power_on("site-b", night.replica)
    night.write()
    new = night.mover("new")
    for verb, args in (
        ("failover", ("--final-sync", "no")),
        ("undo", ()),
        ("failback", ("--final-sync", "yes")),
    ):
        refused = new(verb, *args)
        assert refused.exit_code == 3, (verb, refused.output)
        assert "failover adopt" in said(refused), (verb, refused.output)
    assert "failover adopt" in said(new("plan"))
    adopted = new("failover adopt", "--json")
    assert adopted.exit_code == 0, adopted.output
    value = json.loads(adopted.stdout.splitlines()[-1])
    assert (value["state"], value["both_on"]) == ("running", True)
    assert "ALARM" in said(adopted)
    assert night.power() == (True, True), "nothing was stopped"
    assert new("run").exit_code == 3
    assert new("undo").exit_code == 0
    assert night.power() == (True, False)
    points = json.loads(new("points", "--json").stdout)
    (branch,) = points["side_branches"]
    assert branch["failover"] == value["failover"]


def test_there_is_nothing_to_adopt_where_nothing_happened(night: Night) -> None:
    refused = night.mover("new")("failover adopt")
    assert refused.exit_code == 3
    assert "no failover has the replica" in said(refused)


def test_it_is_confirmed_by_the_vms_name(night: Night, tmp_path: Path) -> None:
    failed_over(night)
    night.mover("new")
    file = str(night.lab.directory / f"{night.job}-new.toml")
    for words in ((), ("--confirm", "db01")):
        refused = invoke("failover", "adopt", night.job, *words, "-c", file)
        assert refused.exit_code == 2, refused.output
    undone = night.mover("old")("undo")
    assert undone.exit_code == 0, undone.output


def test_half_way_it_is_adopted_and_ends_on_the_machine_that_took_it(night: Night) -> None:
    """The guest hangs; the mover is lost while it waits."""
    night.control.set_guest("site-a", night.job, shutdown="hangs")
    gone = night.mover("old")("failover", "--final-sync", "yes", "--shutdown-timeout", "2s")
    assert gone.exit_code == 9
    new = night.mover("new")
    refused = new("failover", "--final-sync", "yes")
    assert refused.exit_code == 3
    assert "in the hands of failover" in said(refused)
    value = json.loads(new("failover adopt", "--json").stdout.splitlines()[-1])
    assert value["state"] in ("insured", "shutting-down")
    night.control.set_guest("site-a", night.job, shutdown="works")
    assert new("failover resume").exit_code == 0
    assert night.power() == (False, True)
    assert night.mover("old")("failover resume").exit_code == 3
    assert night.mover("old")("undo").exit_code == 3
    assert night.power() == (False, True)
    points = json.loads(new("points", "--json").stdout)["points"]
    assert points[-1]["level"] == "clean-shutdown"
    assert new("undo", "--discard-written").exit_code == 0
    assert night.power() == (True, False)


def test_a_failback_is_adopted_half_way_with_its_failover(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_over(night)
    old = night.mover("old")
    assert old("commit").exit_code == 0
    night.control.set_guest("site-b", night.replica, shutdown="hangs")
    gone = old("failback", "--final-sync", "yes", "--shutdown-timeout", "2s")
    assert gone.exit_code == 9
    new = night.mover("new")
    adopted = new("failover adopt", "--json")
    assert adopted.exit_code == 0, adopted.output
    value = json.loads(adopted.stdout.splitlines()[-1])
    assert value["failover"].startswith("fb-")
    assert old("failover resume").exit_code == 3
    with monkeypatch.context() as patch:
        # Without the original nobody knows that its failback is over: its journal stays.
        patch.setattr(adopting, "_read_source", lambda _: (None, "it is away"))
        away = json.loads(new("failover adopt", "--json").stdout.splitlines()[-1])
    assert (away["here"], away["set_aside"]) == (True, [])
    night.control.set_guest("site-b", night.replica, shutdown="works")
    assert new("failover resume").exit_code == 0
    assert night.power() == (True, False)
    assert night.has_marker("site-a", night.job)
    assert new("commit").exit_code == 0
    assert new("run", "-q").exit_code == 0


@pytest.mark.parametrize("dies", ["_claim", "_set_aside", "remember", "_switch"])
def test_a_mover_that_dies_while_it_adopts_adopts_again(
    night: Night, dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after the claim, and before the job is switched off."""
    failed_over(night)
    new = night.mover("new")
    if dies == "_set_aside":
        new, dies = night.mover("old"), "_claim"
        assert night.mover("new")("failover adopt").exit_code == 0

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(adopting, dies, killed)
        with pytest.raises(Killed):
            print(new("failover adopt").output)
    assert new("run").exit_code == 3
    assert new("failover adopt").exit_code == 0
    assert new("run").exit_code == 3
    assert new("undo", "--discard-written").exit_code == 0
    assert night.power() == (True, False)
