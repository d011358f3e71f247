"""Storage vMotion of a source is disabled during a run, and enabled again, also after a kill."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vreplica.sync.events import ReplicationEvent, Warn
from vreplica.sync.job import Job, Placement, Transport
from vreplica.sync.source.vmotion_lock import storage_vmotion_locked
from vreplica.vsphere.model import Endpoint, VmRef

END = Endpoint(host="vc.example", user="replicator", password="right", sha256="")
VM = VmRef("vm-42", "web01")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    return lambda: [
        r.getMessage() for r in caplog.records if r.getMessage().startswith(("prepare", "end "))
    ]


@pytest.fixture
def job(dummy: Any, tmp_path: Path) -> Job:
    (tmp_path / "web").mkdir()
    place = Placement("ds", "web01-r")
    return Job("web", END, "web01", END, place, tmp_path, vddk=dummy.config())


def session(*, vcenter: bool = True) -> Any:
    return SimpleNamespace(
        endpoint=END, thumbprint_sha1="AA", about=SimpleNamespace(is_vcenter=vcenter)
    )


def ignore(event: ReplicationEvent) -> None:
    raise AssertionError(event)


def test_the_vm_is_held_inside_and_let_go_after_it(job: Job, lines: Any) -> None:
    with storage_vmotion_locked(job, session(), VM, ignore):
        assert lines() == ["prepare moref=vm-42 by vreplica-web as replicator"]
        assert (job.job_dir / "held").read_text().splitlines()[0] == "vm-42"
    assert lines()[1:] == ["end moref=vm-42 by vreplica-web"]
    assert not (job.job_dir / "held").exists()


def test_it_is_let_go_when_the_run_fails(job: Job, lines: Any) -> None:
    with pytest.raises(RuntimeError), storage_vmotion_locked(job, session(), VM, ignore):
        raise RuntimeError
    assert lines()[-1] == "end moref=vm-42 by vreplica-web"


def test_what_a_killed_run_holds_is_let_go_first(job: Job, lines: Any) -> None:
    (job.job_dir / "held").write_text("vm-41\n")
    with storage_vmotion_locked(job, session(), VM, ignore):
        assert lines() == [
            "end moref=vm-41 by vreplica-web",
            "prepare moref=vm-42 by vreplica-web as replicator",
        ]


@pytest.mark.parametrize("why", ["esxi", "nfc", "own library"])
def test_where_it_cannot_be_asked_for_nothing_is_asked(job: Job, lines: Any, why: str) -> None:
    if why == "nfc":
        job = dataclasses.replace(job, transport=Transport.NFC)
    if why == "own library":
        plain = dataclasses.replace(job.vddk, libdir=None)
        job = dataclasses.replace(job, vddk=plain, transport=Transport.VDDK)
    with storage_vmotion_locked(job, session(vcenter=why != "esxi"), VM, ignore):
        pass
    assert lines() == []


def test_a_vm_that_another_program_holds_is_replicated_all_the_same(
    job: Job, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The identity of which the dummy library says that somebody else disabled it.
    monkeypatch.setattr("vreplica.sync.source.vmotion_lock.lock_owner", lambda _: "second")
    heard: list[ReplicationEvent] = []
    with storage_vmotion_locked(job, session(), VM, heard.append):
        pass
    (warning,) = heard
    assert isinstance(warning, Warn)
    assert "disabled by another program" in warning.text
    assert not any(line.startswith("end") for line in lines()), "it is not ours to enable"
    assert not (job.job_dir / "held").exists()
