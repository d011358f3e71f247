"""Runs a lab as a process of its own, for `vreplica-sync lab up|status|down`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.lab import lab_dir
from vreplica.lab.client import LabControl, LabNotRunning
from vreplica.lab.lab import Lab
from vreplica.lab.lab_dir import LOG, PID, LabDir

START_S = 30.0
STOP_S = 30.0


@dataclass(eq=False)
class LabDidNotStart(VReplicaError):
    """Raised where the process of a lab ends at its start, or does not answer."""

    template = "the lab in {directory} did not start: {reason}"
    remedy = "The reason is in {directory}/lab.log."
    directory: str
    reason: str


def up(directory: str | Path, *, temporary: bool = False, **options: Any) -> dict[str, Any]:
    """Starts the process of a lab and waits until it answers. Returns what `status` returns.

    A lab that does not exist is made, with the options of `Lab.create`. A lab that runs is left
    alone. `temporary`: the lab ends with the calling process, also where that is killed, and its
    folder is removed.
    """
    folder = Path(directory).absolute()
    if not LabDir(folder).config.exists():
        lab_dir.create(folder, **options)
    if running(folder) is None:
        _spawn(folder, temporary)
    return status(folder)


def _spawn(folder: Path, temporary: bool) -> None:
    # The writing end stays open until this process ends, also by kill -9: then the lab reads EOF.
    lifeline = os.pipe()[0] if temporary else os.open(os.devnull, os.O_RDONLY)
    try:
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vreplica.lab", "serve", str(folder)),
                    *(["--temporary"] if temporary else []),
                ],
                stdin=lifeline,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
    finally:
        os.close(lifeline)
    deadline = time.monotonic() + START_S
    while running(folder) is None:
        if process.poll() is not None:
            raise LabDidNotStart(
                directory=str(folder), reason=f"the process ended with {process.returncode}"
            )
        if time.monotonic() > deadline:
            process.kill()
            raise LabDidNotStart(directory=str(folder), reason=f"no answer in {START_S:.0f} s")
        time.sleep(0.02)
    # The lab goes on by itself. Popen must not warn that nobody waited for it.
    process.returncode = 0


def running(directory: str | Path) -> int | None:
    """The pid of the lab's process. None: it does not run."""
    try:
        return int(LabControl(directory, timeout_s=10.0).do("ping")["pid"])
    except LabNotRunning:
        return None


def status(directory: str | Path) -> dict[str, Any]:
    """{"running", "pid", "directory", "sites": [{"name", "url", "user", "password", "sha256",
    "datastores", ...}]}. Raises NoLab."""
    found = LabDir(Path(directory).absolute())
    sites = [{k: v for k, v in s.items() if k != "spec"} for s in found.read()["sites"]]
    pid = running(found.directory)
    return {
        "running": pid is not None,
        "pid": pid,
        "directory": str(found.directory),
        "jobs": str(found.directory / "jobs.toml"),
        "sites": sites,
    }


def down(directory: str | Path) -> bool:
    """Stops the process; the lab's state is kept. Returns False where none ran."""
    folder = Path(directory).absolute()
    pid = running(folder)
    if pid is None:
        return False
    with contextlib.suppress(LabNotRunning):
        LabControl(folder).do("stop")
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if not _alive(pid):
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return True


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def serve(directory: str | Path, *, temporary: bool = False) -> None:
    """Runs a lab in this process until SIGTERM, SIGINT or LabControl stops it.

    `temporary`: also until standard input ends; then the folder is removed.
    """
    lab = Lab(directory)
    pid = lab.directory / PID
    signal.signal(signal.SIGTERM, lambda *_: lab.stopped.set())
    signal.signal(signal.SIGINT, lambda *_: lab.stopped.set())
    lab.start()
    pid.write_text(f"{os.getpid()}\n")
    orphaned = threading.Event()
    if temporary:

        def watch() -> None:
            while os.read(0, 1):
                pass
            orphaned.set()
            lab.stopped.set()

        threading.Thread(target=watch, name="lab-lifeline", daemon=True).start()
    lab.stopped.wait()
    lab.stop()
    pid.unlink(missing_ok=True)
    if orphaned.is_set():
        shutil.rmtree(lab.directory, ignore_errors=True)
