"""A lost catalog, read back from where the truth is: destinations and journals.

replica's snapshots --> points        newest point --> the job's standing
<job>/failovers/*   --> failovers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from vreplica.failover.runner import Outcome, show
from vreplica.jobs import ledger
from vreplica.jobs.catalog import Catalog, Connection
from vreplica.points import RecoveryPoint
from vreplica.sync import Job


def keep(catalog: Catalog, who: str, job: Job, points: Sequence[RecoveryPoint]) -> None:
    """Write what the destination and the journals say of one job, over what the catalog said."""
    failovers = _failovers(job.job_dir)
    with catalog.transaction() as c:
        now = catalog.now(c)
        ledger.know(c, [job.name], now)
        _keep(c, job.name, points, failovers, now)
        catalog.note(c, who, "catalog rebuilt", job.name, points=len(points))


def _keep(
    c: Connection,
    job: str,
    points: Sequence[RecoveryPoint],
    failovers: Mapping[str, Outcome],
    now: datetime,
) -> None:
    ledger.set_points(c, job, [(p.id, p.time, p.level.value, p.to_dict()) for p in points])
    for id_, outcome in failovers.items():
        ledger.set_failover(c, id_, job, outcome.state.value, outcome.facts, now)


def _failovers(job_dir: Path) -> dict[str, Outcome]:
    folders = sorted((job_dir / "failovers").glob("fo-*"))
    return {f.name: show(f) for f in folders if (f / "journal.jsonl").exists()}
