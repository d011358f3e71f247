"""Names a process so that another one on the same machine can tell whether it is gone."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


def this_process() -> str:
    """This process: `BOOT/NAMESPACE/PID/START`; "" where the system has no such names.

    A process id is used again, so its start is part of the name. Containers of one machine count
    their processes separately, so the namespace is as well.
    """
    return _named(os.getpid(), _process_space())


def is_gone(process: str) -> bool:
    """True where the process is known to have ended.

    False where it is alive, and where nothing can be known: another machine, another container,
    a machine that was started anew under another id.
    """
    space, _, rest = process.rpartition("/")
    space, _, pid = space.rpartition("/")
    if not space or space != _process_space() or not pid.isdigit():
        return False
    return _start_of(int(pid)) != rest


def _named(pid: int, space: str) -> str:
    start = _start_of(pid)
    return f"{space}/{pid}/{start}" if space and start else ""


@cache
def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process_space() -> str:
    try:
        namespace = str((_PROC / "self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        return ""
    return f"{_boot_id()}/{namespace}" if _boot_id() else ""


def _start_of(pid: int) -> str:
    """The start of a process in ticks since the machine's start; "" where there is none (proc(5)).

    A zombie has ended: its files are closed, only its parent has not looked yet.
    """
    try:
        # The name, in parentheses, may have spaces and parentheses itself.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
