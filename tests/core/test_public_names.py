"""The library's face: every public name is there, and none costs anything before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import pytest

import vreplica
from vreplica import lab, points


@pytest.mark.parametrize("package", [vreplica, lab, points], ids=lambda p: p.__name__)
def test_every_public_name_is_there(package: ModuleType) -> None:
    assert all(hasattr(package, name) for name in package.__all__)


def test_dir_tells_the_public_names() -> None:
    assert vreplica.__all__ == dir(vreplica) == sorted(vreplica.__all__)


def test_public_names_are_no_modules_whatever_was_imported_before() -> None:
    script = (
        "import json, vreplica.sync, vreplica.config, vreplica as v;"
        "print(json.dumps({n: type(getattr(v, n)).__name__ for n in v.__all__}))"
    )
    kinds = json.loads(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
    )
    functions = {"load", "plan", "recovery_points", "run", "seed", "status", "verify"}
    functions |= {"commit", "fail_back", "fail_over", "resume_failover", "undo"}
    assert {name for name, kind in kinds.items() if kind == "function"} >= functions
    assert "module" not in kinds.values()


def test_importing_the_library_loads_nothing_else() -> None:
    script = "import sys, vreplica; print(*(m for m in sys.modules if m.startswith('vreplica')))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) == {"vreplica", "vreplica.lazy", "vreplica.version"}


def test_what_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = vreplica.frobnicate
