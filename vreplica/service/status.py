"""The state of every job, as this machine's records and the catalog have it.

No site is asked, and nothing is changed. Without the service's libraries, or without a catalog, the
files of this machine are all that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vreplica.config import Config
from vreplica.errors import VReplicaError
from vreplica.failover.live import LiveJob, not_read, read_live
from vreplica.failover.standing import Sides
from vreplica.scheduling.schedule import ScheduleRule
from vreplica.service.describe_job import describe_job
from vreplica.service.job_status import JobStatus, ServiceStatus
from vreplica.service.known_state import JobFolder, Known, read_catalog, read_folder
from vreplica.sync.sites import SiteSessions

if TYPE_CHECKING:
    from vreplica.service.catalog.database import Catalog

__all__ = ["JobStatus", "ServiceStatus", "job_status", "read_status", "status"]


def status(config: Config, names: Sequence[str] = ()) -> tuple[JobStatus, ...]:
    """The state of these jobs, or of all where none is named; as `read_status`."""
    return read_status(config, names).jobs


def read_status(config: Config, names: Sequence[str] = (), *, live: bool = False) -> ServiceStatus:
    """The state of these jobs, or of all where none is named, and of the service.

    `live`: read both sites of each job; a site that does not answer is said, not raised.

    The same values as `vreplica-sync status --json`. Raises UnknownJob, NoJobs, SecretUnavailable,
    CatalogUnreachable, CatalogTooNew and CatalogTooOld, and ModuleNotFoundError where there is a
    catalog and the service's libraries are not installed; changes nothing.
    """
    chosen = config.select(names)
    rules = {name: config.rule(name) for name in chosen}
    sides = {name: Sides(*config.sites_of(name)) for name in chosen}
    # First, so that no point is newer than the moment from which ages count.
    now = _read_live(config, sides) if live else {}
    known = Known(datetime.now(UTC))
    if config.has_catalog:
        from vreplica.service.catalog.reading import consult

        known = consult(config.catalog_url(), lambda catalog: read_catalog(catalog, rules)) or known
    jobs = tuple(
        describe_job(
            name,
            rules[name],
            known,
            read_folder(config.state_dir / name),
            sides[name],
            now.get(name),
        )
        for name in chosen
    )
    return ServiceStatus(jobs, known.now, known.place, known.as_of, known.movers)


def _read_live(config: Config, sides: Mapping[str, Sides]) -> dict[str, LiveJob]:
    found = {}
    with SiteSessions(one_look=True) as sessions:
        for name, each in sides.items():
            try:
                found[name] = read_live(config[name], each, sessions)
            except VReplicaError as error:  # a password that cannot be read
                found[name] = not_read(config.vms_of(name), each, error)
    return found


def job_status(
    catalog: Catalog,
    rules: Mapping[str, ScheduleRule | None],
    sides: Mapping[str, Sides] | None = None,
) -> list[JobStatus]:
    """The state of these jobs by the catalog alone, in the order of `rules`.

    `rules`: None for a job without a schedule. `sides`: the names of each job's sites.
    """
    known = read_catalog(catalog, rules)
    unnamed = Sides("the source", "the destination")
    return [
        describe_job(name, rule, known, JobFolder(), (sides or {}).get(name, unnamed))
        for name, rule in rules.items()
    ]
