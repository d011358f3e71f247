"""Initialises one library in this process: logging, InitEx, connections.

`library` uses it in process and `helper.main` inside the helper; nothing here depends on which.
It keeps these rules of the VDDK 8.0 Programming Guide and of nbdkit's vddk plugin:

- InitEx once a process. Only the helper calls Exit, which is about to end anyway: the call was
  seen to crash at the end of long-lived processes.
- All three log callbacks are given, since the default logger is not thread-safe.
- ConnectParams comes from AllocateConnectParams where the library has it (6.7 and later). Pointers
  that are ours are set to NULL before FreeConnectParams, and their strings live until after
  Disconnect.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from ctypes import byref, c_char_p, c_void_p
from typing import TYPE_CHECKING, Any

from vreplica.vddk import abi
from vreplica.vddk.binding import Api, CallFailed, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG, WARN, PANIC = 0, 1, 2
Emit = Callable[[int, str], None]
"""(LOG | WARN | PANIC, one line without newline)"""

_LINE_MAX = 4096
_RECENT = 40
_DETAIL_LINES = 6
_DETAIL_MAX = 2000
_HIDDEN = "<hidden>"


class LogTap:
    """Takes the library's log lines: formats them, hides secrets, passes them on, keeps the last.

    The callbacks come on any thread of the library.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._secrets: list[str] = []
        self._recent: deque[tuple[int, str]] = deque(maxlen=_RECENT)
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_void_p, ctypes.c_size_t, c_void_p, c_void_p)
        self.callbacks = tuple(abi.LogFunc(self._callback(level)) for level in (LOG, WARN, PANIC))

    def hide(self, *secrets: str | None) -> None:
        """Hides these texts in every later line."""
        self._secrets += [s for s in secrets if s and s not in self._secrets]

    def redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def forget(self) -> None:
        """Forgets the lines so far: a new call starts, and they do not explain it."""
        self._recent.clear()

    def warnings(self) -> list[str]:
        """Returns the warnings and panics since `forget`."""
        return [text for level, text in list(self._recent) if level > LOG]

    def detail(self, before: Sequence[str] = ()) -> str:
        """Returns the lines that explain an error: `before` and warnings, else the last lines."""
        lines = [*before, *self.warnings()] or [text for _, text in list(self._recent)]
        # Requests in flight fail together, each with the same line.
        text = "; ".join(list(dict.fromkeys(lines))[-_DETAIL_LINES:])
        return text if len(text) <= _DETAIL_MAX else "..." + text[-_DETAIL_MAX:]

    def _callback(self, level: int) -> Callable[[int, int], None]:
        def log(fmt: int, arguments: int) -> None:
            # An exception cannot leave a callback, and a lost log line must not fail a disk.
            with suppress(Exception):
                buffer = ctypes.create_string_buffer(_LINE_MAX)
                self._vsnprintf(buffer, _LINE_MAX, fmt, arguments)
                text = self.redact(buffer.value.decode("utf-8", "replace").rstrip())
                if text:
                    self._recent.append((level, text))
                    self._emit(level, text)

        return log


class VddkSession:
    """An initialised library (InitEx is done). One for each library file and process.

    lib_root: the folder that holds lib64/, where the library finds its transport plugins.
    major: the N of libvixDiskLib.so.N.
    """

    def __init__(
        self, library: str, lib_root: str, major: int, config_file: str | None, emit: Emit
    ) -> None:
        self.major = major
        self.api = Api(library)
        self.tap = LogTap(emit)
        with self.adding_log():
            self.api.InitEx(
                *abi.INIT_VERSION,
                *self.tap.callbacks,
                encoded(lib_root),
                encoded(config_file) if config_file else None,
            )

    @contextmanager
    def adding_log(self, before: Sequence[str] = ()) -> Iterator[None]:
        """Adds to a CallFailed the lines that the library logged meanwhile, after `before`."""
        self.tap.forget()
        try:
            yield
        except CallFailed as failed:
            failed.text = self.tap.redact(failed.text)
            failed.detail = failed.detail or self.tap.detail(before)
            raise


