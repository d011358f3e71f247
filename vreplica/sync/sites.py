"""Holds the sessions to both sites while a job is worked on, or several jobs of one command.

with SiteSessions(one_look=True) as sessions:      one login and one look at each site
    for job in jobs:
        with Sites.open(job, sessions) as sites: ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Self

from vreplica.errors import VSphereError
from vreplica.sync.errors import SiteNotTried
from vreplica.sync.job import Job
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import Session, connect

CONNECT_S: Final = 30.0
REST_S: Final = 60.0
"""A site that could not be entered is not tried again for this time: each try may take the whole
time-out, and vCenter locks an account after several wrong passwords."""


class SiteSessions:
    """The sessions of one command, each opened when the first job needs it. For one thread.

    `one_look`: what is read of a site's places serves all jobs, see `Session.one_look`.
    `timeout_s`: for connecting to a site.
    """

    def __init__(self, *, one_look: bool = False, timeout_s: float = CONNECT_S) -> None:
        self._one_look, self._timeout_s = one_look, timeout_s
        self._stack = ExitStack()
        self._open: dict[Endpoint, Session] = {}
        self._failed: dict[Endpoint, tuple[float, VSphereError]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def session(self, endpoint: Endpoint) -> Session:
        """Raises what `connect` raises; SiteNotTried where that failed a moment ago."""
        if endpoint in self._open:
            return self._open[endpoint]
        at, error = self._failed.get(endpoint, (float("-inf"), None))
        if error is not None and time.monotonic() - at < REST_S:
            raise SiteNotTried(host=endpoint.host, reason=error.message)
        try:
            session = self._stack.enter_context(connect(endpoint, timeout_s=self._timeout_s))
        except VSphereError as failed:
            self._failed[endpoint] = time.monotonic(), failed
            raise
        if self._one_look:
            self._stack.enter_context(session.one_look())
        self._open[endpoint] = session
        return session


@dataclass(slots=True)
class Sites:
    """The two open sessions of a run; a context manager."""

    source: Session
    destination: Session
    _stack: ExitStack

    @classmethod
    def open(cls, job: Job, sessions: SiteSessions | None = None) -> Sites:
        """`sessions`: those of the command; without them the sites' own, closed at the end."""
        with ExitStack() as stack:
            shared = sessions or stack.enter_context(SiteSessions())
            source = shared.session(job.source)
            return cls(source, shared.session(job.destination), stack.pop_all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Inside, both sites' inventories are read once: see `Session.one_look`."""
        with self.source.one_look(), self.destination.one_look():
            yield
