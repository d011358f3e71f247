"""--by-service: a failover is asked of the service, which does it; the client waits and tells.

ask ──► catalog ──► a mover does it, and goes on with it after a crash
 `── looks at the catalog until it has ended: same answer, same exit codes
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vreplica.cli import exits
from vreplica.cli.catalog_updates import opened, user
from vreplica.cli.render import failover_text
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.failover.machine.choices import Choices
    from vreplica.service.catalog.database import Catalog

LOOK_S: Final = 0.5

by_service_option = click.option(
    "--by-service",
    is_flag=True,
    help="Ask the service to do it and wait for the end; it goes on whatever becomes of this"
    " process. Without it: from here, service or not.",
)


@dataclass(eq=False)
class StoppedThere(VReplicaError):
    exit_code = 9
    template = "the service's failover of job {job} stopped: {reason}"
    remedy = "{then}"
    job: str
    reason: str
    then: str


def ask(
    out: Output,
    config: Path | None,
    job: str,
    do: str,
    choices: Choices | None = None,
    **more: Any,
) -> int:
    """`do`: begin | back | resume | undo | commit. The exit code, once it has ended."""
    import vreplica

    if ":" in job:
        raise click.UsageError("--by-service is of one job: name the members of the group")
    loaded = vreplica.load(config)
    loaded.select((job,))
    order = {"do": do, "who": user(), **more}
    if choices is not None:
        order["choices"] = choices.to_dict()
    with opened(loaded) as catalog:
        from vreplica.service.catalog import failover_requests

        with catalog.transaction() as c:
            id_ = failover_requests.order_id(do)
            failover_requests.ask(c, id_, job, order, catalog.now(c))
            catalog.note(c, order["who"], "failover asked", job, run=id_, order=do)
        out.note(f"{job}: asked the service ({id_})")
        try:
            row = _wait(out, catalog, id_, job)
        except KeyboardInterrupt:
            out.note(f"{job}: the service goes on with it; `vreplica-sync status {job}` tells how")
            raise
    return _ended(out, job, row)


def _wait(out: Output, catalog: Catalog, id_: str, job: str) -> Any:
    """The order's row, once it has ended. A catalog that is away is asked again."""
    from vreplica.service.catalog import failover_requests, observed, runs
    from vreplica.service.catalog.database import CatalogAway

    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            out.note(f"{job}: {text}")

    while True:
        try:
            with catalog.transaction() as c:
                row = failover_requests.get(c, id_)
                state = observed.failover_states(c).get(id_)
                busy = runs.mover_of(c, job)
        except CatalogAway as error:
            tell(f"the catalog is away, asking again: {error}")
        else:
            assert row is not None, "an order is never taken away"
            if row.state not in failover_requests.OPEN:
                return row
            if row.state == "asked" and busy:
                tell(f"waits for the run under way on mover {busy}")
            if row.state == "running":
                tell(f"mover {row.mover} does it")
            if state:
                tell(state)
        time.sleep(LOOK_S)


def _ended(out: Output, job: str, row: Any) -> int:
    from vreplica.failover.machine.record import Outcome
    from vreplica.failover.machine.states import FailoverState

    result = row.result or {}
    error = result.get("error") or ({"message": row.error} if row.error else None)
    if error is not None:
        then = error.get("remedy") or "`vreplica-sync status` tells where it stands."
        if row.state == "lost":
            then = f"Start mover {row.mover} again: it goes on by itself."
        out.error(StoppedThere(job, str(error["message"]), then), job)
        return int(error.get("exit_code", StoppedThere.exit_code))
    outcome = Outcome(result["failover"], FailoverState(result["state"]), result["facts"])
    out.answer(
        outcome.to_dict(),
        *failover_text.outcome(job, outcome),
    )
    # Given up is what an undo asks for.
    given_up = outcome.state is FailoverState.ABORTED and row.order["do"] != "undo"
    missed = row.order.get("commit") and outcome.state is not FailoverState.COMMITTED
    return exits.STOPPED if given_up or missed else exits.OK
