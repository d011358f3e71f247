"""The schema of the results is valid, has every kind of result, and keeps one vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import vreplica.cli
from tests.support.commands import invoke
from tests.support.results import check_document
from vreplica.cli.results.registry import KINDS, json_schema
from vreplica.failover.testing import run as testing
from vreplica.sync import pause

COMMANDS = Path(vreplica.cli.__file__).parent


def test_the_command_prints_a_valid_schema() -> None:
    shown = invoke("schema", "results")
    schema = json.loads(shown.stdout)
    Draft202012Validator.check_schema(schema)
    assert schema == json_schema()


def test_every_kind_that_a_command_names_is_in_the_schema() -> None:
    text = "".join(file.read_text() for file in COMMANDS.rglob("*.py"))
    named = set(re.findall(r'out\.(?:answer|json)\(\s*"([\w-]+)"', text))
    assert len(named) > 20
    assert named <= set(KINDS)


def keys(shape: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(shape, dict):
        yield from shape.get("properties", {}).items()
        for inner in shape.values():
            yield from keys(inner)
    elif isinstance(shape, list):
        for inner in shape:
            yield from keys(inner)


def types(shape: dict[str, Any]) -> set[str]:
    found = {shape.get("type")} | {each.get("type") for each in shape.get("anyOf", [])}
    return {t for t in found if t and t != "null"}


def test_names_tell_the_unit() -> None:
    for name, shape in keys(json_schema()):
        assert name not in {"seconds", "began", "begun", "outside_changes"}, name
        if name.endswith("_s"):
            assert types(shape) <= {"number", "array", "object"}, name
        if name.endswith("_bytes"):
            assert types(shape) == {"integer"}, name


@pytest.mark.parametrize("args", [("run", "--json", "--nope"), ("nope", "--json")])
def test_a_command_line_that_cannot_be_used_is_an_error_document(args: tuple[str, ...]) -> None:
    result = invoke(*args)
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    check_document(found)
    assert (found["result"], found["error"]["exit_code"]) == ("error", 2)


def test_without_json_standard_output_stays_empty() -> None:
    assert invoke("run", "--nope").stdout == ""


@pytest.mark.parametrize("removed", [None, "web01-test"])
def test_a_test_vm_that_was_removed_or_not_there_fits_the_schema(
    removed: str | None, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "clean", lambda _: removed)
    result = invoke("test-failover", "web01", "--clean", "--json", "-c", str(job_file))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    check_document(found)
    assert found["removed"] == removed


@pytest.mark.parametrize("word", ["pause", "resume"])
def test_a_run_that_was_asked_to_pause_or_resume_fits_the_schema(
    word: str, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, f"{word}_run", lambda _: 4711)
    result = invoke(word, "web01", "--json", "-c", str(job_file))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    check_document(found)
    assert (found["process"], found["asked"]) == (4711, word)
