"""`vreplica-sync serve`: the service on one machine, one mover of a fleet.

    every mover:  lease ── renewed ──┐
                  round ── plans for all, one mover at a time (dispatcher) ──► queue of a mover
                  queue ── DBOS (dbos_engine) ──► RunWorker.execute, FailoverWorker.take

A mover that dies is found by its lease in the catalog; its jobs are planned anew on the others.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from vreplica.config import Config
from vreplica.errors import PreflightError, VReplicaError
from vreplica.files import make_private_folder, open_private
from vreplica.notify.events import EventPublisher
from vreplica.scheduling.planner import ROUND_S
from vreplica.service.catalog import failover_requests, jobs, movers, projection, runs
from vreplica.service.catalog.both_on import BothOnReporter
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.service.catch_up import CatchUp
from vreplica.service.dbos_engine import ENDED, STOPPED, DbosEngine, system_url
from vreplica.service.dispatcher import Assignment, Dispatcher
from vreplica.service.failover_worker import FailoverWorker
from vreplica.service.lease import Lease, LeaseWatch
from vreplica.service.metrics import Metrics
from vreplica.service.occupancy import SiteInventory, both_on, resources_of_runs
from vreplica.service.outbox import Notifier
from vreplica.service.run_worker import RunWorker
from vreplica.vsphere.session import connect

log = logging.getLogger("vreplica.service")

INVENTORY_S: Final = 60.0
"""The sites' inventories are read again when they are older."""
GAP_S: Final = 1.0
"""The shortest time between two rounds, however many runs end. It is at least five times what
the last round took."""
CATCH_UP_END_S: Final = 10.0
"""The time for the thread that asks destinations to end; then it ends with the process."""
DRAIN_S: Final = 60.0
"""The time for runs to end after they were cancelled."""


@dataclass(eq=False)
class MoverNameTaken(PreflightError):
    template = "a service is running here as mover {mover} (process {pid})"
    remedy = "Stop that one, or give this one another name with --mover."
    retryable = True
    mover: str
    pid: str