class ConnectionHandle:
    """A connection of the library: ConnectParams, ConnectEx, Disconnect.

    target: the fields of VddkConnection as plain values, since it comes over a socket. A server
    of None means local files.
    """

    def __init__(
        self,
        session: VddkSession,
        target: dict[str, Any],
        *,
        read_only: bool,
        transport_modes: str | None = None,
    ) -> None:
        self.session = session
        self.handle: int | None = None
        self.params = ConnectArguments(session, target)
        remote = target.get("server") is not None
        out = c_void_p()
        try:
            with session.adding_log():
                session.api.ConnectEx(
                    self.params.pointer,
                    read_only,
                    _optional(target.get("snapshot_ref")) if remote else None,
                    _optional(transport_modes) if remote else None,
                    byref(out),
                )
        except BaseException:
            self.params.free()
            raise
        self.handle = out.value
        self.warnings = session.tap.warnings()
        """ConnectEx logs a certificate that does not match; Open then refuses it."""

    def close(self) -> None:
        """Disconnects. May be called again."""
        handle, self.handle = self.handle, None
        if handle is None:
            return
        try:
            with self.session.adding_log():
                self.session.api.Disconnect(handle)
        finally:
            self.params.free()


class ConnectArguments:
    """A filled ConnectParams, and the strings that it points to."""

    def __init__(self, session: VddkSession, target: dict[str, Any]) -> None:
        self._api = session.api
        self._kept: list[ctypes.Array[ctypes.c_char]] = []
        self._allocated = False
        session.tap.hide(target.get("password"), target.get("cookie"))
        address = (
            session.api.AllocateConnectParams()
            if session.api.has("AllocateConnectParams")
            else None
        )
        if address:
            self._allocated = True
            self._struct = abi.ConnectParams.from_address(address)
        else:
            # Libraries before 6.7 cannot allocate it; they read the first 80 bytes only.
            self._struct = abi.ConnectParams()
        self.pointer = ctypes.pointer(self._struct)
        if target.get("server") is not None:
            self._fill(target)

    def free(self) -> None:
        """Sets our pointers to NULL, gives the struct back, and wipes the strings."""
        struct = self._struct
        for field in ("vmxSpec", "serverName", "thumbPrint"):
            setattr(struct, field, None)
        struct.creds = abi.Creds()
        if self._allocated:
            self._allocated = False
            self._api.FreeConnectParams(self.pointer)
            self._struct = abi.ConnectParams()
        for buffer in self._kept:
            ctypes.memset(buffer, 0, len(buffer))
        self._kept.clear()

    def _fill(self, target: dict[str, Any]) -> None:
        struct = self._struct
        struct.vmxSpec = self._keep(target.get("vmx_spec"))
        struct.serverName = self._keep(target["server"])
        struct.thumbPrint = self._keep(target.get("thumbprint_sha1"))
        struct.port = target.get("port") or 0
        # A NULL user or password on a remote connection crashes some versions.
        if target.get("cookie"):
            struct.credType = abi.CRED_SESSION_ID
            struct.creds.sessionId.cookie = self._keep(target["cookie"])
            struct.creds.sessionId.userName = self._keep(target.get("user") or "")
            struct.creds.sessionId.key = self._keep(target.get("password") or "")
        else:
            struct.credType = abi.CRED_UID
            struct.creds.uid.userName = self._keep(target.get("user") or "")
            struct.creds.uid.password = self._keep(target.get("password") or "")
        if self._allocated:
            struct.specType = abi.SPEC_VMX

    def _keep(self, text: str | None) -> c_char_p | None:
        if text is None:
            return None
        buffer = ctypes.create_string_buffer(encoded(text))
        self._kept.append(buffer)
        return ctypes.cast(buffer, c_char_p)


def run_access(session: VddkSession, call: str, target: dict[str, Any], identity: str) -> None:
    """Calls PrepareForAccess or EndAccess, which need a server and no connection to it."""
    arguments = ConnectArguments(session, target)
    try:
        with session.adding_log():
            getattr(session.api, call)(arguments.pointer, encoded(identity))
    finally:
        arguments.free()


def _optional(text: str | None) -> bytes | None:
    return None if text is None else encoded(text)
