"""Carries calls to one vCenter or ESXi host: logs in, logs in again, maps errors.

    ask    changes nothing. It is sent once more where its connection breaks.
    call   changes something. It is sent once. After a pause, a harmless request just before it
           finds a pooled connection that the server has closed, so that the call does not fail on
           that.

NotAuthenticated means that the server has done nothing, so both log in again and repeat. No call
waits at the server for long, so the limit of an answer's time cuts nothing short.

An answer is input from elsewhere: its time and its size are limited (`limited_http`), and one that
cannot be read, or has other types than the API declares (`fit`), is a BadReply.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from http.client import HTTPException
from socket import gaierror
from typing import Any, Final
from xml.etree import ElementTree as ET

from vreplica.redact import hide, remember
from vreplica.vsphere.connection import fit
from vreplica.vsphere.connection.certificate import (
    PinnedConnection,
    fetch_certificate,
    normal_sha256,
    pinned_context,
    reason_of,
    require_pin,
    sha1_of,
)
from vreplica.vsphere.connection.faults import CallContext, fault_text, to_error
from vreplica.vsphere.connection.look import Look
from vreplica.vsphere.connection.vmomi import pyvmomi, support, utc, vim, vmodl
from vreplica.vsphere.errors import (
    BadReply,
    HostUnreachable,
    LoginFailed,
    NotVSphere,
    OutcomeUnknown,
    SessionLost,
)
from vreplica.vsphere.model import Endpoint

BROKEN = (OSError, HTTPException)
"""Failures of a connection: sockets, TLS, and HTTP without an answer (503, cut short)."""

REASON_CHARS = 300
"""Of what a reader says about an answer: it may repeat all of it."""

NEVER_SENT = (ConnectionRefusedError, gaierror)

FRESH_S: Final = 5.0
"""So long after an answer no server has closed the connection that brought it."""


def boot_time_s() -> float:
    """Seconds since this machine was started, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ServerLink:
    """A logged-in link to one server. Several threads may use it."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, reply_timeout_s: float) -> None:
        """Compares the certificate with its pin, connects and logs in.

        timeout_s: for connecting. reply_timeout_s: for one answer.
        """
        self.endpoint = endpoint
        # Also one that came from a program and not from a job file.
        remember(endpoint.password)
        self.timeout_s = timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._lock = threading.Lock()
        self._logins = 0
        self._answered_s = -FRESH_S
        self._clock: tuple[datetime, float] | None = None
        """The server's time at the last login, and ours then."""
        self.started: list[str] = []
        """Keys of the tasks that were started over this link; `take_started_tasks` empties it."""
        self.host_names: dict[str, str] = {}
        self.look: Look | None = None
        """Values that are read once for several jobs (look.py); None: all are read anew."""
        host, port = endpoint.host, endpoint.port
        pin = normal_sha256(endpoint.sha256)
        der = fetch_certificate(host, port, timeout_s=timeout_s)
        require_pin(host, der, pin)
        self.thumbprint_sha1 = sha1_of(der)
        self._context = pinned_context(der)
        # A class, not an object: pyVmomi makes its connections itself, with its own arguments.
        self._scheme = type(
            "SessionConnection",
            (PinnedConnection,),
            {"pin": pin, "reply_timeout_s": reply_timeout_s},
        )
        self._stub: Any = pyvmomi.SoapStubAdapter(
            host=host,
            port=port,
            version=self._service_version(),
            sslContext=self._context,
            httpConnectionTimeout=timeout_s,
            # gzip is unpacked, and counted, by LimitedResponse.
            acceptCompressedResponses=False,
            customHeaders={"Accept-Encoding": "gzip"},
        )
        self._stub.scheme = self._scheme
        self._stub.InvokeMethod = fit.checked(self._stub.InvokeMethod)
        service = vim.ServiceInstance("ServiceInstance", self._stub)
        try:
            operation = "reading the service content"
            self.content: Any = self.ask(operation, service.RetrieveContent)
            self._login(0)
        except BaseException:
            self._stub.DropConnections()
            raise

    def __repr__(self) -> str:
        return f"<ServerLink {self.endpoint.user} at {self.endpoint.host}:{self.endpoint.port}>"

    # -- calls --------------------------------------------------------------------------------

    def managed(self, kind: Any, moref: str) -> Any:
        """Returns the managed object with this id. Nothing is sent."""
        return kind(moref, self._stub)

    def ask(
        self,
        operation: str,
        method: Callable[..., Any],
        *arguments: Any,
        vm: str | None = None,
        unmapped: tuple[Any, ...] = (),
        expects_answer: bool = True,
        repeatable: bool = True,
    ) -> Any:
        """Makes a call that changes nothing. Faults of the classes in `unmapped` are raised as
        they are.

        expects_answer: the call returns something, so that an empty answer is a BadReply.
        repeatable: False for the next page of a result, which the server gives out once.
        """
        answer = self._run(
            operation, lambda: method(*arguments), 2 if repeatable else 1, vm, unmapped
        )
        return self._require_answer(operation, answer, vm) if expects_answer else answer

    def call(
        self,
        operation: str,
        method: Callable[..., Any],
        *arguments: Any,
        vm: str | None = None,
        unmapped: tuple[Any, ...] = (),
        expects_answer: bool = True,
    ) -> Any:
        """Makes a call that changes something. It is sent once.

        A connection that has not been used for a while is tried by a harmless call before.
        Raises OutcomeUnknown where the connection breaks after it was sent.
        """
        service = vim.ServiceInstance("ServiceInstance", self._stub)
        if boot_time_s() - self._answered_s > FRESH_S:
            self.ask(operation, service.CurrentTime, vm=vm)
        try:
            answer = self._run(operation, lambda: method(*arguments), 1, vm, unmapped)
            return self._require_answer(operation, answer, vm) if expects_answer else answer
        except HostUnreachable as error:
            if isinstance(error.__cause__, NEVER_SENT):
                raise
            host, port = self.endpoint.host, self.endpoint.port
            unknown = OutcomeUnknown(host, port, error.reason, operation)
            raise unknown.at(vm=vm) from error.__cause__

    def download(self, operation: str, path: str, limit: int) -> tuple[int, bytes]:
        """Returns (HTTP status, at most `limit` bytes) of a GET with this session's cookie."""
        return self.transfer(operation, "GET", path, limit)

    def transfer(
        self, operation: str, method: str, path: str, limit: int, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Returns (HTTP status, at most `limit` bytes) of a request with this session's cookie.

        A harmless call before it renews a session that has ended: the GET would answer 401.
        """
        self.ask(operation, vim.ServiceInstance("ServiceInstance", self._stub).CurrentTime)
        host, port = self.endpoint.host, self.endpoint.port
        connection = self._scheme(host, port, timeout=self.timeout_s, context=self._context)
        cookie = f'vmware_soap_session="{self._stub.GetSessionId()}"'
        try:
            connection.request(method, path, body, {"Cookie": cookie})
            response = connection.getresponse()
            return response.status, response.read(limit)
        except BROKEN as error:
            raise self._broken(error) from error
        finally:
            connection.close()

    def context(self, operation: str, vm: str | None = None) -> CallContext:
        return CallContext(operation, self.endpoint.host, self.endpoint.user, vm)

    def server_time(self) -> datetime | None:
        """The server's clock, from its time at the last login; None where it told none."""
        if self._clock is None:
            return None
        at, then_s = self._clock
        return at + timedelta(seconds=boot_time_s() - then_s)

    def close(self) -> None:
        """Logs out where that is possible.

        Never raises, also for a server that is gone or that shows another certificate by now.
        """
        with suppress(Exception):
            self.content.sessionManager.Logout()
        self._stub.DropConnections()

    # -- inside -------------------------------------------------------------------------------

    def _require_answer(self, operation: str, answer: Any, vm: str | None) -> Any:
        """Raises BadReply for an empty answer: pyVmomi reads a proxy's HTML page as one."""
        if answer is None:
            raise BadReply(self.endpoint.host, operation, "it is empty").at(vm=vm)
        return answer

    def _run(
        self,
        operation: str,
        send: Callable[[], Any],
        sends: int,
        vm: str | None = None,
        unmapped: tuple[Any, ...] = (),
    ) -> Any:
        """Sends at most `sends` times over broken connections, and once more after a login."""
        relogins = 0
        while True:
            logins = self._logins
            try:
                answer = send()
                self._answered_s = boot_time_s()
                return answer
            except vim.fault.NotAuthenticated as fault:
                if relogins:
                    raise SessionLost(self.endpoint.host).at(vm=vm) from fault
                relogins += 1
                self._login(logins)
            except unmapped:
                raise
            except vmodl.MethodFault as fault:
                raise to_error(fault, self.context(operation, vm)) from fault
            except BROKEN as error:
                self._answered_s = -FRESH_S
                sends -= 1
                # A server that did not answer within the timeout is not asked again.
                if sends <= 0 or isinstance(error, TimeoutError):
                    raise self._broken(error).at(vm=vm) from error
            except fit.Unreadable as error:
                raise self._unreadable(operation, error).at(vm=vm) from error

    def _broken(self, error: BaseException) -> HostUnreachable:
        reason = hide(reason_of(error, self._reply_timeout_s))
        error = HostUnreachable(self.endpoint.host, self.endpoint.port, reason)
        error.site = self.endpoint.site
        return error

    def _unreadable(self, operation: str, error: Exception) -> BadReply:
        reason = hide(str(error)) or type(error).__name__
        return BadReply(self.endpoint.host, operation, reason[:REASON_CHARS])

    def _login(self, seen: int) -> None:
        """Logs in, unless another thread has done so since `seen` logins."""
        with self._lock:
            if self._logins != seen:
                return
            # With the dead session's cookie some servers answer "already logged in".
            self._stub.SetSessionId(None)
            user, password = self.endpoint.user, self.endpoint.password
            try:
                session = self.content.sessionManager.Login(user, password, None)
                at = getattr(session, "loginTime", None)
                self._clock = (utc(at), boot_time_s()) if at is not None else None
            except vim.fault.InvalidLogin as fault:
                expired = isinstance(fault, vim.fault.PasswordExpired)
                reason = "the password has expired" if expired else "user name or password is wrong"
                raise LoginFailed(self.endpoint.host, user, reason) from None
            except vim.fault.NotAuthenticated as fault:
                raise SessionLost(self.endpoint.host) from fault
            except vim.fault.NoPermission:
                reason = "the user has no permission in this inventory"
                raise LoginFailed(self.endpoint.host, user, reason) from None
            except vmodl.MethodFault as fault:
                raise LoginFailed(self.endpoint.host, user, fault_text(fault)) from None
            except BROKEN as error:
                raise self._broken(error) from error
            except Exception as error:
                # Without its cause: what it could not read may repeat the password.
                raise self._unreadable("logging in", error) from None
            self._logins += 1

    def _service_version(self) -> str:
        """Returns the newest API version that both server and pyVmomi know."""
        host, port = self.endpoint.host, self.endpoint.port
        connection = self._scheme(host, port, timeout=self.timeout_s, context=self._context)
        try:
            connection.request("GET", "/sdk/vimServiceVersions.xml")
            response = connection.getresponse()
            body, status = response.read(), response.status
        except BROKEN as error:
            raise HostUnreachable(host, port, reason_of(error, self.timeout_s)) from error
        except ValueError as error:
            raise NotVSphere(host, port, f"the list of API versions: {error}") from error
        finally:
            connection.close()
        if status == 503:
            raise HostUnreachable(host, port, "its services are not up yet (HTTP 503)")
        if status != 200:
            raise NotVSphere(host, port, f"HTTP {status} for the list of API versions")
        try:
            # The server's identity has been established by its pin.
            root = ET.fromstring(body)  # noqa: S314
        except (ET.ParseError, ValueError, LookupError):
            raise NotVSphere(host, port, "the list of API versions is not XML") from None
        offered = {e.text for e in root.iter("version")}
        for version in support.GetServiceVersions("vim25"):
            if support.versionIdMap[version] in offered:
                return str(version)
        raise NotVSphere(host, port, "it offers no API version that this program knows")
