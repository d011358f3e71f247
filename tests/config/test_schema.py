"""The JSON schema that editors use accepts what `load` accepts, and finds the usual slips."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from vreplica.cli.app import app
from vreplica.config.schema.jobfile import json_schema

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
EXAMPLES = [text for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "[sites." in text]


def mistakes(text: str) -> list[str]:
    found = Draft202012Validator(json_schema()).iter_errors(tomllib.loads(text))
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in found]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_page_pass(text: str) -> None:
    assert mistakes(text) == []


@pytest.mark.parametrize(
    ("good", "slip", "where"),
    [
        ("keep = 14", "kep = 14", "defaults"),
        ("keep = 14", "keep = 29", "defaults.keep"),
        ('quiesce = "require"', 'quiesce = "always"', "jobs.db01.quiesce"),
        ('password = { env = "MAIN_PASSWORD" }', 'password = "secret"', "sites.main.password"),
    ],
)
def test_slips_are_found_where_they_are(good: str, slip: str, where: str) -> None:
    text = EXAMPLES[0]
    assert good in text
    (found,) = mistakes(text.replace(good, slip))
    assert found.startswith(f"{where}: ")


def test_the_command_prints_it_or_writes_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    file = tmp_path / "vreplica.schema.json"
    written = CliRunner().invoke(app, ["schema", "--output", str(file)])
    assert (printed.exit_code, written.exit_code, written.stdout) == (0, 0, "")
    documents: list[Any] = [json.loads(text) for text in (printed.stdout, file.read_text())]
    assert documents == [json_schema()] * 2
