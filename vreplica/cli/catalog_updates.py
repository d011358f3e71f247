"""The service's catalog as commands see it: opened, and told of what was done from here."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vreplica.cli.render.output import Output
from vreplica.errors import ConfigError, VReplicaError

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.points import RecoveryPoint
    from vreplica.service.catalog.database import Catalog
    from vreplica.sync.job import Job
    from vreplica.sync.report import RunReport


@dataclass(eq=False)
class ServiceNotInstalled(ConfigError):
    template = "the service's libraries are not installed ({missing})"
    remedy = "pip install 'vreplica[service]'"
    missing: str


@contextmanager
def installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "vreplica":
            raise
        raise ServiceNotInstalled(str(error.name)) from None


@contextmanager
def opened(config: Config) -> Iterator[Catalog]:
    with installed():
        from vreplica.service.catalog.database import Catalog
    catalog = Catalog.open(config.catalog_url())
    try:
        yield catalog
    finally:
        catalog.close()


def user() -> str:
    """Who calls, for the audit trail. In a container it may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def reserve(out: Output, config: Path | None, job: Job, failover: str) -> None:
    """Before a failover begins here: no mover plans the job any more."""

    def keep(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        if (mover := projection.reserve(catalog, job, failover)) is not None:
            out.note(
                f"{job.name}: mover {mover} has a run of it under way. On this machine it is waited"
                " for; on another one interrupt this and use --by-service, which waits for it too"
            )

    _tell(out, config, keep)


def tell_failovers(out: Output, config: Path | None, job: Job, reserved: str | None) -> None:
    """After a failover went as far as it did."""

    def keep(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        if reserved is not None:
            with catalog.transaction() as c:
                projection.release(c, job, reserved)
        projection.keep_failovers(catalog, job)

    _tell(out, config, keep)


def tell_run(out: Output, config: Path | None, job: Job, report: RunReport) -> None:
    """After a run."""

    def keep(catalog: Catalog) -> None:
        import vreplica
        from vreplica.service.catalog import projection

        projection.keep_run(catalog, job, report, vreplica.recovery_points)

    _tell(out, config, keep)


def tell_points(
    out: Output, config: Path | None, job: Job, points: Sequence[RecoveryPoint]
) -> None:
    """After they were read, or looked at."""

    def keep(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        with catalog.transaction() as c:
            projection.keep_points(c, job.name, points)

    _tell(out, config, keep)


def _tell(out: Output, config: Path | None, keep: Callable[[Catalog], None]) -> None:
    """Where there is a catalog. It can be lost: it keeps nothing from being done."""
    import vreplica

    loaded = vreplica.load(config)
    if not loaded.has_catalog:
        return
    how = "`vreplica-sync catalog rebuild` does it"
    try:
        with opened(loaded) as catalog:
            from vreplica.service.catalog.database import CatalogAway

            try:
                keep(catalog)
            except CatalogAway as error:
                out.warning(f"the catalog was not told ({how}): {error}")
    except VReplicaError as error:
        out.warning(f"the catalog was not told ({how}): {error}")
