"""TLS of the native library: it loads OpenSSL 3 while it runs, so a machine may lack it."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

# A process of its own: a library may crash, and it stays mapped where it was loaded once.
_ASK: Final = """
import ctypes, sys
text = ctypes.c_char_p()
try:
    status = ctypes.CDLL(sys.argv[1]).vreplica_TlsStatus
except AttributeError:
    sys.exit()
except OSError as error:
    print(f"{sys.argv[1]} cannot be loaded: {error}")
    sys.exit()
status.restype = ctypes.c_uint64
if status(ctypes.byref(text)) != 0:
    print((text.value or b"").decode("utf-8", "replace"))
"""


@cache
def tls_problem(library: Path) -> str | None:
    """The problem that keeps a library from reaching hosts, with the remedy. None: there is none.

    Also None for VMware's libraries, which bring their own OpenSSL. Asked once in this process.
    """
    asked = [sys.executable, "-I", "-S", "-c", _ASK, str(library)]
    told = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False)
    if told.returncode:
        return f"{library} cannot be loaded: it ended its process ({told.returncode})"
    return told.stdout.strip() or None
