"""What a lab writes beside its state, and scenario files that it reads."""

from __future__ import annotations

import gc
import http.client
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from vreplica.config.jobfile import load
from vreplica.errors import VReplicaError
from vreplica.lab import Lab, LabControl, LabExists, NoLab, down, status, up


def test_the_job_file_that_comes_with_a_lab_can_be_used(lab: Lab) -> None:
    config = load(lab.directory / "jobs.toml")
    job = config["web01"]
    spec = lab.specs[0]
    assert (job.source.host, job.source.port) == (spec.host, spec.port)
    assert job.source.password == spec.password
    assert job.placement.datastore == "site-b-ds1"
    assert job.vddk.config_file == lab.directory / "vixdisklib.conf"
    assert config.state_dir == lab.directory / "state"


def test_files_with_passwords_are_the_owners_alone(lab: Lab) -> None:
    for name in ("lab.json", "hosts.map", "site-a.password", "control.sock", "site-a/site.pem"):
        mode = stat.S_IMODE((lab.directory / name).stat().st_mode)
        assert mode & 0o077 == 0, f"{name} has mode {mode:o}"


def test_a_folder_holds_one_lab_or_none(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabExists):
        Lab.create(lab.directory)
    with pytest.raises(NoLab):
        status(tmp_path)
    found = up(tmp_path / "new", sites=("only",), datastores=("a",))
    assert [s["name"] for s in found["sites"]] == ["only"]
    assert found["sites"][0]["datastores"] == ["only-a"]
    assert set(found["sites"][0]) >= {"name", "url", "user", "password", "sha256", "datastores"}
    assert up(tmp_path / "new")["pid"] == found["pid"]
    assert down(tmp_path / "new")
    assert not down(tmp_path / "new")


def test_a_scenario_file_sets_rules_of_calls_and_of_nfc(
    lab: Lab, control: LabControl, tmp_path: Path, connect: Callable[..., Any]
) -> None:
    control.create_vm("site-a", "scene", disks=[])
    scenario = tmp_path / "bad-night.toml"
    scenario.write_text(
        """
        seed = 7
        [[fault]]
        site = "site-a"
        method = "PowerOnVM_Task"
        action = "restart"
        [[nfc]]
        site = "site-b"
        kind = "slow"
        delay_s = 0.5
        """
    )
    assert control.load_scenario(scenario) == 2
    si = connect(lab.specs[0])
    vm = si.content.searchIndex.FindByInventoryPath("/site-a-dc/vm/scene")
    with pytest.raises((OSError, http.client.HTTPException)):
        vm.PowerOnVM_Task()
    for _ in range(200):
        try:
            state = vm.runtime.powerState
            break
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        except vim.fault.NotAuthenticated:
            si.content.sessionManager.Login(lab.specs[0].user, lab.specs[0].password)
    gc.collect()
    assert state == "poweredOff"
    assert control.list_faults("site-a")[0]["struck"] == 1
    control.clear_faults("site-a")
    control.clear_faults("site-b")
    assert control.list_faults("site-a") == []


def test_the_same_seed_strikes_the_same_calls(
    lab: Lab, control: LabControl, connect: Callable[..., Any]
) -> None:
    si = connect(lab.specs[0])

    def strikes() -> list[bool]:
        control.do("seed_faults", site="site-a", seed=11)
        number = control.add_fault(
            "site-a", method="CurrentTime", fault="HostNotConnected", count=None, probability=0.5
        )
        found = []
        for _ in range(20):
            try:
                si.CurrentTime()
                found.append(False)
            except vmodl.fault.HostNotConnected:
                found.append(True)
        control.clear_faults("site-a", number)
        return found

    first = strikes()
    assert first == strikes()
    assert 0 < sum(first) < 20


def test_control_says_what_is_wrong(control: LabControl) -> None:
    for work, text in (
        (lambda: control.settings("site-a", nothing=1), "no such setting"),
        (lambda: control.describe_vm("site-a", "nobody"), "0 VMs called nobody"),
        (lambda: control.settings("site-x"), "no such site"),
        (lambda: control.do("explode"), "no such command"),
        (lambda: control.add_fault("site-a", action="dance"), "no such action"),
    ):
        with pytest.raises(VReplicaError, match=text):
            work()
