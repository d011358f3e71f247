"""The table of commands, and that a command loads the job file once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import vreplica
from tests.support.commands import ALL
from tests.support.job_file import PASSWORD, STATE, job_table, site_table
from vreplica.cli.app import COMMANDS, app
from vreplica.cli.commands import lab
from vreplica.cli.commands.failover.failover import COMMANDS as FAILOVER
from vreplica.cli.lazy_group import PACKAGE, LazyGroup

CONFIG = f"""\
{STATE}{site_table()}{job_table("web01")}
[groups.shop.members]
web01 = {{}}
[notify.page]
on = ["run failed"]
hook = {{ command = ["true"] }}
"""


@pytest.fixture
def group_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    file = tmp_path / "jobs.toml"
    file.write_text(CONFIG)
    return file


WITH_JOB_FILE = [words for words, c in ALL.items() if any(p.name == "config" for p in c.params)]
OF_TARGETS = [
    words for words in WITH_JOB_FILE if any(p.name == "target" for p in ALL[words].params)
]


# -- the table ------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [COMMANDS, FAILOVER])
def test_every_line_of_the_table_leads_to_a_command_of_that_name(table: Mapping[str, Any]) -> None:
    for name, lazy in table.items():
        module, _, attribute = lazy.place.partition(":")
        command = getattr(import_module(f"{PACKAGE}.{module}"), attribute)
        assert command.name == name
        assert command.help, "its own help says what it does"
        assert len(name) + len(lazy.help) < 84, "one line of the group's help"


def test_every_command_that_a_module_makes_is_in_a_table() -> None:
    folder = Path(vreplica.__file__).parent / "cli" / "commands"
    in_tables = {lazy.place.partition(":")[0] for t in (COMMANDS, FAILOVER) for lazy in t.values()}
    # `lab` is a group with subcommands of its own.
    makers = {inspect.unwrap(c.callback).__module__ for c in lab.lab.commands.values()}
    in_tables |= {maker.removeprefix(f"{PACKAGE}.") for maker in makers}
    for file in folder.rglob("*.py"):
        module = ".".join(file.relative_to(folder).with_suffix("").parts)
        if "\n@click.command(" in file.read_text():
            assert module in in_tables, module


def test_a_command_that_is_mistyped_is_told_the_one_that_is_meant() -> None:
    result = CliRunner().invoke(app, ["pount"])
    assert result.exit_code == 2
    assert "points" in result.stderr


def test_a_group_of_lazy_commands_lists_them_in_the_order_of_its_table() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    places = [shown.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert isinstance(app, LazyGroup)


# -- the job file ---------------------------------------------------------------------------


def arguments(command: click.Command) -> list[str]:
    """Values for what the command cannot do without."""
    words = []
    for param in command.params:
        if isinstance(param, click.Argument) and (param.required or param.name == "jobs"):
            words.append("web01")
        elif isinstance(param, click.Option) and param.required:
            words += [param.opts[0], "x"]
    return words


@pytest.mark.parametrize(
    ("target", "words"),
    [*(("web01", words) for words in WITH_JOB_FILE), *(("group:shop", w) for w in OF_TARGETS)],
)
def test_a_command_loads_the_job_file_once(
    target: str, words: tuple[str, ...], group_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(path: Path | None = None) -> Any:
        loaded.append(path)
        return real(path)

    real = vreplica.load
    monkeypatch.setattr(vreplica, "load", load)
    monkeypatch.setattr("vreplica.config.load", load)
    monkeypatch.setattr("vreplica.config.jobfile.load", load)
    # No site answers: what comes before that is under test here, and what tells of the failure.
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("vreplica.service.service.Service.start", refuse)
    command = ALL[words]
    given = [target if word == "web01" else word for word in arguments(command)]
    answer = ["--final-sync", "no"] if words[-1] in ("begin", "failback") else []
    result = CliRunner().invoke(app, [*words, *given, *answer, "-c", str(group_file)])
    assert loaded == [group_file], result.output
    assert result.exit_code != 70, result.output


def refuse(*_: Any, **__: Any) -> None:
    raise ConnectionRefusedError(111, "Connection refused")
