"""`vreplica-sync serve`: the service, on DBOS. The only module that knows that library.

    every mover:  lease ── renewed ──┐
                  round ── plans for all, one mover at a time (dispatch) ──► queue of a mover
                  queue ── DBOS ──► workflow "replicate" ──► one step: Mover.execute(run)

DBOS remembers what was queued and begun; after a crash the same mover takes it up again under
the same name. The catalog says whose a run is (epoch, lease), so whatever DBOS repeats, or a
process that comes back does, changes nothing twice. What must hold:

- one launched process per mover name: a lock in the state folder, the name in it
- others only read, through the catalog; nothing but `serve` launches DBOS
- the version of the workflow is pinned here, not hashed from the source: an upgrade goes on
  with what its predecessor began
- one planner for all jobs, no schedule of DBOS per job
- dead movers are found by leases in the catalog; their jobs are planned anew on the others
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from dbos._serialization import Serializer  # not exported; the type of a documented setting

from vreplica.errors import PreflightError, VReplicaError
from vreplica.jobs import ledger
from vreplica.jobs.catalog import Catalog
from vreplica.jobs.config import Config
from vreplica.jobs.dispatch import Dispatcher, Queued
from vreplica.jobs.events import Events
from vreplica.jobs.lease import Lease
from vreplica.jobs.metrics import Metrics, Server
from vreplica.jobs.mover import Mover, Tell
from vreplica.jobs.notify import Notifier
from vreplica.jobs.planner import TICK_S
from vreplica.jobs.whereabouts import SiteNow, all_holds
from vreplica.vsphere import connect

log = logging.getLogger("vreplica.service")

VERSION: Final = "replicate-1"
"""Changes only with the meaning of the workflow's arguments."""
WORKFLOW: Final = "replicate"
PLACES_S: Final = 60.0
"""How old the knowledge of where VMs are may get."""
GAP_S: Final = 1.0
"""At least between two rounds, however many runs end; and five times what the last one took."""
DRAIN_S: Final = 60.0
"""What runs may take to end after they were cancelled."""
_ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


@dataclass(eq=False)
class MoverNameTaken(PreflightError):
    template = "a service is running here as mover {mover} (process {pid})"
    remedy = "Stop that one, or give this one another name with --mover."
    retryable = True
    mover: str
    pid: str


class _Json(Serializer):
    """Not pickle: whoever can write to the database must not run code in the movers."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=str)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "vreplica-json"


def default_mover() -> str:
    """The host's name: the same after a restart."""
    return socket.gethostname()


