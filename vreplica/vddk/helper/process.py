"""Starts and ends the helper process, and passes its log lines on.

parent                                    helper
sock  ---- SOCK_SEQPACKET (messages.py) ----  fd of argv
thread vddk-log  <------- pipe ---------  stdout and stderr: "level|text" lines, and
                                          whatever else the library prints
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from vreplica.vddk.config import LEVELS
from vreplica.vddk.errors import HelperBroken

log = logging.getLogger("vreplica.vddk")

EXIT_S = 5.0
"""How long a helper may take to end once its disk is closed, before it is killed."""

# -I and -S: no user site, no .pth files, no PYTHON* variables. The helper needs this package's
# folder and the standard library only.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from vreplica.vddk.helper.main import main; main()"
)


class HelperProcess:
    """A helper process, with its socket and its log lines."""

    def __init__(self, library_folder: str) -> None:
        if not sys.executable:
            raise HelperBroken(path=library_folder, reason="there is no Python to start it with")
        self.sock, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        before = os.environ.get("LD_LIBRARY_PATH", "")
        search = f"{library_folder}:{before}" if before else library_folder
        root = str(Path(__file__).parents[3])
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, root, str(far.fileno()), before],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                pass_fds=(far.fileno(),),
                env={**os.environ, "LD_LIBRARY_PATH": search},
                # Ctrl-C in a terminal reaches the foreground group; the parent closes helpers.
                process_group=0,
            )
        except OSError as error:
            self.sock.close()
            os.close(reader)
            raise HelperBroken(path=library_folder, reason=str(error)) from None
        finally:
            far.close()
            os.close(writer)
        self.last: deque[str] = deque(maxlen=3)
        self._logger = threading.Thread(
            target=_pass_on, args=(reader, self.last), name="vddk-log", daemon=True
        )
        self._logger.start()

    def end(self, wait_s: float) -> int:
        """Closes the socket, waits for the exit, kills after that. Returns the exit status."""
        self.sock.close()
        if wait_s <= 0:
            self.process.kill()
        try:
            self.process.wait(wait_s or EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            # Bounded, since a process may be stuck in the kernel; init reaps it later.
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_S)
        self._logger.join(1.0)
        status = self.process.returncode
        return -signal.SIGKILL if status is None else status


_BY_NUMBER = {str(number): level for number, level in LEVELS.items()}


def _pass_on(reader: int, last: deque[str]) -> None:
    """Passes the helper's stderr to the logger, until every writer of the pipe is gone."""
    with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            level, mark, text = line.rstrip("\n").partition("|")
            if mark and level in _BY_NUMBER:
                last.append(text)
                log.log(_BY_NUMBER[level], "%s", text)
            else:
                log.info("helper: %s", line.rstrip("\n"))
