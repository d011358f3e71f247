"""Commands and movers of different versions over one catalog; commands that only read it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from click.testing import CliRunner, Result

import vreplica
from tests.support.results import check_document
from tests.support.sample_reading import SAMPLES, restore
from vreplica.cli import catalog_updates
from vreplica.cli.app import app
from vreplica.cli.render.output import Output
from vreplica.config import Config
from vreplica.scheduling.planner import ConcurrencyLimits
from vreplica.scheduling.schedule import Every, ScheduleRule
from vreplica.service.catalog import jobs, movers, observed, schema
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import engine_to_write
from vreplica.service.catalog.errors import CatalogTooNew, CatalogTooOld, CatalogUnreachable
from vreplica.service.catalog.reading import consult
from vreplica.service.dispatcher import Dispatcher

DUMPS = SAMPLES / "v0_1/catalog"
WEB = "fo-20261130T184408Z-fae130"
TTL = timedelta(seconds=30)
CONFIG = f"""\
state_dir = "."
[sites.main]
host = "vc.example"
user = "u"
password = {{ env = "PASSWORD" }}
sha256 = "{"AB" * 32}"
[defaults]
schedule = {{ every = "4h" }}
[jobs.web01]
source = {{ site = "main", vm = "web01" }}
destination = {{ site = "main", datastore = "ds", name = "web01-replica" }}
[jobs.new01]
source = {{ site = "main", vm = "new01" }}
destination = {{ site = "main", datastore = "ds", name = "new01-replica" }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "jobs.toml"
    file.write_text(CONFIG)
    return vreplica.load(file)


def stored(config: Config, version: str) -> Path:
    """The sample of a catalog, at this version of the schema."""
    file = config.state_dir / "catalog.sqlite"
    if version == "0002":
        migrate_to(url(restore(DUMPS / "catalog-0001.sql", file)), version)
    elif version in ("0001", "0003"):
        restore(DUMPS / f"catalog-{version}.sql", file)
    else:
        restore(DUMPS / "catalog-0003.sql", file)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
            connection.execute("ALTER TABLE vr_job ADD COLUMN later TEXT")
            connection.commit()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return file


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def migrate_to(url: str, version: str) -> None:
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    engine = engine_to_write(url)
    with engine.begin() as connection:
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, version)
    engine.dispose()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def version_of(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found)


def states(config: Config) -> dict[str, str]:
    return {one.job: one.state for one in vreplica.status(config)}


def test_the_newest_schema_is_the_last_migration() -> None:
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(alembic).get_current_head() == schema.NEWEST


@pytest.mark.parametrize(("version", "state"), [("0002", "idle"), ("0003", "failing over")])
def test_status_reads_a_catalog_of_an_older_version_and_leaves_it_as_it_is(
    config: Config, version: str, state: str
) -> None:
    stored(config, version)
    before = content(config.state_dir)
    assert states(config) == {"web01": state, "new01": "idle"}
    assert content(config.state_dir) == before


def test_status_refuses_a_catalog_that_is_too_old_with_the_command_to_type(config: Config) -> None:
    stored(config, "0001")
    before = content(config.state_dir)
    with pytest.raises(CatalogTooOld, match="has schema 0001") as caught:
        vreplica.status(config)
    assert "vreplica-sync catalog migrate" in caught.value.explain()[0]
    assert content(config.state_dir) == before


def test_status_says_that_a_catalog_is_newer(config: Config) -> None:
    stored(config, "0005")
    before = content(config.state_dir)
    with pytest.raises(CatalogTooNew, match="schema 0005, made by a later version"):
        vreplica.status(config)
    assert content(config.state_dir) == before


def test_status_makes_no_catalog(config: Config) -> None:
    before = content(config.state_dir)
    found = vreplica.status(config)
    assert [(one.job, one.state, one.next_at) for one in found] == [
        ("web01", "idle", None),
        ("new01", "idle", None),
    ]
    assert found[0].why == "no service is running"
    assert [(one.asked, one.alarm, one.vm_at) for one in found] == [(False, None, None)] * 2
    assert content(config.state_dir) == before


