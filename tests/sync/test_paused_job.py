"""A run that is refused beside a paused one says that it is paused, and how to continue it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vreplica.sync.errors import JobBusy
from vreplica.sync.job import Job, Placement
from vreplica.sync.job_dir import job_lock, paused_path
from vreplica.vsphere.model import Endpoint


@pytest.mark.parametrize("paused", [True, False])
def test_a_job_that_is_paused_is_called_paused(tmp_path: Path, paused: bool) -> None:
    nowhere = Endpoint("127.0.0.1", "u", "p", "AB" * 32)
    job = Job("j", nowhere, "j", nowhere, Placement("ds", "r"), tmp_path)

    def run_too() -> None:
        with job_lock(job):
            raise AssertionError("two runs at once")

    with job_lock(job):
        if paused:
            paused_path(job).touch()
        with pytest.raises(JobBusy) as refused:
            run_too()
    assert ("is paused" in str(refused.value)) == paused
    assert ("vreplica-sync resume j" in refused.value.advice()) == paused
