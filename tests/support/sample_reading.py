"""The product's readers of what it has stored, under names of their own for test_samples.

Only this module imports them: where one moves, one line changes here and no expected value does.
"""

from __future__ import annotations

import json
import lzma
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from click.testing import CliRunner

from tests.support.digest_maps import header_of
from tests.support.vms import make_disk, make_vm
from vreplica.cli.app import app
from vreplica.failover import history
from vreplica.failover.failback import FailbackPlan
from vreplica.failover.group import report
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.journal import Journal
from vreplica.failover.machine.journal import load as load_journal
from vreplica.failover.machine.journal import state_of as journal_state
from vreplica.failover.machine.record import Record, record_of
from vreplica.failover.machine.states import FailoverState
from vreplica.points import RecoveryPoint
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.file import FOLDING, read_header
from vreplica.points.digestmap.pending import FoundPending, read_pending, read_records
from vreplica.points.vm_keys import BOOTED, DISCONNECTED_KEY, LEAF_KEY, REVERTED_KEY
from vreplica.scheduling.schedule import Every, ScheduleRule
from vreplica.service import dbos_engine
from vreplica.service.catalog import failover_requests, jobs, movers, notices, observed, tables
from vreplica.service.catalog.database import Catalog
from vreplica.service.status import JobStatus, job_status
from vreplica.sync.copy.resume import progress_of, worth_resuming
from vreplica.sync.job import Job, Placement
from vreplica.sync.job_dir import read_accepted
from vreplica.sync.job_switch import disabled_by, why_disabled
from vreplica.sync.replica import test_vm
from vreplica.sync.replica.orphan_files import made_by_run, unused
from vreplica.sync.replica.state import ReplicaState, foreign_snapshots, read_replica
from vreplica.sync.run_record import RunRecord
from vreplica.vsphere.model import Endpoint, SnapshotInfo, VmDisk, VmInfo, VmRef

__all__ = [
    "BOOTED",
    "DISCONNECTED_KEY",
    "LEAF_KEY",
    "REVERTED_KEY",
    "DigestMap",
    "FailbackPlan",
    "FailoverChoices",
    "FailoverState",
    "FoundPending",
    "JobStatus",
    "Journal",
    "RecoveryPoint",
    "ReplicaState",
    "RunRecord",
    "disabled_by",
    "failover_requests",
    "foreign_snapshots",
    "header_of",
    "history",
    "jobs",
    "journal_state",
    "load_journal",
    "made_by_run",
    "movers",
    "notices",
    "observed",
    "progress_of",
    "read_records",
    "report",
    "tables",
    "test_vm",
    "unused",
    "why_disabled",
    "worth_resuming",
]

SAMPLES = Path(__file__).parents[1] / "samples"
PACKED = ".xz"


# -- files ------------------------------------------------------------------------------------


def unpack(source: Path, target: Path) -> Path:
    """A copy of a folder of samples, with the holes that packed files have had."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != PACKED:
            copy.write_bytes(path.read_bytes())
            continue
        data = lzma.decompress(path.read_bytes())
        with copy.with_suffix("").open("wb") as file:
            file.truncate(len(data))
            for at in range(0, len(data), 4096):
                page = data[at : at + 4096]
                if page.strip(b"\0"):
                    file.seek(at)
                    file.write(page)
    return target


def job_of(name: str, state_dir: Path, **changes: Any) -> Job:
    end = Endpoint(host="vc.example", user="u", password="p", sha256="aa")
    settings: dict[str, Any] = {
        "source": end,
        "source_vm": name,
        "destination": end,
        "placement": Placement(datastore="site-b-ds1", name=f"{name}-replica"),
    }
    return Job(name=name, state_dir=state_dir, **{**settings, **changes})


def open_map(job: Job, key: int, point: str) -> DigestMap:
    return DigestMap.open(job.job_dir / f"disk-{key}.digests", latest_point=point)


def is_folding(job: Job) -> str | None:
    """The point that disk 2000's map was being folded to, before anybody opens it."""
    with (job.job_dir / "disk-2000.digests").open("rb") as file:
        header = read_header(file.fileno())
    assert header is not None
    return header.next_point if header.state == FOLDING else None


def pending_of(job: Job, key: int) -> FoundPending | None:
    return read_pending(pending_path(job, key))


def pending_path(job: Job, key: int) -> Path:
    return job.job_dir / f"disk-{key}.digests.pending"


def run_record(job: Job) -> RunRecord | None:
    return RunRecord.load(job)