def test_status_sees_what_a_mover_at_work_has_just_written_and_does_not_wait_for_it(
    config: Config,
) -> None:
    stored(config, "0003")
    catalog = Catalog.open(config.catalog_url())
    with catalog.transaction() as c:
        jobs.set_disabled(c, "new01", None)
        jobs.register(c, ["new01"], catalog.now(c))
        jobs.set_disabled(c, "new01", "fo-1")
    with catalog.transaction() as c:
        jobs.set_disabled(c, "web01", None)
        assert states(config) == {"web01": "failing over", "new01": "disabled"}
    catalog.close()


def test_nothing_is_written_through_a_connection_that_reads(config: Config) -> None:
    file = stored(config, "0003")

    def write(catalog: Catalog) -> None:
        with catalog.transaction() as c:
            jobs.set_disabled(c, "web01", None)

    with pytest.raises(CatalogUnreachable, match="readonly"):
        consult(url(file), write)
    catalog = Catalog.open(url(file))
    with pytest.raises(CatalogUnreachable, match="readonly"):
        consult(url(file), write)
    catalog.close()


def test_a_catalog_that_is_written_while_it_is_read_is_read_again(config: Config) -> None:
    file = stored(config, "0003")
    tries: list[int] = []

    def read(catalog: Catalog) -> dict[str, str]:
        tries.append(len(tries))
        with catalog.transaction() as c:
            found = observed.failover_states(c)
        if len(tries) == 1:
            with closing(sqlite3.connect(file)) as other:
                other.execute("UPDATE vr_failover SET state = 'committed'")
                other.commit()
        return found

    found = consult(url(file), read)
    assert len(tries) == 2
    assert found is not None
    assert found[WEB] == "committed"


def command_of(config: Config, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(config.path)])


@pytest.mark.parametrize("name", ["status", "history"])
@pytest.mark.parametrize("version", ["0003", "none"])
def test_commands_that_only_look_change_and_create_nothing(
    config: Config, name: str, version: str
) -> None:
    if version != "none":
        stored(config, version)
    before = content(config.state_dir)
    done = command_of(config, name)
    assert done.exit_code == 0, done.output
    assert content(config.state_dir) == before


@pytest.mark.parametrize("name", ["status", "history"])
@pytest.mark.parametrize(("version", "said"), [("0001", "catalog migrate"), ("0005", "later")])
def test_commands_that_only_look_refuse_what_they_cannot_read(
    config: Config, name: str, version: str, said: str
) -> None:
    stored(config, version)
    before = content(config.state_dir)
    done = command_of(config, name)
    assert done.exit_code == 2
    assert f"schema {version}" in done.stderr
    assert said in done.stderr
    assert content(config.state_dir) == before


def documents(config: Config, *words: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in command_of(config, *words).stdout.splitlines()]
    for one in found:
        check_document(one)
    return found


def test_the_library_gives_the_values_of_the_command(config: Config) -> None:
    stored(config, "0003")
    *shown, service = documents(config, "status", "--json")
    moving = {"age_s", "next_at", "version", "result"}
    assert [{k: v for k, v in one.items() if k not in moving} for one in shown] == [
        {k: v for k, v in one.to_dict().items() if k not in moving}
        for one in vreplica.status(config)
    ]
    assert shown[0]["failover"]["request"] == "asked"
    assert service["result"] == "status-service"
    assert [m["mover"] for m in service["movers"]] == ["m1"]
    assert (service["at_work"], service["movers"][0]["version"]) == (False, None)
    assert service["as_of"].startswith("2026-11-30T18:4")


