"""Records what commands do in this process, and tells the service's catalog of it.

    command --recorded--> <job>/by-hand.jsonl --> catalog, where there is one
                 `------> points, failovers and the job's switch -->'

A catalog that cannot be reached keeps no command from its work: it is reported as a warning, and
`catalog rebuild` makes up for it. What was recorded stays in the job's folder until a command or
the service takes it in.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import vreplica
from vreplica.cli.open_catalog import opened, user
from vreplica.cli.render.output import Output, each_error
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.failover.live import LiveJob
    from vreplica.points import RecoveryPoint
    from vreplica.service.catalog.database import Catalog
    from vreplica.sync.job import Job
    from vreplica.sync.report import RunReport

    Update = Callable[[Catalog], None]

WHO_MAX: Final = 120
"""Characters of a name in the audit trail."""


@dataclass(slots=True)
class HandRecord:
    """The record of what a command carries out. `result`: as in `HandEntry`; `id`: see there.

    `tell`: updates of the catalog, made at the end however it ends.
    """

    result: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    state: str = "done"
    error: str | None = None
    tell: list[Update] = field(default_factory=list)

    def made(self, job: Job, report: RunReport) -> None:
        """A run made a point."""
        point = report.point
        self.id = point.id
        self.result = {"point": point.id, "taken": point.taken.isoformat()}
        self.result["level"] = point.level.value

        def update(catalog: Catalog) -> None:
            from vreplica.service.catalog import projection

            projection.write_run(catalog, job, report, vreplica.recovery_points)

        self.tell.append(update)


@contextmanager
def recorded(out: Output, config: Config, job: str, what: str) -> Iterator[HandRecord]:
    """Around a run or a verb of a failover of a job. `what`: as in `HandEntry`."""
    record, began = HandRecord(), datetime.now(UTC)
    try:
        yield record
    except BaseException as raised:
        record.state, record.error = _state_of(raised)
        raise
    finally:
        _write(out, config, job, record, what=what, began=began)
        record.tell.append(lambda catalog: _take_in(catalog, config, job))
        _update(out, config, *record.tell)


def failover_told(out: Output, job: Job, record: HandRecord, reserved: str | None = None) -> None:
    """Lets the record of a failover's verb end with what the journals and the destination say.

    `reserved`: the id that `reserve_job` was given.
    """

    def failovers(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        if reserved is not None:
            with catalog.transaction() as c:
                projection.release_job(c, job, reserved)
        projection.write_failovers(catalog, job)

    def points(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        if record.state != "done":
            return  # a site may be away, and would be waited for
        try:
            found = vreplica.recovery_points(job)
        except VReplicaError as error:
            out.warning(f"{job.name}: the catalog does not know its points: {error}")
            return
        with catalog.transaction() as c:
            projection.write_points(c, job.name, found)

    record.tell += [failovers, points]


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


def points_read(out: Output, config: Config, job: Job, points: Sequence[RecoveryPoint]) -> None:
    """After all recovery points of the job were read from the destination."""

    def update(catalog: Catalog) -> None:
        from vreplica.service.catalog import projection

        with catalog.transaction() as c:
            projection.write_points(c, job.name, points)

    _update(out, config, update)


def both_on_seen(out: Output, config: Config, found: Mapping[str, LiveJob]) -> None:
    """After both VMs of these jobs were read as on: the service's event, once by whoever looks."""

    def update(catalog: Catalog) -> None:
        from vreplica.service.catalog.both_on import BothOnReporter

        BothOnReporter(catalog, user(), lambda *_: None)({n: j.both for n, j in found.items()})

    _update(out, config, update)


def _state_of(raised: BaseException) -> tuple[str, str]:
    """The state of a verb that raised this, and its error."""
    known = list(each_error(raised) or ())
    text = "; ".join(str(error) for error in known) or str(raised) or type(raised).__name__
    cancelled = ("Cancelled", "CopyCancelled", "Interrupted", "KeyboardInterrupt")
    names = {type(error).__name__ for error in known} or {type(raised).__name__}
    return "cancelled" if names <= set(cancelled) else "failed", text


def _write(
    out: Output, config: Config, job: str, record: HandRecord, *, what: str, began: datetime
) -> None:
    from vreplica.points.model import new_id
    from vreplica.sync import by_hand

    entry = by_hand.HandEntry(
        id=record.id or f"hand-{new_id()}",
        what=what,
        job=job,
        state=record.state,
        who=f"{user()}@{socket.gethostname()}"[:WHO_MAX],
        began=began,
        ended=datetime.now(UTC),
        error=record.error,
        result=record.result,
    )
    try:
        by_hand.write(config.state_dir / job, entry)
    except VReplicaError as refused:
        if record.error is None:
            out.warning(f"{job}: what was done is not recorded: {refused}")


def _take_in(catalog: Catalog, config: Config, job: str) -> None:
    from vreplica.service.catalog import projection

    projection.take_in(catalog, config.state_dir / job)


def _update(out: Output, config: Config, *updates: Update) -> None:
    if not config.has_catalog:
        return
    try:
        with opened(config) as catalog:
            from vreplica.service.catalog.engines import CatalogAway

            try:
                for update in updates:
                    update(catalog)
            except CatalogAway as error:
                _say_not_updated(out, str(error))
    except VReplicaError as error:
        _say_not_updated(out, f"{error}. {error.advice()}")


def _say_not_updated(out: Output, why: str) -> None:
    then = "Then `vreplica-sync catalog rebuild` brings it up to date."
    out.warning(f"the catalog was not updated: {why.rstrip('.')}. {then}")
