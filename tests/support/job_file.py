"""The job file that tests of the commands and of its reader start from, and its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

PASSWORD = "geheim"
"""What `job_file` sets for the site: it must be seen in no output."""


def site_table(name: str = "main", *, host: str = "vc.example", password: str = "PASSWORD") -> str:
    """The table of a site. `password` names the environment variable."""
    return f"""\
[sites.{name}]
host = "{host}"
user = "u"
password = {{ env = "{password}" }}
sha256 = "{"AB" * 32}"
"""


def job_table(name: str, *, site: str = "main", more: str = "") -> str:
    """The table of a job that replicates the VM of its name to a datastore of the same site."""
    return f"""\
[jobs.{name}]
source = {{ site = "{site}", vm = "{name}" }}
destination = {{ site = "{site}", datastore = "ds", name = "{name}-replica"{more} }}
"""


STATE = 'state_dir = "state"\n'
TWO_JOBS = STATE + site_table() + job_table("web01") + job_table("db01")


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds TWO_JOBS, and the password in the environment."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    file = tmp_path / "jobs.toml"
    file.write_text(TWO_JOBS)
    return file
