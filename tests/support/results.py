"""Checks every document that a command prints with --json against the schema of the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import vreplica.cli.render.output as output
from vreplica.cli.results.document import document
from vreplica.cli.results.registry import KINDS, json_schema


@cache
def _validators() -> dict[str, Draft202012Validator]:
    schema = json_schema()
    kinds = dict(zip(KINDS, schema["oneOf"], strict=True))
    return {
        kind: Draft202012Validator({**shape, "$defs": schema["$defs"]})
        for kind, shape in kinds.items()
    }


def check_document(value: Mapping[str, Any]) -> None:
    """Fails with the places that do not fit. `value`: one line of --json, parsed, or to be one."""
    value = json.loads(json.dumps(value))
    errors = [
        f"{error.json_path}: {error.message[:300]}"
        for error in _validators()[value["result"]].iter_errors(value)
    ]
    if errors:
        pytest.fail("\n".join([f"result {value['result']} does not fit its schema", *errors]))


@pytest.fixture(autouse=True)
def every_result_fits_its_schema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In commands that run in the test's own process."""
    wrong: list[BaseException] = []

    def checked(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
        made = document(kind, value)
        try:
            check_document(made)
        except BaseException as error:
            wrong.append(error)
        return made

    monkeypatch.setattr(output, "document", checked)
    yield
    if wrong:
        raise wrong[0]
