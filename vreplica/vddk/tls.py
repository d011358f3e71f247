"""TLS of the native library: it loads OpenSSL 3 while it runs, so a machine may lack it."""

from __future__ import annotations

import ctypes
from pathlib import Path


def tls_problem(library: Path) -> str | None:
    """What keeps a native library from reaching hosts, with the remedy. None: nothing.

    Also None for VMware's libraries, which bring their own OpenSSL. Loads the library.
    """
    try:
        status = ctypes.CDLL(str(library)).vreplica_TlsStatus
    except AttributeError:
        return None
    except OSError as error:
        return f"{library} cannot be loaded: {error}"
    status.restype = ctypes.c_uint64
    text = ctypes.c_char_p()
    if status(ctypes.byref(text)) == 0:
        return None
    return (text.value or b"").decode("utf-8", "replace")
