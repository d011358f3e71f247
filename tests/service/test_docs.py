"""docs/service.md and the files beside it: they can be used as they are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from vreplica.cli.app import app
from vreplica.config import load

DOCS = Path(__file__).parents[2] / "docs"
UNIT = (DOCS / "vreplica.service").read_text()


def parsed(command: list[str]) -> dict[str, object]:
    """The options of a `vreplica-sync` command line, as the command itself reads them."""
    program, name, *arguments = command
    assert Path(program).name == "vreplica-sync"
    command = app.get_command(click.Context(app), name)
    assert command is not None
    return command.make_context(name, arguments).params


def test_the_unit_calls_the_service_as_it_wants_to_be_called() -> None:
    line = re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    assert line is not None
    assert parsed(shlex.split(line[1]))["as_json"] is True


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "vreplica.service"
    # The command and the page are installed by whoever uses the unit.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE)
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert "vreplica.service" not in done.stderr, done.stderr


def test_a_pods_name_is_its_movers_name() -> None:
    _, stateful = yaml.safe_load_all((DOCS / "statefulset.yaml").read_text())
    assert stateful["kind"] == "StatefulSet"
    pod = stateful["spec"]["template"]["spec"]
    (mover,) = pod["containers"]
    words = [word.replace("$(POD_NAME)", "vreplica-0") for word in mover["command"] + mover["args"]]
    assert parsed(words)["mover"] == "vreplica-0"
    assert mover["env"][0]["name"] == "POD_NAME"
    assert mover["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    claims = {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    volumes = claims | {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in mover["volumeMounts"]} == volumes


def test_the_example_gives_the_services_database(tmp_path: Path) -> None:
    page = (DOCS / "service.md").read_text()
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    url = re.search(r"^ {4}(postgresql://\S+)$", page, re.MULTILINE)
    assert example is not None
    assert url is not None
    secret = tmp_path / "database.url"
    secret.touch(0o600)
    secret.write_text(url[1])
    file = tmp_path / "vreplica.toml"
    file.write_text(example[1].replace("/etc/vreplica/", f"{tmp_path}/"))
    assert load(file).catalog_url() == url[1]


def test_every_metric_is_explained() -> None:
    page = (DOCS / "service.md").read_text()
    source = (DOCS.parent / "vreplica/service/metrics.py").read_text()
    names = set(re.findall(r'_gauge\("(\w+)"', source))
    assert len(names) > 8
    for name in names:
        assert f"`vreplica_{name}`" in page, name


def test_commands_of_the_page_are_there() -> None:
    page = (DOCS / "service.md").read_text()
    for words in re.findall(r"vreplica-sync ([a-z -]+)", page):
        found: click.Command = app
        for word in words.split():
            if isinstance(found, click.Group) and word in found.commands:
                found = found.commands[word]
        assert found is not app, words
