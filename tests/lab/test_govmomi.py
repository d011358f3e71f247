"""A Go client, built here from Debian's govmomi, goes through the whole lab."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from vreplica.lab import Lab, LabControl

SOURCE = Path(__file__).parent / "govmomi" / "client.go"
GOPATH = Path("/usr/share/gocode")


@pytest.fixture(scope="module")
def client(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = tool("go", "golang-go")
    if not (GOPATH / "src/github.com/vmware/govmomi").is_dir():
        reason = "govmomi is not installed (Debian package golang-github-vmware-govmomi-dev)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("go")
    shutil.copy(SOURCE, folder / "client.go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    environment.setdefault("GOCACHE", str(Path.home() / ".cache" / "go-build"))
    built = subprocess.run(
        [go, "build", "-o", "client", "client.go"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "client"


def test_a_go_client_runs_its_script(lab: Lab, control: LabControl, client: Path) -> None:
    control.create_vm("site-a", "other", disks=[])
    control.create_vm("site-a", "gopher", disks=[(1 << 20, True, None)], power_on=True)
    control.guest_write("site-a", "gopher", 2000, 0, b"g" * 512)
    spec = lab.specs[0]
    login = f"{quote(spec.user)}:{quote(spec.password)}"
    ran = subprocess.run(
        [str(client), f"https://{login}@{spec.host}:{spec.port}/sdk", "gopher"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.rstrip().endswith("ok logout")
