"""Tells the service's catalog of what commands do in this process.

Where there is no catalog nothing happens. A catalog that cannot be reached keeps no command from
its work: it is reported as a warning, and `catalog rebuild` makes up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import vreplica
from vreplica.cli.open_catalog import opened
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.points import RecoveryPoint
    from vreplica.service.catalog.database import Catalog
    from vreplica.sync.job import Job
    from vreplica.sync.report import RunReport


def reserve_job(out: Output, config: Config, job: Job, failover: str) -> None:
    """Before a failover begins here: no mover plans runs of the job any more."""

    def update(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        if (mover := projection.reserve_job(catalog, job, failover)) is not None:
            out.note(
                f"{job.name}: mover {mover} is running it. A run on this machine is waited for;"
                " for a run on another machine interrupt this and use --by-service, which waits"
                " for it too"
            )

    _update(out, config, update)


def failover_ended(out: Output, config: Config, job: Job, reserved: str | None = None) -> None:
    """After a failover went as far as it could. `reserved`: the id that `reserve_job` was given."""

    def update(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        if reserved is not None:
            with catalog.transaction() as c:
                projection.release_job(c, job, reserved)
        projection.write_failovers(catalog, job)

    _update(out, config, update)


def run_ended(out: Output, config: Config, job: Job, report: RunReport) -> None:
    """After a run that made a recovery point."""

    def update(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        projection.write_run(catalog, job, report, vreplica.recovery_points)

    _update(out, config, update)


def points_read(out: Output, config: Config, job: Job, points: Sequence[RecoveryPoint]) -> None:
    """After all recovery points of the job were read from the destination."""

    def update(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        with catalog.transaction() as c:
            projection.write_points(c, job.name, points)

    _update(out, config, update)


def _update(out: Output, config: Config, update: Callable[[Catalog], None]) -> None:
    if not config.has_catalog:
        return
    try:
        with opened(config) as catalog:
            from vreplica.service.catalog.engines import CatalogAway

            try:
                update(catalog)
            except CatalogAway as error:
                _say_not_updated(out, str(error))
    except VReplicaError as error:
        _say_not_updated(out, f"{error}. {error.advice()}")


def _say_not_updated(out: Output, why: str) -> None:
    then = "Then `vreplica-sync catalog rebuild` brings it up to date."
    out.warning(f"the catalog was not updated: {why.rstrip('.')}. {then}")