class Service:
    """One mover. `start`, then `wait` or `stop`; both sides of every job as in the job file."""

    def __init__(
        self,
        config: Config,
        *,
        mover: str | None = None,
        tell: Tell | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self.config = config
        self.id = mover or default_mover()
        self._tick_s = tick_s
        self._tell = tell or (lambda what, job, data: None)
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._places: dict[str, tuple[str, ...]] = {}
        self._places_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._lock: Any = None
        self._metrics_server: Server | None = None

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the fleet and work. Raises MoverNameTaken and what the catalog raises."""
        state = self.config.state_dir
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _only_one(state / f"mover-{self.id}.lock", self.id)
        url = self.config.catalog_url()
        self.catalog = Catalog.open(url)
        self.notifier = Notifier(self.config)
        rules = {name: rule for name in self.config if (rule := self.config.rule(name))}
        self.metrics = Metrics(self.catalog, rules, self.notifier)
        if address := self.config.service.metrics:
            self._metrics_server = self.metrics.serve(address)
        tell = Events(
            self.id, self.notifier, self.metrics, lambda e: self._tell(e.what, e.job, e.data)
        )
        self._ttl = self.config.service.lease
        self.lease = Lease(self._renew, self._join, self._ttl)
        self.mover = Mover(self.id, self.catalog, self.lease, self.config, tell)
        limits = self.config.service.limits()
        self.dispatcher = Dispatcher(
            self.catalog, self.id, rules, limits, tell, grace=self._ttl / 3
        )
        self.lease.start()
        self._launch(url)
        self._reconcile()
        self._thread = threading.Thread(target=self._plan, name="vreplica-planner")
        self._thread.start()
        log.info(
            "mover %s works on %d scheduled jobs", self.id, len(rules), extra={"mover": self.id}
        )

    def stop(self, drain_s: float = DRAIN_S) -> None:
        """Plan no more, cancel what runs (it leaves nothing behind), leave the fleet."""
        self._stopped.set()
        self._wake.set()
        if self._thread is None:
            return  # it never began
        self._thread.join()
        self.mover.cancel_all()
        end = time.monotonic() + drain_s
        while self.mover.controls and time.monotonic() < end:
            time.sleep(0.1)
        DBOS.destroy(workflow_completion_timeout_sec=2)
        self._client.destroy()
        self.lease.stop()
        with self.catalog.transaction() as c:
            if not ledger.active(c, self.id):
                ledger.leave(c, self.id)
        self.notifier.close()
        if self._metrics_server is not None:
            self._metrics_server.close()
        self.catalog.close()
        self._lock.close()

    def ask_to_stop(self) -> None:
        """`wait` returns; for a signal handler."""
        self._stopped.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Until `stop`, or the time is over."""
        return self._stopped.wait(seconds)

    # -- DBOS ---------------------------------------------------------------------------------

    def _launch(self, catalog_url: str) -> None:
        url = _system_url(catalog_url, self.config.state_dir, self.id)
        settings: DBOSConfig = {
            "name": "vreplica",
            "system_database_url": url,
            "executor_id": self.id,
            "application_version": VERSION,
            "serializer": _Json(),
            "log_level": "WARNING",
            "console_log_level": "WARNING",
        }
        DBOS(config=settings)

        @DBOS.step(name="execute")
        def execute(run: str) -> str:
            state = self.mover.execute(run)
            self._wake.set()
            return state

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=1000)
        def replicate(run: str) -> str:
            return execute(run)

        workers = self.config.service.runs_per_mover
        DBOS.listen_queues([_queue_of(self.id)])
        DBOS.launch()
        DBOS.register_queue(
            _queue_of(self.id), worker_concurrency=workers, on_conflict="always_update"
        )
        self._client = DBOSClient(system_database_url=url, serializer=_Json())

    def _enqueue(self, queued: Queued) -> None:
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": _queue_of(queued.mover),
            "workflow_id": queued.id,
            "app_version": VERSION,
        }
        self._client.enqueue(options, queued.id)

    # -- the loop -----------------------------------------------------------------------------

    def _plan(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            self._wake.clear()
            try:
                self._where()
                for queued in self.dispatcher.round(self._places):
                    self._enqueue(queued)
                self.metrics.round(time.monotonic() - began)
                self._reconcile()
            except Exception:
                # A database that is away, a defect: the service goes on, the log tells.
                log.exception("planning failed; it is tried again in %.0f s", self._tick_s)
            self._stopped.wait(max(GAP_S, 5 * (time.monotonic() - began)))
            self._wake.wait(self._tick_s)

    def _reconcile(self) -> None:
        """Runs of this mover of which DBOS knows nothing, or that ended without saying so."""
        with self.catalog.transaction() as c:
            mine = [run for run, _, _ in ledger.active(c, self.id)]
        if not mine:
            return
        known = {
            w.workflow_id: w.status
            for w in self._client.list_workflows(
                workflow_ids=mine, load_input=False, load_output=False
            )
        }
        for run in mine:
            if run not in known:
                self._enqueue(Queued(run, "", self.id))
            elif known[run] in _ENDED and run not in self.mover.controls:
                with self.catalog.transaction() as c:
                    now = self.catalog.now(c)
                    ledger.abandon(c, run, now, "it ended without a result; the log tells more")

    def _where(self) -> None:
        """Read every site's inventory now and then; a site that is away keeps what was known."""
        if time.monotonic() - self._places_at < PLACES_S:
            return
        sites: dict[str, SiteNow] = {}
        for name in self.config.sites():
            try:
                with connect(self.config.endpoint(name)) as session:
                    sites[name] = SiteNow(name, session.whereabouts(), session.hosts())
            except VReplicaError as error:
                log.warning("site %s: %s", name, error, extra={"site": name})
        jobs = {}
        for name in self.config:
            try:
                jobs[name] = (self.config[name], *self.config.sites_of(name))
            except VReplicaError as error:
                log.warning("job %s: %s", name, error, extra={"job": name})
        self._places |= all_holds(jobs, sites)
        self._places_at = time.monotonic()

    def _renew(self) -> bool:
        with self.catalog.transaction() as c:
            return ledger.renew(c, self.id, self.catalog.now(c), self._ttl)

    def _join(self) -> None:
        with self.catalog.transaction() as c:
            workers = self.config.service.runs_per_mover
            ledger.join(c, self.id, workers, self.catalog.now(c), self._ttl)


def _queue_of(mover: str) -> str:
    return f"mover-{mover}"


def _system_url(catalog_url: str, state_dir: Path, mover: str) -> str:
    """DBOS's own tables: beside the catalog in PostgreSQL, in a file of the mover's else."""
    if catalog_url.startswith("postgresql"):
        return catalog_url
    return f"sqlite:///{state_dir / f'service-{mover}.sqlite'}"


def _only_one(path: Path, mover: str) -> Any:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        raise MoverNameTaken(mover=mover, pid=pid) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
