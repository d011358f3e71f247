"""The disks of a run, and of a verification, side by side: how they end together."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from vreplica.delta.control import Control
from vreplica.points import DiskPoint, Level, RecoveryPoint
from vreplica.sync.copy import disks
from vreplica.sync.verify import comparison
from vreplica.sync.verify.comparison import Comparison, compare_point


class Endless:
    """Work on a disk that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.control = Control()
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        while self.control.admit():
            self.control.sleep(60)
        self.ended.set()


def test_ctrl_c_does_not_leave_a_run_before_its_disks_have_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    work = Endless()

    def waits_and_gets_ctrl_c(_futures: Any) -> None:
        assert work.begun.wait(60)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(disks, "copy_disk", lambda *_: work())
    monkeypatch.setattr(disks, "wait", waits_and_gets_ctrl_c)
    job = SimpleNamespace(parallel_disks=1, job_dir=tmp_path)
    context: Any = SimpleNamespace(job=job, control=work.control)
    prepared: Any = SimpleNamespace()
    task: Any = SimpleNamespace(origin=None)
    with pytest.raises(KeyboardInterrupt):
        disks.copy_disks(context, prepared, [task])
    assert work.ended.is_set()


def test_a_disk_that_cannot_be_compared_ends_the_comparison_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Endless()

    def compare(left: Any, *_: Any, **__: Any) -> None:
        if left.key == 2000:
            assert work.begun.wait(60)
            raise OSError("lost")
        work()

    def opened(*asked: Any, **_: Any) -> Any:
        return SimpleNamespace(key=asked[-1].key, close=lambda: None)

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(comparison, "open_snapshot_disk", opened)
    keys = (2000, 2001)
    points = tuple(DiskPoint(k, f"disk {k}", "", 512, None, "full", 0, "") for k in keys)
    now, level = datetime.now(UTC), Level.CRASH
    point = RecoveryPoint("p", "j", "vm", "vm", now, level, level, points, snapshot="s")
    frozen: Any = SimpleNamespace(
        moref="s", disks=tuple(SimpleNamespace(key=k, label=str(k)) for k in keys)
    )
    job: Any = SimpleNamespace(parallel_disks=2)
    session = SimpleNamespace(read_snapshot=lambda *_: frozen)
    sites: Any = SimpleNamespace(source=session, destination=session)
    vm: Any = SimpleNamespace(name="vm")
    with pytest.raises(OSError, match="lost"):
        compare_point(
            Comparison(
                job=job,
                sites=sites,
                source=vm,
                snapshot=frozen,
                replica=vm,
                point=point,
                control=work.control,
            )
        )
    assert work.ended.is_set()
