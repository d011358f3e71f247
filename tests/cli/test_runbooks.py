"""docs/runbooks: each command of a page, in its order, on a lab. Power and data are read past the
product: by pyVmomi, and as the guests have them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from pyVmomi import vim

from tests.support.commands import ALL, invoke
from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

RUNBOOKS = Path(__file__).parents[2] / "docs/runbooks"
COMMAND = re.compile(r"^\$ vreplica-sync ([^#]*?)(?:\s+# (\d+))?$", re.MULTILINE)
STARTS, ENDS = "lab up", "lab down"


def commands(page: str) -> list[tuple[str, int]]:
    """The commands of a page with their exit codes."""
    text = (RUNBOOKS / page).read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [(words, int(code or 0)) for b in blocks for words, code in COMMAND.findall(b)]


def command_of(words: list[str]) -> click.Command:
    """The command that these words begin with; `failover web01` is `failover begin web01`."""
    for length in (2, 1):
        if tuple(words[:length]) in ALL:
            return ALL[tuple(words[:length])]
    return ALL[words[0], "begin"]


def type_it(line: str) -> Result:
    """Calls it, and answers the question for the VM's name, where a terminal would be asked."""
    words = shlex.split(line)
    asks = any("--confirm" in option.opts for option in command_of(words).params)
    return invoke(*words, *(["--confirm", "web01"] if asks else []))


@pytest.fixture
def witness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Callable[..., Any]
) -> Iterator[Callable[[str], str]]:
    """A lab in `lab` of the working folder, with web01; `witness(site)`: power of the VM there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VREPLICA_CONFIG", "lab/jobs.toml")
    with Lab.create(tmp_path / "lab") as lab:
        LabControl(lab.directory).create_vm(
            "site-a", "web01", disks=[(8 * MIB, True, None)], power_on=True
        )
        specs = {spec.name: spec for spec in lab.specs}

        def power(site: str) -> str:
            content = connect(specs[site]).content
            view = content.viewManager.CreateContainerView(
                content.rootFolder, [vim.VirtualMachine], True
            )
            return " ".join(sorted(str(vm.runtime.powerState) for vm in view.view))

        yield power


def test_a_lost_site_from_the_first_look_to_the_failback(witness: Callable[[str], str]) -> None:
    control = LabControl("lab")
    seen: list[str] = []

    def order(site: str, vm: str, number: int) -> bytes:
        return control.guest_read(site, vm, 2000, (number + 1) * MIB, 512).rstrip(b"\n\0")

    def look(line: str, done: Result) -> None:
        """What the page says must be so after this command."""
        if line.startswith("failover web01 --source-lost --final-sync"):
            assert witness("site-b") == "poweredOn"
            assert order("site-b", "web01-replica", 1) == b"order 1"
            assert control.describe_vm("site-a", "web01")["power"] == "poweredOn", "not touched"
        elif line.startswith("undo"):
            assert witness("site-b") == "poweredOn", "the only copy that can run"
        elif line.startswith("failback") and "--final-sync" in line:
            assert (witness("site-a"), witness("site-b")) == ("poweredOn", "poweredOff")
            assert order("site-a", "web01", 1) == b"order 1"
            assert order("site-a", "web01", 2) == b"order 2"
        elif line.startswith("status"):
            seen.append(" ".join(done.output.split()))

    for line, code in commands("lost-site.md"):
        if line.startswith((STARTS, ENDS)):
            continue
        done = type_it(line)
        assert done.exit_code == code, f"{line}\n{done.output}"
        look(line, done)
    first, in_service, both_on, stopped, home = seen
    assert "web01 at site-a: not known" in first
    assert "in service at site-b (not committed)" in in_service
    assert "BOTH VMs are on" in both_on
    assert "web01 at site-a: off web01-replica at site-b: on" in stopped
    assert "web01 at site-a: on web01-replica at site-b: off" in home


def test_every_command_and_page_that_a_runbook_names_is_there() -> None:
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        for words in re.findall(r"`vreplica-sync ([a-z][^`]*)`", text):
            named = shlex.split(words)
            options = {o for option in command_of(named).params for o in option.opts}
            assert {word for word in named if word.startswith("--")} <= options, words
        for target, _, place in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", text):
            there = (page.parent / target) if target else page
            assert there.exists(), target
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in heads}
            assert not place or place in anchors, place


def test_the_lab_is_started_and_stopped_as_the_page_says() -> None:
    first, *_, last = commands("lost-site.md")
    assert (first, last) == (("lab up --dir lab --vm", 0), ("lab down --dir lab", 0))
