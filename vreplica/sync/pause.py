"""Pauses and resumes a run from outside, and applies the job's limits.

<job>/paused     while it exists, the running run waits at its next batch

A paused run keeps its snapshot of the source, which grows with what the guest writes. So the run
says at once, and then every ten minutes, how long it has waited and how much the source has grown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, Self

from vreplica.delta.control import Control
from vreplica.errors import PreflightError, VReplicaError
from vreplica.sync.events import Listener, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import paused_path, running_pid
from vreplica.sync.sites import Sites
from vreplica.units import human_size
from vreplica.vsphere.model import VmInfo

POLL_S: Final = 0.5
REPEAT_S: Final = 600.0
"""Time between two warnings of a paused run. Asking the sites so often also keeps their sessions
from ending: vCenter's default is 30 minutes."""


@dataclass(eq=False)
class NotRunning(PreflightError):
    template = "no run of job {job} is going on here"
    remedy = "Only a run on this machine, with this state_dir, can be paused and resumed."
    job: str


def pause_run(job: Job) -> int:
    """Pauses the job's current run. Returns its process id. Raises NotRunning."""
    pid = _running(job)
    paused_path(job).touch(mode=0o600)
    return pid


def resume_run(job: Job) -> int:
    """Resumes the job's paused run. Returns its process id. Raises NotRunning."""
    pid = _running(job)
    paused_path(job).unlink(missing_ok=True)
    return pid


class PauseWatch:
    """Applies `pause_run` and the job's limits to a run that has the job's lock.

    A context manager around the run.
    """

    def __init__(
        self,
        job: Job,
        control: Control,
        listener: Listener,
        *,
        limited: bool = True,
        poll_s: float = POLL_S,
        repeat_s: float = REPEAT_S,
    ) -> None:
        self.measure: Callable[[], int] | None = None
        """Returns the bytes that the source takes up now; set once its snapshot exists."""
        self._path, self._control, self._listener = paused_path(job), control, listener
        self._poll_s, self._repeat_s = poll_s, repeat_s
        self._throttle = job.limits.throttle() if limited else None
        self._throttle_before = control.throttle
        self._over = threading.Event()
        self._paused = False
        self._thread = threading.Thread(target=self._watch, name="vreplica-pause", daemon=True)

    def __enter__(self) -> Self:
        # What a run that was killed has left: nobody has paused this one yet.
        self._path.unlink(missing_ok=True)
        if self._throttle is not None:
            self._control.throttle = self._throttle
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._control.throttle = self._throttle_before
        with suppress(OSError):  # which would hide the error that the run has ended in
            self._path.unlink()
        if self._paused:
            self._control.resume()

    @contextmanager
    def measuring(self, measure: Callable[[], int]) -> Iterator[None]:
        """Inside, the source has our snapshot, and `measure` returns how much it takes up."""
        self.measure = measure
        try:
            yield
        finally:
            self.measure = None

    def _watch(self) -> None:
        since: float | None = None
        bytes_before: int | None = None
        warned = 0.0
        while not self._over.wait(self._poll_s):
            reason = self._reason()
            if reason is None:
                if since is not None:
                    self._warn(f"resumed after {_minutes(monotonic() - since)}")
                since = bytes_before = None
            elif since is None:
                since = warned = monotonic()
                bytes_before = self._measured()
                self._warn(f"{reason}; the source's snapshot grows until the run is resumed")
            elif monotonic() - warned >= self._repeat_s:
                warned, now = monotonic(), self._measured()
                grown = (
                    f" by {human_size(max(0, now - bytes_before))}" if now and bytes_before else ""
                )
                waited = _minutes(monotonic() - since)
                self._warn(f"{reason}, for {waited}; the source has grown{grown} meanwhile")

    def _warn(self, text: str) -> None:
        self._listener(Warn(text))

    def _reason(self) -> str | None:
        """The reason why the run waits; None where it does not."""
        if self._path.exists():
            self._control.pause()
            self._paused = True
            return "paused by `vreplica-sync pause`"
        if self._paused:
            self._control.resume()
            self._paused = False
        if self._control.throttle is not None and self._control.throttle.rate() == 0:
            return "paused by a window of the job's limits"
        return None

    def _measured(self) -> int | None:
        measure = self.measure
        if measure is None:
            return None
        with suppress(VReplicaError):
            return measure()
        return None


def source_bytes(sites: Sites, source: VmInfo) -> int:
    """Bytes that the source takes up now. Asking keeps both sites' sessions alive."""
    sites.destination.refresh()
    return sites.source.read_vm(source.ref).storage_committed_bytes


def _running(job: Job) -> int:
    pid = running_pid(job)
    if pid is None:
        raise NotRunning(job.name)
    return pid


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
