"""Sessions of API clients, and the call that a thread answers.

Sessions are in memory only: a vCenter loses them when it restarts, together with the objects of
each session (its PropertyCollector, filters, views).
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
from vreplica.lab.api.vmodl import NEWEST, fault, vim
from vreplica.lab.context import SiteContext

OPEN_METHODS = frozenset({"RetrieveServiceContent", "Login", "Fetch", "RetrieveInternalContent"})
"""Methods that need no login. `Fetch` is open for OPEN_PROPERTIES only."""

OPEN_PROPERTIES = frozenset({("ServiceInstance", "content"), ("SessionManager", "currentSession")})


@dataclass
class ApiSession:
    """A client that is logged in. `key` is the value of its cookie."""

    key: str
    user: str
    login_time: datetime
    agent: str = ""
    address: str = ""
    last_active: float = field(default_factory=time.time)
    calls: int = 0
    objects: dict[str, Any] = field(default_factory=dict, repr=False)
    """Objects that only this session has, by id."""

    def touch(self) -> None:
        self.last_active = time.time()
        self.calls += 1


class ApiSessions:
    """The sessions of a site."""

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self._lock = threading.Lock()
        self.by_key: dict[str, ApiSession] = {}

    def open(self, user: str, agent: str, address: str) -> ApiSession:
        session = ApiSession(secrets.token_hex(20), user, self.site.now(), agent, address)
        collector = PropertyCollector(self.site, "propertyCollector")
        session.objects["propertyCollector"] = collector.attach(session.objects)
        with self._lock:
            self.by_key[session.key] = session
        return session

    def find(self, key: str | None) -> ApiSession | None:
        """The session with this cookie. None: unknown, or idle for too long."""
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

    def close_all(self) -> None:
        """Ends all sessions, as a restart of vCenter does."""
        for key in list(self.by_key):
            self.close(key)


@dataclass
class Call:
    """The caller of one request: a `soap.RequestContext`."""

    site: SiteContext
    session: ApiSession | None = None
    version: Any = NEWEST
    agent: str = ""
    address: str = ""
    cookie: str | None = None
    """Set by Login, and then sent to the client."""

    @property
    def user(self) -> str:
        return self.session.user if self.session else ""

    def require_login(self, method: str) -> None:
        if self.session is None and method not in OPEN_METHODS:
            raise self.not_authenticated()

    def lookup(self, moid: str, kind: Any) -> Any:
        if self.session is not None:
            own = self.session.objects.get(moid)
            if own is not None and isinstance(own, kind):
                return own
            # One that has ended meanwhile has lost its own objects.
            self.require_session()
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
        """The objects that only this session has. Raises NotAuthenticated."""
        if self.session is None:
            raise self.not_authenticated()
        return self.session.objects

    def require_session(self) -> None:
        """For calls that wait: raises NotAuthenticated once the session has ended."""
        if self.session is not None and self.session.key not in self.site.sessions.by_key:
            raise self.not_authenticated()


class CurrentCall:
    """Keeps, for each thread, the call that it answers."""

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
