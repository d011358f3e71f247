"""`vreplica-sync serve`: the service, one mover of a fleet.

    every mover:  lease ── renewed ──┐
                  round ── plans for all, one mover at a time (dispatch) ──► queue of a mover
                  queue ── DBOS (engine) ──► Mover.execute(run), Driver.take(failover)

Dead movers are found by leases in the catalog; their jobs are planned anew on the others.
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
from pathlib import Path
from typing import Final, TextIO

from vreplica.config.jobfile import Config
from vreplica.errors import PreflightError, VReplicaError
from vreplica.notify.events import Events
from vreplica.scheduling.planner import TICK_S
from vreplica.service.catalog import failover_requests, jobs, movers, projection, runs
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.service.dbos_engine import ENDED, STOPPED, Engine, system_url
from vreplica.service.dispatcher import Dispatcher, Queued
from vreplica.service.failover_worker import Driver
from vreplica.service.lease import Lease, Watch
from vreplica.service.metrics import Metrics
from vreplica.service.occupancy import SiteNow, all_holds
from vreplica.service.outbox import Notifier
from vreplica.service.run_worker import Mover
from vreplica.vsphere.session import connect

log = logging.getLogger("vreplica.service")

PLACES_S: Final = 60.0
"""How old the knowledge of where VMs are may get."""
GAP_S: Final = 1.0
"""At least between two rounds, however many runs end; and five times what the last one took."""
DRAIN_S: Final = 60.0
"""What runs may take to end after they were cancelled."""


@dataclass(eq=False)
class MoverNameTaken(PreflightError):
    template = "a service is running here as mover {mover} (process {pid})"
    remedy = "Stop that one, or give this one another name with --mover."
    retryable = True
    mover: str
    pid: str


class Service:
    """One mover. `start`, then `wait` or `stop`; both sides of every job as in the job file."""

    def __init__(self, config: Config, *, mover: str | None = None) -> None:
        self.config = config
        # The same after a restart.
        self.id = mover or socket.gethostname()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._places: dict[str, tuple[str, ...]] = {}
        self._places_at = float("-inf")
        self._open = ExitStack()
        self._away = False

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the fleet and work. Raises MoverNameTaken and what the catalog raises; then
        nothing is left open."""
        try:
            self._start()
        except BaseException:
            self.stop(drain_s=0)
            raise

    def _start(self) -> None:
        """What is opened here is closed by `stop`, in the reverse order."""
        config, closing = self.config, self._open.callback
        state, url = config.state_dir, config.catalog_url()
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open.enter_context(_only_one(state / f"mover-{self.id}.lock", self.id))
        self.catalog = Catalog.open(url, migrate=True)
        closing(self.catalog.close)
        self.notifier = Notifier(config, self.catalog, self.id)
        closing(self.notifier.close)
        rules = {name: rule for name in config if (rule := config.rule(name))}
        limits = config.service.limits()
        self.metrics = Metrics(self.catalog, rules, limits, self.notifier)
        if address := config.service.metrics:
            closing(self.metrics.serve(address).close)
        self.events = tell = Events(self.id, self.notifier, self.metrics)
        self._ttl = config.service.lease
        self.watch = Watch(self._ttl * 4 / 3)
        self.dispatcher = Dispatcher(self.catalog, self.id, rules, limits, tell, self.watch)
        self.lease = Lease(self._renew, self._join, self._ttl)
        closing(self._leave)
        self.lease.start()
        closing(self.lease.stop)
        self.mover = Mover(self.id, self.catalog, self.lease, config, tell)
        self.driver = Driver(self.id, self.catalog, self.lease, config, tell)
        system = system_url(url, state, self.id)
        workers = config.service.runs_per_mover
        self.engine = Engine(
            system, self.id, workers, self.mover.execute, self.driver, self._wake.set
        )
        closing(self.engine.close)
        self._reconcile()
        closing(self._drain)
        thread = threading.Thread(target=self._plan, name="vreplica-planner")
        thread.start()
        closing(thread.join)
        log.info(
            "mover %s works on %d scheduled jobs", self.id, len(rules), extra={"mover": self.id}
        )

    def stop(self, drain_s: float = DRAIN_S) -> bool:
        """Plan no more, cancel what runs (it leaves nothing behind), put failovers off until the
        next start, leave the fleet. Harmless where it never began.

        False: the catalog is away. Then threads may still wait for it, to write how their runs
        ended; the next start takes them up.
        """
        self._drain_s = drain_s
        self._stopped.set()
        self._wake.set()
        self._open.close()
        return not self._away

    def _drain(self) -> None:
        """End what runs."""
        self.mover.cancel_all()
        self.driver.stopping = True
        with suppress(CatalogAway):
            for order in list(self.driver.working):
                self.engine.stop(Queued(order, "", self.id, failover=True))
        end = time.monotonic() + self._drain_s
        while (self.mover.controls or self.driver.working) and time.monotonic() < end:
            time.sleep(0.1)

    def _leave(self) -> None:
        try:
            with self.catalog.transaction() as c:
                if runs.open_of(c, self.id) == []:
                    movers.leave(c, self.id)
        except CatalogAway as error:
            self._away = True
            log.warning("stopped without the catalog, which is away: %s", error)

    def wait(self, seconds: float | None = None) -> bool:
        """Until `stop`, or the time is over."""
        return self._stopped.wait(seconds)

    # -- the loop -----------------------------------------------------------------------------

    def _plan(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            self._wake.clear()
            try:
                self._where()
                for queued in self.dispatcher.round(self._places):
                    self.engine.enqueue(queued)
                self.metrics.round(time.monotonic() - began)
                self._reconcile()
            except Exception:
                # A database that is away, a defect: the service goes on, the log tells.
                log.exception("planning failed; it is tried again in %.0f s", TICK_S)
            self._stopped.wait(max(GAP_S, 5 * (time.monotonic() - began)))
            self._wake.wait(TICK_S)

    def _reconcile(self) -> None:
        """What is this mover's and DBOS knows nothing of, has stopped, or has ended without a
        word."""
        with self.catalog.transaction() as c:
            mine = [Queued(run, "", self.id) for run, _, _ in runs.active(c, self.id)]
            ordered = failover_requests.unfinished(c, self.id)
        mine += [Queued(order, "", self.id, failover=True) for order in ordered]
        known = self.engine.known(mine) if mine else {}
        for run in mine:
            word = known.get(run.id)
            if word is None:
                self.engine.enqueue(run)
            elif run.id in self.mover.controls or run.id in self.driver.working:
                continue
            elif word == STOPPED and run.failover:
                self.engine.go_on(run)
            elif word in (*ENDED, STOPPED) and ordered.get(run.id) != "lost":
                self._give_up(run)

    def _give_up(self, run: Queued) -> None:
        reason = "it ended without a result; the log tells more"
        what, state = ("failover failed", "failed") if run.failover else ("run lost", "lost")
        with self.catalog.transaction() as c:
            job = runs.close_unreported(c, run.id, self.catalog.now(c), reason, state)
            if job is None:
                return
            self.catalog.note(c, self.id, what, job, run=run.id, error=reason)
        self.events(what, job, {"run": run.id, "error": reason})

    def _where(self) -> None:
        """Read every site's inventory now and then; a site that is away keeps what was known."""
        if time.monotonic() - self._places_at < PLACES_S:
            return
        sites: dict[str, SiteNow] = {}
        for name in self.config.sites():
            try:
                with connect(self.config.endpoint(name)) as session:
                    sites[name] = SiteNow(name, session.vm_locations(), session.hosts())
            except VReplicaError as error:
                log.warning("site %s: %s", name, error, extra={"site": name})
        found = {}
        for name in self.config:
            try:
                found[name] = (self.config[name], *self.config.sites_of(name))
            except VReplicaError as error:
                log.warning("job %s: %s", name, error, extra={"job": name})
        self._places |= all_holds(found, sites)
        with self.catalog.transaction() as c:
            jobs.register(c, found, self.catalog.now(c))
            projection.keep_offs(c, (job for job, *_ in found.values()))
        self._places_at = time.monotonic()

    def _renew(self) -> bool:
        with self.catalog.transaction() as c:
            there = movers.renew(c, self.id, self.catalog.now(c), self._ttl)
            self.watch.look(movers.leases(c))
        if self.watch.gone():
            self._wake.set()
        return there

    def _join(self) -> None:
        with self.catalog.transaction() as c:
            workers = self.config.service.runs_per_mover
            movers.join(c, self.id, workers, self.catalog.now(c), self._ttl)


def _only_one(path: Path, mover: str) -> TextIO:
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
