"""A service that cannot begin leaves nothing open."""

from __future__ import annotations

import fcntl
import socket
import threading
from pathlib import Path

import pytest

from vreplica.config import load
from vreplica.service.catalog import movers
from vreplica.service.catalog.database import Catalog
from vreplica.service.metrics import MetricsUnavailable
from vreplica.service.service import MoverNameTaken, Service


def test_a_start_that_fails_half_way_leaves_nothing_open(tmp_path: Path) -> None:
    file = tmp_path / "vreplica.toml"
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file.write_text(
            f'state_dir = "state"\n[service]\nmetrics = "127.0.0.1:{port}"\n'
            '[notify.page]\nhook = { command = ["true"] }\n'
        )
        service = Service(load(file), mover="m1")
        with pytest.raises(MetricsUnavailable):
            service.start()
        # The name is free again: a second start comes as far as the first.
        with pytest.raises(MetricsUnavailable):
            Service(load(file), mover="m1").start()
    assert set(threading.enumerate()) <= before
    service.stop()
    catalog = Catalog.open(load(file).catalog_url())
    with catalog.transaction() as c:
        assert movers.registered(c) == []
    catalog.close()


def test_a_start_under_a_name_that_is_taken_touches_nothing(tmp_path: Path) -> None:
    file = tmp_path / "vreplica.toml"
    file.write_text('state_dir = "state"\n')
    state = load(file).state_dir
    state.mkdir()

    with (state / "mover-m1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()
        with pytest.raises(MoverNameTaken, match="4711"):
            Service(load(file), mover="m1").start()
    assert [p.name for p in state.iterdir()] == ["mover-m1.lock"]