class Service:
    """A mover of the fleet: `start`, then `wait` or `stop`."""

    def __init__(self, config: Config, *, mover: str | None = None) -> None:
        self.config = config
        # The same after a restart.
        self.mover = mover or socket.gethostname()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._resources: dict[str, tuple[str, ...]] = {}
        self._resources_at = float("-inf")
        self._open = ExitStack()
        self._away = False

    # -- start and stop -----------------------------------------------------------------------

    def start(self) -> None:
        """Joins the fleet and works. Raises MoverNameTaken and what the catalog raises; then
        nothing is left open."""
        try:
            self._start()
        except BaseException:
            self.stop(drain_s=0)
            raise

    def _start(self) -> None:
        """Opens everything; `stop` closes it in the reverse order."""
        config, closing = self.config, self._open.callback
        state, url = config.state_dir, config.catalog_url()
        make_private_folder(state)
        self._open.enter_context(_lock_name(state / f"mover-{self.mover}.lock", self.mover))
        self.catalog = Catalog.open(url, migrate=True)
        closing(self.catalog.close)
        self.notifier = Notifier(config, self.catalog, self.mover)
        closing(self.notifier.close)
        rules = {name: rule for name in config if (rule := config.rule(name))}
        limits = config.service.limits()
        self.metrics = Metrics(self.catalog, rules, limits, self.notifier)
        if address := config.service.metrics:
            closing(self.metrics.serve(address).close)
        self.publish = EventPublisher(self.mover, self.notifier, self.metrics)
        self.report_both_on = BothOnReporter(self.catalog, self.mover, self.publish)
        self._ttl = config.service.lease
        self.watch = LeaseWatch(self._ttl * 4 / 3)
        self.dispatcher = Dispatcher(
            self.catalog, self.mover, rules, limits, self.publish, self.watch
        )
        self.lease = Lease(self._renew, self._join, self._ttl)
        closing(self._leave)
        self.lease.start()
        closing(self.lease.stop)
        shared = (self.mover, self.catalog, self.lease, config, self.publish)
        self.run_worker, self.failover_worker = RunWorker(*shared), FailoverWorker(*shared)
        self.engine = DbosEngine(
            system_url(url, state, self.mover),
            self.mover,
            places=config.service.runs_per_mover,
            execute_run=self.run_worker.execute,
            failovers=self.failover_worker,
            on_end=self._wake.set,
        )
        closing(self.engine.close)
        self._reconcile()
        catch_up = CatchUp(config, self.catalog, self._stopped)
        catching_up = threading.Thread(target=catch_up.work, name="vreplica-catch-up", daemon=True)
        catching_up.start()
        closing(partial(catching_up.join, CATCH_UP_END_S))
        closing(self._drain)
        thread = threading.Thread(target=self._plan, name="vreplica-planner")
        thread.start()
        closing(thread.join)
        fields = {"mover": self.mover}
        log.info("mover %s works on %d scheduled jobs", self.mover, len(rules), extra=fields)

    def stop(self, drain_s: float = DRAIN_S) -> bool:
        """Plans no more, cancels runs, which leave nothing behind, puts failovers off until the
        next start, and leaves the fleet. Does nothing where the service never began.

        False: the catalog does not answer. Threads may still wait for it, to write how their runs
        ended; the next start executes these again.
        """
        self._drain_s = drain_s
        self._stopped.set()
        self._wake.set()
        self._open.close()
        return not self._away

    def _drain(self) -> None:
        """Ends runs and failovers, and waits for that."""
        runs_now, failovers_now = self.run_worker.controls, self.failover_worker.working
        self.run_worker.cancel_all()
        self.failover_worker.stopping = True
        with suppress(CatalogAway):
            for request in list(failovers_now):
                self.engine.stop(Assignment(request, "", self.mover, failover=True))
        end = time.monotonic() + self._drain_s
        while (runs_now or failovers_now) and time.monotonic() < end:
            time.sleep(0.1)

    def _leave(self) -> None:
        try:
            with self.catalog.transaction() as c:
                if runs.open_of(c, self.mover) == []:
                    movers.leave(c, self.mover)
        except CatalogAway as error:
            self._away = True
            log.warning("stopped without the catalog, which does not answer: %s", error)

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until `stop`, or until the time is over. True: stopped."""
        return self._stopped.wait(seconds)

    # -- the loop -----------------------------------------------------------------------------

    def _plan(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            self._wake.clear()
            try:
                self._read_inventories()
                for assignment in self.dispatcher.round(self._resources):
                    self.engine.enqueue(assignment)
                self.metrics.round(time.monotonic() - began)
                self._reconcile()
            except Exception:
                # A database that is away, or a defect: the service goes on, and logs it.
                log.exception("planning failed; it is tried again in %.0f s", ROUND_S)
            self._stopped.wait(max(GAP_S, 5 * (time.monotonic() - began)))
            self._wake.wait(ROUND_S)

    def _reconcile(self) -> None:
        """Brings DBOS in line with the catalog, for the runs and failovers of this mover.

        DBOS may not know one, because the process was killed before it was queued; may have
        stopped it; or may have ended it without a result.
        """
        with self.catalog.transaction() as c:
            mine = [Assignment(run, "", self.mover) for run in runs.active(c, self.mover)]
            requested = failover_requests.unfinished(c, self.mover)
        mine += [Assignment(request, "", self.mover, failover=True) for request in requested]
        known = self.engine.known(mine) if mine else {}
        for one in mine:
            state = known.get(one.id)
            if state is None:
                self.engine.enqueue(one)
            elif one.id in self.run_worker.controls or one.id in self.failover_worker.working:
                continue
            elif state == STOPPED and one.failover:
                self.engine.resume(one)
            elif state in (*ENDED, STOPPED) and requested.get(one.id) != "lost":
                self._close_unreported(one)

    def _close_unreported(self, one: Assignment) -> None:
        reason = "it ended without a result; see the log of its mover"
        name, state = ("failover failed", "failed") if one.failover else ("run lost", "lost")
        with self.catalog.transaction() as c:
            job = runs.close_unreported(c, one.id, self.catalog.now(c), reason, state)
            if job is None:
                return
            self.catalog.add_audit_entry(c, self.mover, name, job, run=one.id, error=reason)
        self.publish(name, job, {"run": one.id, "error": reason})

    def _read_inventories(self) -> None:
        """Reads all sites when the last time is long ago. Of a site that does not answer, the
        resources that were known stay."""
        if time.monotonic() - self._resources_at < INVENTORY_S:
            return
        sites: dict[str, SiteInventory] = {}
        for name in self.config.sites():
            try:
                with connect(self.config.endpoint(name)) as session:
                    sites[name] = SiteInventory(name, session.vm_locations(), session.hosts())
            except VReplicaError as error:
                log.warning("site %s: %s", name, error, extra={"site": name})
        found = {}
        for name in self.config:
            try:
                found[name] = (self.config[name], *self.config.sites_of(name))
            except VReplicaError as error:
                log.warning("job %s: %s", name, error, extra={"job": name})
        self._resources |= resources_of_runs(found, sites)
        both = both_on(found, sites)
        self.metrics.both_on(both)
        self.report_both_on(both)
        with self.catalog.transaction() as c:
            jobs.register(c, found, self.catalog.now(c))
            projection.write_disabled(c, (job for job, *_ in found.values()))
        self._resources_at = time.monotonic()

    def _renew(self) -> bool:
        with self.catalog.transaction() as c:
            renewed = movers.renew(c, self.mover, self.catalog.now(c), self._ttl)
            self.watch.observe(movers.leases(c))
        if self.watch.gone():
            self._wake.set()
        return renewed

    def _join(self) -> None:
        with self.catalog.transaction() as c:
            places = self.config.service.runs_per_mover
            movers.join(c, self.mover, places, self.catalog.now(c), self._ttl)


def _lock_name(path: Path, mover: str) -> TextIO:
    """Holds the mover's name on this machine. Raises MoverNameTaken."""
    file = open_private(path)
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
