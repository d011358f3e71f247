"""DBOS below the service. The only module that knows that library.

    queue of a mover ──► workflow "replicate" ──► one step: Mover.execute(run)
                    `──► workflow "failover"  ──► a step for each event ──► a step that settles it

DBOS remembers what was queued and begun; after a crash the same mover takes it up again under
the same name. The catalog says whose a run is (epoch, lease), a failover's journal what it has
done; so whatever DBOS repeats, or a process that comes back does, changes nothing twice. What
must hold:

- one launched process per mover name: a lock in the state folder, the name in it (service.py)
- others only read, through the catalog; nothing but `serve` launches DBOS
- the version of the workflows is pinned here, not hashed from the source: an upgrade goes on
  with what its predecessor began
- one planner for all jobs, no schedule of DBOS per job
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from dbos._serialization import Serializer  # not exported; the type of a documented setting

from vreplica.service.catalog.engines import CatalogAway, unreachable
from vreplica.service.dispatcher import Queued
from vreplica.service.failover_worker import Driven, Driver, Result

VERSION: Final = "replicate-1"
"""Changes only with the meaning of a workflow's arguments and steps."""
REPLICATE: Final = "replicate"
FAILOVER: Final = "failover"
FAILOVERS: Final = 16
"""At a time on one mover; they wait for no run's place."""
ENDED: Final = frozenset({"SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
STOPPED: Final = "CANCELLED"


class _Json(Serializer):
    """Not pickle: whoever can write to the database must not run code in the movers."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=str)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "vreplica-json"


class Engine:
    """DBOS, launched for one mover. `execute` does a run, `driver` a failover."""

    def __init__(
        self,
        url: str,
        mover: str,
        workers: int,
        execute: Callable[[str], str],
        driver: Driver,
        done: Callable[[], None],
    ) -> None:
        """`url`: of DBOS's own tables. `done`: called when something has ended.

        Raises CatalogUnreachable.
        """
        self._mover = mover
        settings: DBOSConfig = {
            "name": "vreplica",
            "system_database_url": url,
            "executor_id": mover,
            "application_version": VERSION,
            "serializer": _Json(),
            "log_level": "WARNING",
            "console_log_level": "WARNING",
        }
        logging.getLogger("dbos").addFilter(_no_stop)
        DBOS(config=settings)
        _register(execute, driver, done)
        DBOS.listen_queues([self._queue(False), self._queue(True)])
        try:
            DBOS.launch()
        except CatalogAway as error:
            DBOS.destroy()
            raise unreachable(url, error) from None
        for failover, places in ((False, workers), (True, FAILOVERS)):
            DBOS.register_queue(
                self._queue(failover), worker_concurrency=places, on_conflict="always_update"
            )
        # Its calls raise while the database is away; they would wait for it, and a stop for them.
        self._client = DBOSClient(
            system_database_url=url, serializer=_Json(), retry_connection_errors=False
        )

    def close(self) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=2)
        self._client.destroy()

    def enqueue(self, queued: Queued) -> None:
        """Harmless for what is queued already."""
        options: EnqueueOptions = {
            "workflow_name": FAILOVER if queued.failover else REPLICATE,
            "queue_name": _queue(queued.mover, queued.failover),
            "workflow_id": _id(queued),
            "app_version": VERSION,
        }
        self._client.enqueue(options, queued.id)

    def known(self, runs: Iterable[Queued]) -> dict[str, str]:
        """DBOS's word on each run that it knows."""
        ids = {_id(run): run.id for run in runs}
        found = self._client.list_workflows(
            workflow_ids=list(ids), load_input=False, load_output=False
        )
        return {ids[w.workflow_id]: w.status for w in found}

    def stop(self, run: Queued) -> None:
        """It ends before its next step; `go_on` takes it up again."""
        self._client.cancel_workflow(_id(run))

    def go_on(self, run: Queued) -> None:
        self._client.resume_workflow(_id(run), queue_name=self._queue(run.failover))

    def _queue(self, failover: bool) -> str:
        return _queue(self._mover, failover)


def system_url(catalog_url: str, state_dir: Path, mover: str) -> str:
    """DBOS's own tables: beside the catalog in PostgreSQL, in a file of the mover's else."""
    if catalog_url.startswith("postgresql"):
        return catalog_url
    return f"sqlite:///{state_dir / f'service-{mover}.sqlite'}"


def _register(execute: Callable[[str], str], driver: Driver, done: Callable[[], None]) -> None:
    @DBOS.step(name="execute")
    def run_once(run: str) -> str:
        state = execute(run)
        done()
        return state

    @DBOS.workflow(name=REPLICATE, max_recovery_attempts=1000)
    def replicate(run: str) -> str:
        return run_once(run)

    @DBOS.step(name="event")
    def event(driven: Driven) -> Result:
        return driven.step()

    @DBOS.step(name="settle")
    def settle(driven: Driven, last: Result) -> str:
        state = driven.settle(last)
        done()
        return state

    @DBOS.workflow(name=FAILOVER, max_recovery_attempts=1000)
    def fail_over(order: str) -> str:
        with driver.take(order) as driven:
            if driven is None:
                return "not mine"
            while (last := event(driven))["more"]:
                pass
            return settle(driven, last)


def _no_stop(record: logging.LogRecord) -> bool:
    """That a workflow was stopped is no error, and no traceback: `stop` has asked for it. What
    kept DBOS from beginning is raised."""
    text = record.getMessage() + repr(record.exc_info and record.exc_info[1])
    return not any(w in text for w in ("was cancelled", "no longer owned", "failed to launch"))


def _queue(mover: str, failover: bool) -> str:
    return f"failovers-{mover}" if failover else f"mover-{mover}"


def _id(run: Queued) -> str:
    """A failover that is given to another mover, since it had not begun, is another workflow."""
    return f"{run.id}@{run.mover}" if run.failover else run.id
