"""A catalog with damaged values or pages: commands name it, and none ends as a defect or hangs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from tests.support.job_file import job_table, site_table
from tests.support.mutations import mutated, no_longer_than
from tests.support.sample_reading import SAMPLES, restore
from vreplica.cli.app import app
from vreplica.service.catalog.database import Catalog

COMMANDS = (["status"], ["history"], ["jobs"], ["failovers"], ["audit"], ["schedule", "pause"])
SCHEDULED = 'schedule = { every = "1h" }\n'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of the first version, brought up to the present schema, in one file."""
    file = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    restore(SAMPLES / "v0_1" / "catalog" / "catalog-0003.sql", file)
    Catalog.open(f"sqlite:///{file}", migrate=True).close()
    with closing(sqlite3.connect(file)) as c:
        c.execute("pragma journal_mode=delete")
    return file


def damage_a_value(file: Path, random: Random) -> None:
    """As a person with SQL could, or a bit that was lost."""
    with closing(sqlite3.connect(file, isolation_level=None)) as c:
        names = [n for (n,) in c.execute("select name from sqlite_master where type='table'")]
        tables = [n for n in names if n.startswith(("vr_", "alembic"))]
        filled = [n for n in tables if c.execute(f"select count(*) from {n}").fetchone()[0]]
        table = random.choice(filled)
        columns = [row[1] for row in c.execute(f"pragma table_info({table})")]
        column = random.choice(columns)
        rows = c.execute(f'select rowid, "{column}" from {table}').fetchall()
        rowid, value = random.choice(rows)
        text = mutated(str(value if value is not None else "x").encode(), random)
        changed: object = random.choice((text.decode("utf-8", "replace"), text, -1, 1 << 62, 1.5))
        c.execute("pragma ignore_check_constraints=on")
        try:
            c.execute(f'update {table} set "{column}"=? where rowid=?', (changed, rowid))
        except sqlite3.IntegrityError:
            return


def damage_a_page(file: Path, random: Random) -> None:
    data = bytearray(file.read_bytes())
    at = random.randrange(len(data) // 512) * 512
    kind = random.randrange(3)
    if kind == 0:
        data[at : at + 512] = bytes(512)
    elif kind == 1:
        data[at : at + 512] = random.randbytes(512)
    else:
        del data[at:]
    file.write_bytes(data)


def over(seeds: range, whole: Path, root: Path) -> None:
    file, jobs = root / "catalog.sqlite", root / "jobs.toml"
    tables = "".join(job_table(n) + SCHEDULED for n in ("web01", "db01", "mail01"))
    jobs.write_text(f'state_dir = "{root}"\n{site_table()}{tables}'.replace(" }\nsch", " }\nsch"))
    for seed in seeds:
        random = Random(seed)
        for left in root.glob("catalog.sqlite-*"):
            left.unlink()
        shutil.copy(whole, file)
        (damage_a_page if random.random() < 0.3 else damage_a_value)(file, random)
        words = random.choice(COMMANDS)
        more = ["web01"] if words[0] == "schedule" else []
        with no_longer_than(60):
            done = CliRunner().invoke(
                app, [*words, *more, "-c", str(jobs), *["--json"] * (seed % 2)]
            )
        said = f"seed {seed} {words}: {done.output[-800:]} {done.exception!r}"
        assert done.exit_code != 70, said
        assert done.exception is None or isinstance(done.exception, SystemExit), said


def test_a_damaged_catalog_ends_no_command(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PASSWORD", "x")
    over(range(60), whole, tmp_path)


@pytest.mark.slow
def test_a_much_damaged_catalog_ends_no_command(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PASSWORD", "x")
    over(range(1000, 3000), whole, tmp_path)
