"""Brings the catalog up to what this machine and the destinations have, when a mover starts.

    <job>/by-hand.jsonl                  --> what commands did without a catalog
    replica of a job that is not known   --> its points, and the failover that has booted it

A catalog that is new, or rebuilt, knows no points. Without them every job would look as if it had
none, and be late. A destination that is away is asked again every minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from vreplica.config import Config
from vreplica.errors import VReplicaError
from vreplica.failover.live import booted_by
from vreplica.service.catalog import jobs, projection
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.sync.errors import PointIsNewer
from vreplica.sync.replica.state import find_replica
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import Session, connect

log = logging.getLogger("vreplica.service")

AGAIN_S: Final = 60.0


@dataclass(slots=True)
class CatchUp:
    """The work of one thread of a mover."""

    config: Config
    catalog: Catalog
    stopped: Event = field(default_factory=Event)
    connect: Callable[[Endpoint], Session] = connect
    _said: set[str] = field(default_factory=set)

    def work(self) -> None:
        """Until `stopped`. Raises nothing."""
        while not self.stopped.is_set():
            try:
                self.once()
            except CatalogAway as error:
                self._say("catalog", f"the catalog does not answer: {error}")
            except Exception:
                log.exception("cannot bring the catalog up to date")
            self.stopped.wait(AGAIN_S)

    def once(self) -> None:
        """Takes in what commands did, and asks for what is not known."""
        for name in self.config:
            projection.take_in(self.catalog, self.config.state_dir / name)
        with self.catalog.transaction() as c:
            wanted = dict.fromkeys(jobs.unasked(c, self.config))
            wanted |= dict.fromkeys(n for n in projection.seen_booted(c) if n in self.config)
        by_site: dict[str, list[str]] = {}
        for name in wanted:
            by_site.setdefault(self.config.sites_of(name)[1], []).append(name)
        for site, names in by_site.items():
            self._ask(site, names)

    def _ask(self, site: str, names: Iterable[str]) -> None:
        try:
            with self.connect(self.config.endpoint(site)) as session:
                for name in names:
                    if self.stopped.is_set():
                        return
                    self._ask_for(session, name)
        except VReplicaError as error:
            self._say(site, f"site {site} cannot say which points there are: {error}")

    def _ask_for(self, session: Session, name: str) -> None:
        try:
            replica = find_replica(session, self.config[name])
            for newer in replica.newer if replica is not None else ():
                raise PointIsNewer(name, newer)
        except VReplicaError as error:
            self._say(name, f"the points of job {name} are not known: {error}")
            return
        points = replica.points if replica is not None else ()
        if projection.write_points_if_unknown(self.catalog, name, points):
            log.info("job %s has %d points at its destination", name, len(points))
        booted = booted_by(replica.vm) if replica is not None else None
        projection.write_booted(self.catalog, name, booted)

    def _say(self, about: str, text: str) -> None:
        """Once about each site and job."""
        level = logging.DEBUG if about in self._said else logging.WARNING
        self._said.add(about)
        log.log(level, "%s", text)
