"""The first job file: whatever the names are, it loads, and says what was chosen."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vreplica
from vreplica.config.template import FileChoices, JobChoice, SiteChoice, job_file_text, job_names

MAIN = SiteChoice("main", "vc.example", 443, "u@vsphere.local", "MAIN_PASSWORD", "AB" * 32)
DR = SiteChoice("dr", "esx.example", 8443, "root", "DR_PASSWORD", "CD" * 32)


def test_the_file_says_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIN_PASSWORD", "a")
    monkeypatch.setenv("DR_PASSWORD", "b")
    jobs = [JobChoice("web 01", "web 01"), JobChoice("/dc/vm/x/db.01", "db.01")]
    file = tmp_path / "vreplica.toml"
    file.write_text(
        job_file_text(FileChoices(MAIN, DR, "ds", jobs, {"VM Network": "dr"}, host="esx1"))
    )
    config = vreplica.load(file)
    assert list(config) == ["web-01", "db.01"]
    job = config["db.01"]
    assert (job.source_vm, job.placement.name) == ("/dc/vm/x/db.01", "db.01-replica")
    assert job.placement.networks == {"VM Network": "dr"}
    assert (job.placement.host, job.destination.port) == ("esx1", 8443)


names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=100).filter(
    str.strip
)


@given(st.lists(names, min_size=1, max_size=5, unique_by=str.strip), names)
def test_any_names_make_a_file_that_loads(titles: list[str], store: str) -> None:
    jobs = [JobChoice(title, title) for title in titles]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "vreplica.toml"
        file.write_text(job_file_text(FileChoices(MAIN, DR, store, jobs)), encoding="utf-8")
        assert len(vreplica.load(file)) == len(titles)


def test_job_names_do_not_repeat() -> None:
    assert job_names(["a b", "a/b", "ä", "..", "a-b"]) == ["a-b", "a-b-2", "vm", "vm-2", "a-b-3"]