def test_history_shows_requests_and_the_resources_of_runs(config: Config) -> None:
    stored(config, "0003")
    rows = documents(config, "history", "--json")
    assert [row["request"]["do"] for row in rows if row["kind"] == "failover"] == [
        "commit",
        "begin",
    ]
    (done, *_) = [row for row in rows if row["kind"] == "run"]
    assert done["resources"][0] == "host:site-a/esx1.site-a.lab"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0001", "schema 0001 -> 0004"),
        ("0003", "schema 0003 -> 0004"),
        ("none", "new, schema 0004"),
    ],
)
def test_the_catalog_is_migrated_by_a_command(config: Config, version: str, said: str) -> None:
    file = config.state_dir / "catalog.sqlite"
    if version != "none":
        stored(config, version)
    done = command_of(config, "catalog", "migrate")
    assert done.exit_code == 0, done.output
    assert said in done.stdout
    again = json.loads(command_of(config, "catalog", "migrate", "--json").stdout)
    assert (again["from"], again["to"]) == (schema.NEWEST, schema.NEWEST)
    assert version_of(file) == schema.NEWEST
    assert states(config).keys() == {"web01", "new01"}


# -- movers and commands that write ---------------------------------------------------------------


@pytest.mark.parametrize("version", ["0002", "0003"])
def test_only_the_service_brings_a_catalog_up_to_date(config: Config, version: str) -> None:
    file = stored(config, version)
    catalog = Catalog.open(url(file))
    assert catalog.pause("web01", "me", paused=True)
    catalog.close()
    assert version_of(file) == version
    Catalog.open(url(file), migrate=True).close()
    assert version_of(file) == schema.NEWEST
    assert states(config)["web01"] in ("paused", "failing over")


def test_a_command_that_writes_refuses_a_catalog_without_its_columns(config: Config) -> None:
    file = stored(config, "0001")
    before = content(config.state_dir)
    with pytest.raises(CatalogTooOld):
        Catalog.open(url(file))
    assert content(config.state_dir) == before


def test_a_command_that_tells_an_old_catalog_names_the_command_that_migrates_it(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(config, "0001")
    monkeypatch.setenv("PASSWORD", "p")
    before = content(config.state_dir)
    catalog_updates.points_read(Output(), config, config["web01"], ())
    said = " ".join(capsys.readouterr().err.split())
    assert "the catalog was not updated" in said
    assert 0 < said.index("catalog migrate") < said.index("catalog rebuild")
    assert content(config.state_dir) == before


def only_open(url: str) -> Catalog:
    return Catalog.open(url)


def open_as_service(url: str) -> Catalog:
    return Catalog.open(url, migrate=True)


@pytest.mark.parametrize("opened", [only_open, open_as_service])
def test_an_older_mover_does_not_start_on_a_newer_catalog(
    config: Config, opened: Callable[[str], Catalog]
) -> None:
    file = stored(config, "0005")
    with pytest.raises(CatalogTooNew) as caught:
        opened(url(file))
    assert "Install the later version" in caught.value.explain()[0]
    assert version_of(file) == "0005"


def test_an_older_mover_at_work_goes_on_when_a_newer_one_brings_the_catalog_up_to_date(
    config: Config,
) -> None:
    file = stored(config, "0002")
    old = Catalog.open(url(file))
    plan = Dispatcher(
        old, "m9", {"new01": ScheduleRule(Every(TTL))}, ConcurrencyLimits(), lambda *_: None
    )
    with old.transaction() as c:
        movers.join(c, "m9", 4, old.now(c), TTL)
    assert [q.job for q in plan.round({})] == ["new01"]
    new = Catalog.open(url(file), migrate=True)
    with new.transaction() as c:
        c.execute(sa.text("ALTER TABLE vr_job ADD COLUMN later VARCHAR(10) DEFAULT 'x'"))
        c.execute(sa.text("UPDATE alembic_version SET version_num = '0005'"))
    assert plan.round({}) == []
    with old.transaction() as c:
        assert movers.renew(c, "m9", old.now(c), TTL)
    assert [row["state"] for row in new.history(["new01"])] == ["queued"]
    new.close()
    old.close()
