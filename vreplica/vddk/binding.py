"""Loads a libvixDiskLib and turns the table of `abi` into checked Python callables.

`Api(path).Open(...)` calls VixDiskLib_Open and raises CallFailed where its result is not what
the table says it must be. The library is loaded with RTLD_NOW and with the GIL released during
calls (CDLL): with PyDLL a blocking Wait would deadlock against its own completion callbacks.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

from vreplica.vddk import abi
from vreplica.vddk.abi import Function, Result

NOT_SUPPORTED = 6


class CallFailed(Exception):
    """A function of the library returned an error.

    The helper process can load it quickly; `vreplica.vddk.errors` makes the error for people.
    detail: what the library logged meanwhile, without secrets. sector: start of the piece that
    failed, where a transfer failed.
    """

    def __init__(self, call: str, code: int, text: str, detail: str = "") -> None:
        super().__init__(call, code, text, detail)
        self.call = call
        self.code = code
        self.text = text
        self.detail = detail
        self.sector: int | None = None


class LoadFailed(Exception):
    """The file cannot be loaded (`missing` is empty), or lacks required functions."""

    def __init__(self, path: str, reason: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(path, reason, missing)
        self.path = path
        self.reason = reason
        self.missing = missing


class Api:
    """One loaded library. Attributes are the rows of `abi.REQUIRED` and `abi.OPTIONAL`."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._lib = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
        except OSError as error:
            raise LoadFailed(path, str(error)) from None
        missing = tuple(f.name for f in abi.REQUIRED if not self._bind(f))
        if missing:
            raise LoadFailed(path, "required functions are missing", missing)
        self.present = frozenset(f.name for f in abi.OPTIONAL if self._bind(f))
        for function in abi.OPTIONAL:
            if function.name not in self.present:
                setattr(self, function.name, _absent(function.name))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)

    def has(self, *names: str) -> bool:
        """True where the library has all of these optional functions."""
        return self.present.issuperset(names)

    def error_text(self, error: int) -> str:
        """Returns the library's text for an error; English, without the trailing newline."""
        address = self.GetErrorText(error, None)
        if not address:
            return "unknown error"
        try:
            return ctypes.string_at(address).decode("utf-8", "replace").strip()
        finally:
            self.FreeErrorText(address)

    def _bind(self, function: Function) -> bool:
        try:
            symbol = self._lib[function.prefix + function.name]
        except AttributeError:
            return False
        symbol.argtypes = function.arguments
        symbol.restype = function.restype
        checker = self._checker(function)
        if checker is not None:
            symbol.errcheck = checker
        setattr(self, function.name, symbol)
        return True

    def _checker(self, function: Function) -> Callable[[Any, Any, Any], Any] | None:
        """Returns the `errcheck` of a function, which ctypes runs on its result."""
        if function.result is Result.STATUS:
            return self._status(function.name, abi.OK)
        if function.result is Result.QUEUED:
            return self._status(function.name, abi.ASYNC)
        if function.result is Result.TEXT:
            return _text
        return None

    def _status(self, name: str, expected: int) -> Callable[[int, Any, Any], None]:
        def check(result: int, _function: Any, _arguments: Any) -> None:
            if result != expected:
                raise CallFailed(name, abi.code_of(result), self.error_text(result))

        return check


def encoded(text: str) -> bytes:
    """Encodes a text for a `const char *` as UTF-8; file names that are not UTF-8 keep their bytes.

    Raises ValueError for a text with a NUL, which would cut it short in C. The message does not
    show the text, since passwords pass here too.
    """
    if "\0" in text:
        raise ValueError("a NUL in a text for VixDiskLib")
    return text.encode("utf-8", "surrogateescape")


def _text(result: bytes | None, _function: Any, _arguments: Any) -> str:
    return (result or b"").decode("utf-8", "replace")


def _absent(name: str) -> Callable[..., Any]:
    def fail(*_arguments: Any) -> None:
        raise CallFailed(name, NOT_SUPPORTED, "this library does not have the function")

    return fail
