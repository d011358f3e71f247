"""Pause and resume of a run from outside, the job's limits, and what is said while a run holds.

<job>/paused     there: the run that is going on holds at its next batch; gone: it goes on

A run that holds keeps its snapshot of the source, which grows with what the guest writes; so the
run says how old and how large that has become, at once and then every ten minutes.
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
AGAIN_S: Final = 600.0
"""Asking the sites so often also keeps their sessions from ending: vCenter's default is 30
minutes."""


@dataclass(eq=False)
class NotRunning(PreflightError):
    template = "no run of job {job} is going on here"
    remedy = "Only a run on this machine, with this state_dir, can be paused and resumed."
    job: str


def pause(job: Job) -> int:
    """Let the run of `job` hold; returns its process id. Raises NotRunning."""
    pid = _running(job)
    paused_path(job).touch(mode=0o600)
    return pid


def resume(job: Job) -> int:
    """Let it go on; returns its process id. Raises NotRunning."""
    pid = _running(job)
    paused_path(job).unlink(missing_ok=True)
    return pid


class Holding:
    """A context manager around a run that has the job's lock: heeds `pause` and the limits."""

    def __init__(
        self,
        job: Job,
        control: Control,
        tell: Listener,
        *,
        limited: bool = True,
        poll_s: float = POLL_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self.look: Callable[[], int] | None = None
        """Bytes that the source takes up now; known once its snapshot is there."""
        self._path, self._control, self._tell = paused_path(job), control, tell
        self._poll_s, self._again_s = poll_s, again_s
        self._throttle = job.limits.throttle() if limited else None
        self._before = control.throttle
        self._over = threading.Event()
        self._paused = False
        self._thread = threading.Thread(target=self._watch, name="vreplica-holding", daemon=True)

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
        self._control.throttle = self._before
        with suppress(OSError):  # which would hide what the run has ended in
            self._path.unlink()
        if self._paused:
            self._control.resume()

    @contextmanager
    def measuring(self, look: Callable[[], int]) -> Iterator[None]:
        """Inside, the source has our snapshot, and `look` says how much it takes up."""
        self.look = look
        try:
            yield
        finally:
            self.look = None

    def _watch(self) -> None:
        since: float | None = None
        size: int | None = None
        told = 0.0
        while not self._over.wait(self._poll_s):
            reason = self._reason()
            if reason is None:
                if since is not None:
                    self._tell(Warn(f"going on after {_minutes(monotonic() - since)}"))
                since = size = None
            elif since is None:
                since = told = monotonic()
                size = self._size()
                self._tell(Warn(f"{reason}; the source's snapshot grows until it goes on"))
            elif monotonic() - told >= self._again_s:
                told, now = monotonic(), self._size()
                grown = f" by {human_size(max(0, now - size))}" if now and size else ""
                held = _minutes(monotonic() - since)
                self._tell(Warn(f"{reason}, for {held}; the source has grown{grown} meanwhile"))

    def _reason(self) -> str | None:
        if self._path.exists():
            self._control.pause()
            self._paused = True
            return "paused by `vreplica-sync pause`"
        if self._paused:
            self._control.resume()
            self._paused = False
        if self._control.throttle is not None and self._control.throttle.rate() == 0:
            return "held by a window of the job's limits"
        return None

    def _size(self) -> int | None:
        look = self.look
        if look is None:
            return None
        with suppress(VReplicaError):
            return look()
        return None


def size_of(sites: Sites, vm: VmInfo) -> int:
    """What a source takes up now; asking keeps both sites' sessions alive."""
    sites.destination.refresh()
    return sites.source.read_vm(vm.ref).storage_committed_bytes


def _running(job: Job) -> int:
    pid = running_pid(job)
    if pid is None:
        raise NotRunning(job.name)
    return pid


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
