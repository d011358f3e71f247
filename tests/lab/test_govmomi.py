"""Go clients, built here from Debian's govmomi, go through the whole lab."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from benchmarks.many_vms import GOPATH, simulator
from vreplica.lab import Lab, LabControl

SOURCES = Path(__file__).parent / "govmomi"
Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def build(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build("client")`: the program made from client.go."""
    go = tool("go", "golang-go")
    if not (GOPATH / "src/github.com/vmware/govmomi").is_dir():
        reason = "govmomi is not installed (Debian package golang-github-vmware-govmomi-dev)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    environment.setdefault("GOCACHE", str(Path.home() / ".cache" / "go-build"))

    def make(name: str) -> Path:
        shutil.copy(SOURCES / f"{name}.go", folder)
        built = subprocess.run(
            [go, "build", "-o", name, f"{name}.go"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stderr
        return folder / name

    return make


def run(program: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def url(lab: Lab) -> str:
    spec = lab.specs[0]
    login = f"{quote(spec.user)}:{quote(spec.password)}"
    return f"https://{login}@{spec.host}:{spec.port}/sdk"


def test_a_go_client_runs_its_script(lab: Lab, control: LabControl, build: Build) -> None:
    control.create_vm("site-a", "other", disks=[])
    control.create_vm("site-a", "gopher", disks=[(1 << 20, True, None)], power_on=True)
    control.guest_write("site-a", "gopher", 2000, 0, b"g" * 512)
    said = run(build("client"), url(lab), "gopher")
    assert said.rstrip().endswith("ok logout")


DIFFERENCES = {
    # "DuplicateName: if the name is already used" (vSphere API, CloneVM_Task).
    "a second clone of a name: DuplicateName",
    # "recursively calls Destroy_Task on all the child virtual machines" (vSphere API, Folder).
    "a VM that was in it: ManagedObjectNotFound",
}
"""The answers of the lab in which that simulator does not follow the API."""


def test_the_lab_answers_govc_as_the_simulator_does(
    lab: Lab, control: LabControl, build: Build, tmp_path: Path
) -> None:
    program = build("calls")
    control.create_vm("site-a", "called", disks=[(1 << 20, True, None)], power_on=True)
    names = ("site-a-dc", "site-a-ds1", "esx1.site-a.lab", "called")
    said = run(program, url(lab), *names).splitlines()
    with simulator(tmp_path, 1, 1, 1) as port:
        names = ("DC0", "LocalDS_0", "DC0_C0_H0", "DC0_C0_RP0_VM0")
        other = run(program, f"https://user:pass@127.0.0.1:{port}/sdk", *names).splitlines()
    assert len(said) == len(other) > 30
    assert {*said} - {*other} == DIFFERENCES
