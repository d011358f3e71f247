"""Shows the progress of a run while it works.

On a terminal a display appears once the work has taken two seconds, and is gone at the end:

    ⠋ web01: copying two disks
      Hard disk 1  ━━━━━━━━━━━━━━━━━━━━  62 %  1.24 of 2 GiB   310 MiB/s  0:00:03 left

Elsewhere -v writes a line for each step. Warnings always are lines of their own.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.spinner import Spinner
from rich.text import Text

from vreplica.cli.render.output import Output, Verbosity
from vreplica.sync import events
from vreplica.units import human_size

PATIENCE_S: Final = 2.0
"""Work that ends sooner shows no display."""

WIDE_ENOUGH: Final = 100
"""Columns of a terminal that has room for the bytes written."""


class Watcher:
    """A listener for `run` and `verify`. It shows what it hears while it is entered."""

    def __init__(self, out: Output, job: str) -> None:
        self._out = out
        self._job = job
        self._spinner = Spinner("dots", Text(f"{job}: starting"))
        self._bars = Progress(*_columns(out.err.width), console=out.err)
        self._tasks: dict[str, TaskID] = {}
        """The bar of each disk, in the step that is under way."""
        self._live: Live | None = None
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        if out.err.is_terminal and out.verbosity >= Verbosity.NORMAL:
            self._timer = threading.Timer(PATIENCE_S, self._appear)
            self._timer.daemon = True

    def __call__(self, event: events.ReplicationEvent) -> None:
        match event:
            case events.Step():
                self._begin(event)
                self._out.step(f"{self._job}: {event.text}")
            case events.Warn():
                self._out.warning(f"{self._job}: {event.text}")
            case events.Progress():
                self._move(event)

    def report(self, text: str) -> None:
        """Prints a line that stays, and shows it in the display in place of the step before."""
        self._begin(events.Step("told", text))
        self._out.note(f"{self._job}: {text}")

    def __enter__(self) -> Watcher:
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._timer = None
            if self._live is not None:
                self._live.stop()

    def _appear(self) -> None:
        with self._lock:
            # The work may have ended while this thread was waking up.
            if self._timer is not None:
                self._live = Live(
                    Group(self._spinner, self._bars),
                    console=self._out.err,
                    transient=True,
                    refresh_per_second=8,
                )
                self._live.start()

    def _begin(self, step: events.Step) -> None:
        with self._lock:
            self._spinner.update(text=Text(f"{self._job}: {step.text}"))
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()

    def _move(self, event: events.Progress) -> None:
        with self._lock:
            if event.disk not in self._tasks:
                self._tasks[event.disk] = self._bars.add_task(event.disk, total=None)
            self._bars.update(
                self._tasks[event.disk],
                total=event.total_bytes,
                completed=event.done_bytes,
                written=event.written_bytes,
            )


class _Amount(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        return Text(f"{human_size(task.completed)} of {human_size(task.total)}")


class _Written(ProgressColumn):
    def render(self, task: Task) -> Text:
        written = task.fields.get("written")
        return Text(f"{human_size(written)} written" if written else "", "dim")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{human_size(speed)}/s" if speed else "")


class _Left(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = task.time_remaining
        if task.finished or seconds is None:
            return Text("")
        minutes, second = divmod(int(seconds), 60)
        return Text(f"{minutes // 60}:{minutes % 60:02}:{second:02} left")


def _columns(width: int) -> list[ProgressColumn]:
    columns = [
        TextColumn(" {task.description}", markup=False),
        BarColumn(bar_width=None if width >= WIDE_ENOUGH else 16),
        TextColumn("{task.percentage:>3.0f} %"),
        _Amount(),
        _Speed(),
        _Left(),
    ]
    return columns if width < WIDE_ENOUGH else [*columns, _Written()]
