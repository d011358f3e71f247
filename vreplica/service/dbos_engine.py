"""Runs the workflows of one mover durably, by DBOS. No other module knows that library.

    queue of a mover ──► workflow "replicate" ──► one step: RunWorker.execute(run)
                    `──► workflow "failover"  ──► a step for each event ──► a step for the end

DBOS remembers which workflows were queued and begun; after a crash the same mover, under the same
name, executes them again. The catalog says which mover has a run (epoch, lease), and a failover's
journal which effects it had; so whatever DBOS repeats, or a process that comes back does, has no
effect twice. The following must hold:

- one launched process per mover name: a lock in the state folder, named after the mover
- all other processes only read, through the catalog; nothing but `serve` launches DBOS
- the version of the workflows is a constant here, not a hash of the source: after an upgrade the
  workflows go on that an older version has begun
- one planner for all jobs, no schedule of DBOS per job

Names of queues, workflows and steps, the version, and the form of their arguments are stored in
DBOS's tables. They stay, whatever the modules and functions here are called.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from dbos._serialization import Serializer  # not exported; the type of a documented setting

from vreplica.files import create_private
from vreplica.redact import hide_in
from vreplica.service.catalog.engines import CatalogAway, sqlite_file, unreachable
from vreplica.service.dispatcher import Assignment
from vreplica.service.failover_worker import FailoverTask, FailoverWorker, StepResult

VERSION: Final = "replicate-1"
"""Changes only with the meaning of a workflow's arguments and steps."""
REPLICATE: Final = "replicate"
FAILOVER: Final = "failover"
FAILOVERS: Final = 16
"""The failovers of one mover at a time; they take no places of runs."""
ENDED: Final = frozenset({"SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
STOPPED: Final = "CANCELLED"


class _Json(Serializer):
    """JSON instead of pickle: access to the database must not mean running code in the movers."""

    def serialize(self, data: Any) -> str:
        return json.dumps(hide_in(data), default=str)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "vreplica-json"


class DbosEngine:
    """DBOS, launched for one mover."""

    def __init__(
        self,
        url: str,
        mover: str,
        *,
        places: int,
        execute_run: Callable[[str], str],
        failovers: FailoverWorker,
        on_end: Callable[[], None],
    ) -> None:
        """`url`: of the database for DBOS's own tables. `places`: runs at a time. `on_end`: called
        when a run or a failover has ended.

        Raises CatalogUnreachable.
        """
        self._mover = mover
        if (file := sqlite_file(url)) is not None:
            create_private(file)
        settings: DBOSConfig = {
            "name": "vreplica",
            "system_database_url": url,
            "executor_id": mover,
            "application_version": VERSION,
            "serializer": _Json(),
            "log_level": "WARNING",
            "console_log_level": "WARNING",
        }
        logging.getLogger("dbos").addFilter(_is_unexpected)
        DBOS(config=settings)
        _register(execute_run, failovers, on_end)
        DBOS.listen_queues([self._queue(False), self._queue(True)])
        try:
            DBOS.launch()
        except CatalogAway as error:
            DBOS.destroy()
            raise unreachable(url, error) from None
        for failover, at_a_time in ((False, places), (True, FAILOVERS)):
            DBOS.register_queue(
                self._queue(failover), worker_concurrency=at_a_time, on_conflict="always_update"
            )
        # Calls of DBOS itself wait while the database is away, and a stop would wait for them.
        # Those of the client raise.
        self._client = DBOSClient(
            system_database_url=url, serializer=_Json(), retry_connection_errors=False
        )

    def close(self) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=2)
        self._client.destroy()

    def enqueue(self, one: Assignment) -> None:
        """Has no effect for one that is queued already."""
        options: EnqueueOptions = {
            "workflow_name": FAILOVER if one.failover else REPLICATE,
            "queue_name": _queue(one.mover, one.failover),
            "workflow_id": _workflow_id(one),
            "app_version": VERSION,
        }
        self._client.enqueue(options, one.id)

    def known(self, assignments: Iterable[Assignment]) -> dict[str, str]:
        """DBOS's state of each of these that it knows, by its id."""
        ids = {_workflow_id(one): one.id for one in assignments}
        found = self._client.list_workflows(
            workflow_ids=list(ids), load_input=False, load_output=False
        )
        return {ids[w.workflow_id]: w.status for w in found}

    def stop(self, one: Assignment) -> None:
        """Ends a workflow before its next step; `resume` continues it."""
        self._client.cancel_workflow(_workflow_id(one))

    def resume(self, one: Assignment) -> None:
        self._client.resume_workflow(_workflow_id(one), queue_name=self._queue(one.failover))

    def _queue(self, failover: bool) -> str:
        return _queue(self._mover, failover)


def system_url(catalog_url: str, state_dir: Path, mover: str) -> str:
    """The database of DBOS's tables: the catalog's PostgreSQL, or a file of the mover."""
    if catalog_url.startswith("postgresql"):
        return catalog_url
    return f"sqlite:///{state_dir / f'service-{mover}.sqlite'}"


def _register(
    execute_run: Callable[[str], str], failovers: FailoverWorker, on_end: Callable[[], None]
) -> None:
    @DBOS.step(name="execute")
    def run_once(run: str) -> str:
        state = execute_run(run)
        on_end()
        return state

    @DBOS.workflow(name=REPLICATE, max_recovery_attempts=1000)
    def replicate(run: str) -> str:
        return run_once(run)

    @DBOS.step(name="event")
    def event(task: FailoverTask) -> StepResult:
        return task.step()

    @DBOS.step(name="settle")
    def record_end(task: FailoverTask, last: StepResult) -> str:
        state = task.record_end(last)
        on_end()
        return state

    @DBOS.workflow(name=FAILOVER, max_recovery_attempts=1000)
    def fail_over(request: str) -> str:
        with failovers.take(request) as task:
            if task is None:
                return "not mine"
            while (last := event(task))["more"]:
                pass
            return record_end(task, last)


def _is_unexpected(record: logging.LogRecord) -> bool:
    """A filter of DBOS's log. Leaves out that a workflow was stopped, which `stop` has asked for,
    and that DBOS failed to launch, which is raised as well."""
    text = record.getMessage() + repr(record.exc_info and record.exc_info[1])
    return not any(w in text for w in ("was cancelled", "no longer owned", "failed to launch"))


def _queue(mover: str, failover: bool) -> str:
    return f"failovers-{mover}" if failover else f"mover-{mover}"


def _workflow_id(one: Assignment) -> str:
    """A failover that goes to another mover, since it had not begun, is another workflow."""
    return f"{one.id}@{one.mover}" if one.failover else one.id
