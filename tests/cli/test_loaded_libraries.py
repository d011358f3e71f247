"""The libraries that a command loads, by their names in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ALL
from vreplica.config import load
from vreplica.lab import Lab, LabControl
from vreplica.service.catalog.database import Catalog
from vreplica.units import MIB

HEAVY = {
    "alembic",
    "cryptography",
    "dbos",
    "keyring",
    "numpy",
    "pyVmomi",
    "pydantic",
    "rich",
    "sqlalchemy",
    "xxhash",
    "vreplica.config",
    "vreplica.lab",
    "vreplica.sync",
    "vreplica.vsphere",
}
JOBS = {"pydantic", "vreplica.config", "vreplica.sync", "vreplica.vsphere"}
"""What it takes to load a job file: the models and the values that it becomes."""

PROGRAM = """\
import atexit, json, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules)), file=sys.stderr))
from vreplica.cli import main
main()
"""


def loaded_by(*words: str) -> set[str]:
    """The heavy modules that a process has loaded at the end of this command."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False
    )
    *said, modules = ended.stderr.splitlines()
    assert ended.returncode == 0, said
    return HEAVY & set(json.loads(modules))


@pytest.fixture(scope="module")
def jobs(lab: Lab, control: LabControl) -> str:
    control.create_vm("site-a", "web01", disks=[(4 * MIB, True, None)], power_on=True)
    file: Path = lab.directory / "jobs.toml"
    text = file.read_text().replace("[jobs.web01]", '[jobs.web01]\nschedule = { every = "4h" }')
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    "words",
    [("--help",), ("--version",), ("failover", "--help"), ("points", "--help")],
    ids=" ".join,
)
def test_help_loads_no_library_but_click(words: tuple[str, ...]) -> None:
    assert loaded_by(*words) == set()


def test_every_command_shows_its_help_without_a_heavy_library() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom vreplica.cli.app import app\n"
        f"for words in {list(ALL)!r}:\n"
        "    assert CliRunner().invoke(app, [*words, '--help']).exit_code == 0, words\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert HEAVY & set(loaded) == set()


def test_points_needs_no_numpy_no_sql_and_without_text_no_rich(jobs: str) -> None:
    assert loaded_by("points", "--json", "-c", jobs) == JOBS | {"pyVmomi"}
    assert loaded_by("points", "-c", jobs) == JOBS | {"pyVmomi", "rich"}


@pytest.mark.parametrize("command", ["status", "history", "failovers"])
def test_what_reads_the_catalog_needs_no_pyvmomi_and_no_alembic(
    command: str, jobs: str, tmp_path: Path
) -> None:
    """And no SQL where there is no catalog: that comes with the service's libraries."""
    file = tmp_path / "jobs.toml"
    text = Path(jobs).read_text().replace('state_dir = "state"', f'state_dir = "{tmp_path}"')
    file.write_text(text)
    assert loaded_by(command, "--json", "-c", str(file)) == JOBS
    Catalog.open(load(file).catalog_url()).close()
    assert loaded_by(command, "--json", "-c", str(file)) == JOBS | {"sqlalchemy"}


def test_jobs_reads_the_job_file_alone(jobs: str) -> None:
    assert loaded_by("jobs", "--json", "-c", jobs) == JOBS


@pytest.mark.parametrize("command", ["plan", "check"])
def test_what_looks_at_the_sites_needs_no_sql_and_no_keys(command: str, jobs: str) -> None:
    assert loaded_by(command, "--json", "-c", jobs) <= JOBS | {"pyVmomi", "numpy", "xxhash"}
