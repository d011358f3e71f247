"""A job file is read without the engine: commands that only read must start fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.job_file import job_table, site_table

CONFIG = f"""\
{site_table()}
[defaults]
schedule = {{ cron = "30 2 * * *" }}
limits = {{ windows = [{{ when = "mon-fri 08:00-18:00", rate_mib_s = 10 }}] }}
{job_table("web01")}
[jobs.web01.guest]
customize = "script"
user = "root"
password = {{ env = "GUEST" }}
nics = [{{ dhcp = true }}]
[groups.shop]
members = {{ web01 = {{}} }}
[notify.chat]
webhook = {{ url = {{ env = "CHAT" }} }}
"""
SCRIPT = """
import sys
from vreplica.config import load
config = load(sys.argv[1])
config["web01"], config.rule("web01"), config.group("shop"), config.service.limits()
print(*sys.modules)
"""
HEAVY = ("numpy", "pyVmomi", "pyVim", "sqlalchemy", "alembic", "dbos", "xxhash", "tenacity", "ssl")
ENGINE = (
    *("vreplica.service", "vreplica.vsphere.session", "vreplica.vsphere.connection"),
    *("vreplica.nfc.disk", "vreplica.nfc.open", "vreplica.vddk.library", "vreplica.vddk.open"),
    *("vreplica.delta.copy", "vreplica.extents", "vreplica.sync.cycle", "vreplica.sync.plan"),
)


def test_reading_a_job_file_loads_neither_the_engine_nor_its_libraries(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file)],
        env={"PASSWORD": "geheim", "GUEST": "geheim"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "vreplica.config.jobfile" in loaded
    unwanted = [m for m in loaded if m.startswith((*HEAVY, *ENGINE))]
    assert unwanted == []
