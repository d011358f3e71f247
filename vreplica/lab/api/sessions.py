"""Who is calling: sessions, and one call in the middle of being answered.

Sessions are memory: a vCenter that restarts has forgotten them, with what belongs to each alone
(its PropertyCollector, filters, views).
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vreplica.lab.api.collector import PropertyCollector
from vreplica.lab.api.vmodl import NEWEST, fault, now, vim
from vreplica.lab.context import SiteContext

OPEN_METHODS = frozenset({"RetrieveServiceContent", "Login", "Fetch", "RetrieveInternalContent"})
"""Callable before a login; `Fetch` for the two properties in OPEN_PROPERTIES only."""

OPEN_PROPERTIES = frozenset({("ServiceInstance", "content"), ("SessionManager", "currentSession")})


@dataclass
class Session:
    """A login. `key` is also the cookie's value."""

    key: str
    user: str
    login_time: datetime
    agent: str = ""
    address: str = ""
    last_active: float = field(default_factory=time.time)
    calls: int = 0
    objects: dict[str, Any] = field(default_factory=dict, repr=False)
    """What only this session sees, by id."""

    def touch(self) -> None:
        self.last_active = time.time()
        self.calls += 1


class Sessions:
    """All sessions of a site."""

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self._lock = threading.Lock()
        self.by_key: dict[str, Session] = {}

    def open(self, user: str, agent: str, address: str) -> Session:
        session = Session(secrets.token_hex(20), user, now(), agent, address)
        collector = PropertyCollector(self.site, "propertyCollector")
        session.objects["propertyCollector"] = collector.attach(session.objects)
        with self._lock:
            self.by_key[session.key] = session
        return session

    def find(self, key: str | None) -> Session | None:
        """The session with this cookie, unless it has been idle for too long."""
        session = self.by_key.get(key or "")
        if session is None:
            return None
        if time.time() - session.last_active > self.site.settings.session_idle_s:
            self.close(session.key)
            return None
        return session

    def close(self, key: str) -> None:
        with self._lock:
            session = self.by_key.pop(key, None)
        if session is not None:
            session.objects["propertyCollector"].CancelWaitForUpdates()
            session.objects.clear()

    def end(self) -> None:
        """All of them."""
        for key in list(self.by_key):
            self.close(key)


@dataclass
class Call:
    """One request: the context in which its references are resolved (soap.Context)."""

    site: SiteContext
    session: Session | None = None
    version: Any = NEWEST
    agent: str = ""
    address: str = ""
    cookie: str | None = None
    """Set by Login: to be sent to the client."""

    @property
    def user(self) -> str:
        return self.session.user if self.session else ""

    def admit(self, method: str) -> None:
        if self.session is None and method not in OPEN_METHODS:
            raise self.not_authenticated()

    def lookup(self, moid: str, kind: Any) -> Any:
        if self.session is not None:
            own = self.session.objects.get(moid)
            if own is not None and isinstance(own, kind):
                return own
        return self.site.lookup(moid, kind)

    def not_authenticated(self) -> Any:
        return fault(
            vim.fault.NotAuthenticated,
            "The session is not authenticated.",
            object=self.site.root_folder,
            privilegeId="System.View",
        )

    @property
    def objects(self) -> dict[str, Any]:
        """The objects that only this session sees."""
        if self.session is None:
            raise self.not_authenticated()
        return self.session.objects

    def check_alive(self) -> None:
        """For calls that wait: raises where the session has ended meanwhile."""
        if self.session is not None and self.session.key not in self.site.sessions.by_key:
            raise self.not_authenticated()


class Current:
    """The call that the running thread answers."""

    def __init__(self, site: SiteContext) -> None:
        self._local = threading.local()
        self._nobody = Call(site)

    def get(self) -> Call:
        return getattr(self._local, "call", self._nobody)

    @contextlib.contextmanager
    def answering(self, call: Call) -> Iterator[None]:
        before = getattr(self._local, "call", self._nobody)
        self._local.call = call
        try:
            yield
        finally:
            self._local.call = before
