"""What only PostgreSQL can show: movers that meet in one database, one of them frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from vreplica.jobs import ledger
from vreplica.jobs.catalog import Catalog, CatalogUnreachable
from vreplica.jobs.engine import Engine
from vreplica.jobs.planner import Start
from vreplica.jobs.schedule import Due

FROZEN = """
import os, signal, sys
from vreplica.jobs import catalog
catalog._IDLE_S = 1
opened = catalog.Catalog.open(sys.argv[1])
with opened.planning() as c:
    assert c is not None
    print("planning", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def url(postgres: Callable[..., str]) -> str:
    return postgres()


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog.open(url)
    yield opened
    opened.close()


def test_a_mover_that_is_frozen_while_it_plans_does_not_keep_others_from_planning(
    url: str, catalog: Catalog
) -> None:
    frozen = subprocess.Popen([sys.executable, "-c", FROZEN, url], stdout=subprocess.PIPE)
    try:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == b"planning\n"
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED | os.WNOWAIT)
        with catalog.engine.connect() as c:
            # Waits until it is free.
            c.execute(sa.text("SET lock_timeout = '60s'"))
            c.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": 0x76726570})
    finally:
        frozen.send_signal(signal.SIGKILL)
        frozen.wait()
        frozen.stdout.close()  # type: ignore[union-attr]


def test_movers_that_begin_together_on_an_empty_catalog_do_not_disturb_each_other(
    catalog: Catalog,
) -> None:
    now = catalog.now()
    with catalog.transaction() as c:
        ledger.know(c, ["a", "b"], now)
        other = threading.Thread(target=know, args=(catalog, ["b", "a", "c"]))
        other.start()
        # It has not seen them, and waits for what becomes of them.
        while not waiting(catalog):
            pass
    other.join()
    found = catalog.read(sa.text("SELECT name FROM vr_job ORDER BY name"))  # type: ignore[arg-type]
    assert [row["name"] for row in found] == ["a", "b", "c"]


def know(catalog: Catalog, names: list[str]) -> None:
    with catalog.transaction() as c:
        ledger.know(c, names, catalog.now(c))


def waiting(catalog: Catalog) -> bool:
    query = sa.text("SELECT 1 AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(catalog.read(query))  # type: ignore[arg-type]


def test_a_run_whose_end_is_written_while_its_mover_is_given_up_stays_done(
    catalog: Catalog,
) -> None:
    with catalog.transaction() as c:
        now = catalog.now(c)
        ledger.know(c, ["a"], now)
        ledger.queue(c, [("r1", Start("a", Due(now, now), ()), "m1")], now)
        ticket = ledger.begin(c, "r1", "m1", now)
    assert ticket is not None
    lost: list[Any] = []

    def lose() -> None:
        with catalog.transaction() as c:
            lost.extend(ledger.lose(c, {}, now))

    with catalog.transaction() as c:
        assert ledger.finish(c, ticket, now + timedelta(seconds=1), state="done", point_time=now)
        other = threading.Thread(target=lose)
        other.start()
        while not waiting(catalog):
            pass
    other.join()
    assert lost == []
    assert catalog.history()[0]["state"] == "done"


def test_a_user_who_may_make_tables_but_no_schema_is_told_so(url: str, catalog: Catalog) -> None:
    with catalog.transaction() as c:
        c.execute(sa.text("CREATE ROLE weak LOGIN"))
        c.execute(sa.text("GRANT CREATE ON SCHEMA public TO weak"))
    nothing: Any = None
    with pytest.raises(CatalogUnreachable, match="permission denied for database"):
        Engine(url.replace("vreplica@", "weak@"), "m1", 1, nothing, nothing, nothing)
