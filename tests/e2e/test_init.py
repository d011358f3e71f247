"""`init` on the lab: the file that it writes is one that loads, checks and runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vreplica
from vreplica.cli.app import app
from vreplica.units import MIB

Content = Callable[..., Path]


@pytest.fixture
def init(world, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    def call(*more: str, sha256: bool = True, address: str = "{}") -> Result:
        args = ["init", "-o", str(tmp_path / "vreplica.toml")]
        for number, side in enumerate(("source", "destination")):
            end = world.endpoint(number)
            args += [f"--{side}", address.format(f"{end.host}:{end.port}")]
            args += [f"--{side}-user", end.user]
            args += [f"--{side}-sha256", end.sha256] if sha256 else []
        return CliRunner().invoke(app, [*args, *more])

    monkeypatch.setenv("MAIN_PASSWORD", world.endpoint(0).password)
    monkeypatch.setenv("DR_PASSWORD", world.endpoint(1).password)
    return call


def test_the_written_file_loads_and_its_jobs_run(
    world, content: Content, init: Callable[..., Result], tmp_path: Path
) -> None:
    vm = world.make_vm(content(4 * MIB))
    store = world.sites[1]["datastores"][1]
    result = init("--vm", vm, "--datastore", store)
    assert result.exit_code == 0, result.output
    file = tmp_path / "vreplica.toml"
    assert world.endpoint(0).password not in file.read_text()
    config = vreplica.load(file)
    assert list(config) == [vm]
    assert config[vm].placement.datastore == store
    checked = CliRunner().invoke(app, ["check", "--json", "-c", str(file)])
    assert json.loads(checked.stdout)["good"], checked.stdout
    assert vreplica.run(config[vm], verify=True).verified.equal


def test_a_file_that_is_there_stays_unless_force_is_said(
    world, content: Content, init: Callable[..., Result], tmp_path: Path
) -> None:
    vm = world.make_vm(content(4 * MIB))
    file = tmp_path / "vreplica.toml"
    file.write_text("mine")
    more = ("--vm", vm, "--datastore", world.sites[1]["datastores"][0])
    refused = init(*more)
    assert (refused.exit_code, file.read_text()) == (2, "mine")
    assert "--force" in refused.output
    assert init(*more, "--force", "--json").exit_code == 0
    assert list(vreplica.load(file)) == [vm]
    assert [p.name for p in tmp_path.glob("*.toml*")] == ["vreplica.toml"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ((), "--vm"),
        (("--vm", "VM"), "--datastore"),
        (("--vm", "VM", "--datastore", "nowhere"), "site-b-ds1"),
        (("--vm", "VM", "--datastore", "site-b-ds1", "--network", "a=b"), "VM Network"),
    ],
)
def test_without_a_terminal_what_is_missing_is_named_with_the_choices(
    world, content: Content, init: Callable[..., Result], tmp_path: Path, more, named: str
) -> None:
    vm = world.make_vm(content(4 * MIB))
    result = init(*(vm if word == "VM" else word for word in more))
    assert result.exit_code == 2
    assert named in result.output
    assert not list(tmp_path.glob("*.toml*"))


def test_no_password_is_sent_to_a_certificate_that_nobody_vouched_for(
    world, init: Callable[..., Result]
) -> None:
    result = init(sha256=False)
    assert result.exit_code == 2
    assert world.endpoint(0).sha256 in result.output
    assert "--source-sha256" in result.output


def test_a_pattern_chooses_all_vms_that_match_and_a_name_is_taken_as_it_is(
    world, init: Callable[..., Result], tmp_path: Path
) -> None:
    vms = [f"shop{number}-{tmp_path.name}" for number in (1, 2)]
    for vm in vms:
        world.control.create_vm(world.here, vm, disks=[(4 * MIB, True, None)])
    store = world.sites[1]["datastores"][0]
    # A URL of the server is its address, too.
    result = init(
        *("--vm", f"shop?-{tmp_path.name}", "--vm", vms[0]),
        "--datastore",
        store,
        address="https://{}/sdk",
    )
    assert result.exit_code == 0, result.output
    assert sorted(vreplica.load(tmp_path / "vreplica.toml")) == sorted(vms)
    assert "8 MiB of disks" in result.stderr
    nothing = init("--vm", "none*", "--datastore", store, "--force")
    assert (nothing.exit_code, "no VM matches none*" in nothing.output) == (2, True)


def test_free_space_of_datastores_is_shown(world, content: Content, init) -> None:
    vm = world.make_vm(content(4 * MIB))
    store = world.sites[1]["datastores"][0]
    asked = " ".join(init("--vm", vm).output.split())
    assert re.search(rf"{store} \([\d.]+ [KMGT]iB free of [\d.]+ [KMGT]iB\)", asked)
    chosen = init("--vm", vm, "--datastore", store)
    assert f"replicas go to: {store}, " in chosen.stderr
    assert "free of" in chosen.stderr
