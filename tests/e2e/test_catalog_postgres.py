"""What only PostgreSQL can show: movers that meet in one database, one of them frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from vreplica.scheduling.planner import RunStart
from vreplica.scheduling.schedule import DueRun
from vreplica.service.catalog import (
    failover_requests,
    jobs,
    movers,
    notices,
    observed,
    projection,
    runs,
    tables,
)
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.errors import CatalogTooNew, CatalogUnreachable
from vreplica.service.catalog.reading import consult
from vreplica.service.dbos_engine import DbosEngine
from vreplica.service.status import job_status
from vreplica.sync import by_hand
from vreplica.sync.by_hand import HandEntry

FROZEN = """
import os, signal, sys
from vreplica.service.catalog import engines
from vreplica.service.catalog.database import Catalog
engines.IDLE_S = 1
opened = Catalog.open(sys.argv[1])
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
        jobs.register(c, ["a", "b"], now)
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
        jobs.register(c, names, catalog.now(c))


def waiting(catalog: Catalog) -> bool:
    query = sa.text("SELECT 1 AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(catalog.read(query))  # type: ignore[arg-type]


def test_a_run_whose_end_is_written_while_its_mover_is_given_up_stays_done(
    catalog: Catalog,
) -> None:
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, ["a"], now)
        runs.queue(c, [("r1", RunStart("a", DueRun(now, now), ()), "m1")], now)
        ticket = runs.begin(c, "r1", "m1", now)
    assert ticket is not None
    lost: list[Any] = []

    def lose() -> None:
        with catalog.transaction() as c:
            lost.extend(runs.mark_lost(c, {}, now))

    with catalog.transaction() as c:
        assert runs.finish(c, ticket, now + timedelta(seconds=1), state="done", point_time=now)
        other = threading.Thread(target=lose)
        other.start()
        while not waiting(catalog):
            pass
    other.join()
    assert lost == []
    assert catalog.history()[0]["state"] == "done"


def test_what_no_database_keeps_in_a_text_holds_up_neither_a_run_nor_who_is_to_be_told(
    catalog: Catalog,
) -> None:
    said = "a\0b \udc80 \\u0000 \\\0"
    catalog.receivers = {"pager": frozenset(["run failed"])}
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, ["a"], now)
        runs.queue(c, [("r1", RunStart("a", DueRun(now, now), ()), "m1")], now)
        ticket = runs.begin(c, "r1", "m1", now)
        assert ticket is not None
        result = {"message": said}
        assert runs.finish(c, ticket, now, state="failed", error=said, result=result)
        catalog.add_audit_entry(c, "m1", "run failed", "a", run="r1", error=said)
    with catalog.transaction() as c:
        (event,) = notices.waiting(c, "pager", 5).values()
    kept = "a b ? \\u0000 \\ "
    assert event.data == {"run": "r1", "error": kept, "message": kept}
    assert catalog.history()[0]["error"] == kept


def test_a_user_who_may_make_tables_but_no_schema_is_told_so(url: str, catalog: Catalog) -> None:
    with catalog.transaction() as c:
        c.execute(sa.text("CREATE ROLE weak LOGIN"))
        c.execute(sa.text("GRANT CREATE ON SCHEMA public TO weak"))
    nothing: Any = None
    weak = url.replace("vreplica@", "weak@")
    with pytest.raises(CatalogUnreachable, match="permission denied for database"):
        DbosEngine(weak, "m1", places=1, execute_run=nothing, failovers=nothing, on_end=nothing)


WAITING = """
import threading
threading.Thread(target=threading.Event().wait).start()  # as one that waits for the database
from vreplica.cli import main; main()
"""


def test_a_service_ends_when_it_is_asked_to_also_while_its_database_is_away(
    url: str, catalog: Catalog, tmp_path: Path
) -> None:
    file = tmp_path / "vreplica.toml"
    file.write_text('state_dir = "state"\n[service]\ndatabase = { env = "TEST_DATABASE" }\n')
    command = [sys.executable, "-c", WAITING, "serve", "--config", str(file), "--mover", "m1"]
    env = {**os.environ, "TEST_DATABASE": url}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr is not None
        while "works on 0 scheduled jobs" not in (line := process.stderr.readline()):
            assert line
        with catalog.transaction() as c:
            c.execute(sa.text("ALTER ROLE vreplica NOLOGIN"))
        with catalog.transaction() as c:
            others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'vreplica'"
            c.execute(sa.text(f"SELECT pg_terminate_backend(pid) {others}"))
        process.terminate()
        _, rest = process.communicate()
    assert process.returncode == 0, rest
    assert "stopped without the catalog" in rest


def test_failovers_are_found_among_millions_of_runs_by_an_index(catalog: Catalog) -> None:
    asked: list[tuple[str, Any]] = []

    def keep(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if "vr_run.kind = " in statement:
            asked.append((statement, parameters))

    sa.event.listen(catalog.engine, "before_cursor_execute", keep)
    with catalog.transaction() as c:
        failover_requests.assign(c, [])
        failover_requests.unfinished(c, "m1")
        failover_requests.newest_by_job(c)
        jobs.records(c, {})
    sa.event.remove(catalog.engine, "before_cursor_execute", keep)
    assert len(asked) == 4
    with catalog.transaction() as c:
        # Of a small table the database would read all.
        c.execute(sa.text("SET LOCAL enable_seqscan = off"))
        for statement, parameters in asked:
            plan = c.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
            assert any("vr_run_failover" in line for line in plan), plan


def test_commands_that_only_look_neither_make_nor_change_a_catalog(url: str) -> None:
    assert consult(url, lambda catalog: catalog.history()) is None
    assert consult(url, lambda catalog: catalog.history()) is None, "none was made"
    catalog = Catalog.open(url)
    know(catalog, ["a"])
    found = consult(url, lambda catalog: catalog.read(sa.select(tables.jobs.c.name)))
    assert found == [{"name": "a"}]
    with pytest.raises(CatalogUnreachable, match="read-only transaction"):
        consult(url, lambda catalog: know(catalog, ["b"]))
    with catalog.transaction() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '0005'"))
    catalog.close()
    with pytest.raises(CatalogTooNew, match="schema 0005"):
        consult(url, lambda catalog: catalog.history())


def test_what_commands_did_and_members_of_a_group_are_kept(
    catalog: Catalog, tmp_path: Path
) -> None:
    now = catalog.now()
    done = HandEntry("p1", "run", "a", "failed", "alice@dr1", now, now, "no route\0", {})
    by_hand.write(tmp_path / "a", done)
    with catalog.transaction() as c:
        jobs.register(c, ["a", "b"], now)
        movers.join(c, "m1", 2, now, timedelta(seconds=30))
        observed.set_points(c, "b", [("p", now - timedelta(seconds=9), "crash", {})])
        for job, state in (("a", "running"), ("b", "synced")):
            observed.set_failover(c, "fo-1", job, state=state, facts={}, now=now)
            observed.set_failover(c, "fo-1", job, state=state, facts={}, now=now)
    for _ in range(2):
        by_hand.write(tmp_path / "a", done)
        projection.take_in(catalog, tmp_path / "a")
    assert [row["who"] for row in catalog.history(["a"])] == ["alice@dr1"]
    a, b = job_status(catalog, {"a": None, "b": None})
    assert (a.error, a.asked, a.vm_at) == ("no route ", False, None)
    assert (b.point, b.asked, b.level) == ("p", True, "crash")
    with catalog.transaction() as c:
        assert observed.failover_states(c, "b") == {"fo-1": "synced"}
        assert catalog.as_of(c) is not None
        assert movers.registered(c)[0].at_work(now)