def state_accepted(job: Job) -> frozenset[str]:
    """Ids of the flagged points that the operator has accepted."""
    return read_accepted(job)


def record(job: str, folder: Path) -> Record:
    return record_of(job, folder.name, load_journal(folder))


# -- VMs --------------------------------------------------------------------------------------


class Stored:
    """A VM as a vCenter would give it back; also the session that reads it."""

    def __init__(self, path: Path) -> None:
        value = json.loads(path.read_text())
        self.ref = VmRef(value["moref"], value["name"])
        self.snapshots = tuple(_snapshot(s) for s in value["snapshots"])
        self.info = _vm(self.ref, value, self.snapshots)

    def look_up_vm(self, name: str) -> VmRef:
        assert name == self.ref.name
        return self.ref

    def read_vm(self, ref: VmRef) -> VmInfo:
        return self.info

    def read_snapshots(self, ref: VmRef) -> tuple[SnapshotInfo, ...]:
        return self.snapshots

    def replica_of(self, job: str, state_dir: Path) -> ReplicaState:
        return read_replica(self, job_of(job, state_dir), self.ref)  # type: ignore[arg-type]

    def others(self, job: str, state_dir: Path) -> list[SnapshotInfo]:
        """Snapshots that are no work of the job, were this its source."""
        one = job_of(job, state_dir)
        return foreign_snapshots(one, self.snapshots)

    def test_vm(self, job: str, state_dir: Path) -> test_vm.TestVm | None:
        return test_vm.find_test_vm(self, job_of(job, state_dir))  # type: ignore[arg-type]


def _vm(ref: VmRef, value: dict[str, Any], snapshots: tuple[SnapshotInfo, ...]) -> VmInfo:
    return make_vm(
        ref,
        instance_uuid=value["instance_uuid"],
        vmx_path=value["vmx_path"],
        power_state=value["power_state"],
        disks=tuple(_disk(d) for d in value["disks"]),
        snapshots=snapshots,
        current_snapshot=value["current_snapshot"],
        extra_config=value["extra_config"],
    )


def _snapshot(value: dict[str, Any]) -> SnapshotInfo:
    return SnapshotInfo(
        moref=value["moref"],
        name=value["name"],
        description=value["description"],
        parent=value["parent"],
        created=datetime.fromisoformat(value["created"]),
        quiesced=False,
        backup_manifest=None,
        disks=tuple(_disk(d) for d in value["disks"]),
        extra_config=value["extra_config"],
    )


def _disk(value: dict[str, Any]) -> VmDisk:
    names = ("key", "label", "capacity_bytes", "path", "uuid")
    return make_disk(**{n: value[n] for n in names}, parents=tuple(value["parents"]))


# -- the service ------------------------------------------------------------------------------


def restore(dump: Path, database: Path) -> Path:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(dump.read_text())
    return database


@contextmanager
def catalog_of(dump: Path, folder: Path) -> Iterator[Catalog]:
    """The dump's catalog, brought up to the present schema."""
    catalog = Catalog.open(f"sqlite:///{restore(dump, folder / 'catalog.sqlite')}", migrate=True)
    try:
        yield catalog
    finally:
        catalog.close()


def within(catalog: Catalog, call: Callable[..., Any], *arguments: Any) -> Any:
    with catalog.transaction() as c:
        return call(c, *arguments)


def points_query() -> sa.Select[Any]:
    return sa.select(tables.points)


def statuses(catalog: Catalog, *jobs: str) -> dict[str, JobStatus]:
    rule = ScheduleRule(Every(timedelta(minutes=1)), ZoneInfo("UTC"), rpo=timedelta(minutes=10))
    return {s.job: s for s in job_status(catalog, dict.fromkeys(jobs, rule))}


def workflows(dump: Path, folder: Path) -> list[tuple[str, str, str, Any]]:
    """(id, name, state, arguments) of what the service's engine has kept."""
    database = restore(dump, folder / "service-m1.sqlite")
    client = dbos_engine.DBOSClient(
        system_database_url=f"sqlite:///{database}", serializer=dbos_engine._Json()
    )
    try:
        found = client.list_workflows()
        assert {w.app_version for w in found} == {dbos_engine.VERSION}
        assert {w.name for w in found} == {dbos_engine.REPLICATE, dbos_engine.FAILOVER}
        return [(w.workflow_id, w.name, w.status, w.input["args"]) for w in found]
    finally:
        client.destroy()


# -- the command ------------------------------------------------------------------------------


def command(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and `--json` answer."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout.strip() else {}
