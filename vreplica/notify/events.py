"""The service's events: their names, their text for people, and how they reach listeners.

    workers, dispatcher --on_event(name, job, data)--> EventPublisher --+--> the log
              |                                                         +--> outbox, which reads
              `--> audit trail, in the catalog                          |    the catalog
                                                                        +--> metrics

A listener returns at once, so that it delays neither a run nor the planner. Its errors are logged
and go no further.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from vreplica.printable import one_line
from vreplica.redact import hide, hide_in
from vreplica.units import human_duration

log = logging.getLogger("vreplica.service")

EventName = Literal[
    "run done",
    "run failed",
    "run cancelled",
    "run lost",
    "point flagged",
    "RPO will be violated",
    "RPO violated",
    "RPO kept again",
    "failover done",
    "failover failed",
    "failover lost",
    "failover waits",
    "both VMs on",
    "both VMs on: over",
]
TEST: Final = "test"
"""The event of `notify test`, which every receiver gets."""
DEFAULT_EVENTS: Final[frozenset[EventName]] = frozenset(get_args(EventName)) - {
    "run done",
    "run cancelled",
}
"""The events for receivers without `on`."""
_NORMAL: Final = frozenset(
    {"run done", "run cancelled", "RPO kept again", "failover done", "both VMs on: over"}
)
_FAILOVER_DONE: Final = {
    "running": "in service, not committed",
    "committed": "in service, committed",
    "aborted": "given up",
}
"""The state in which a failover ended, in words; other states are words already."""

OnEvent = Callable[[str, str, dict[str, Any]], None]
"""Takes the name of an event, its job, and its data."""


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """Something that happened to a job. A receiver can recognise a repeated event by its `id`."""

    name: str
    job: str
    mover: str
    data: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def text(self) -> str:
        """The event in one line, for people: printable, and without secrets."""
        subject = f"job {self.job}: {self.name}" if self.job else self.name
        more = _details(self.name, self.data)
        return one_line(hide(f"{subject}: {more}" if more else subject))

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "time": self.time.isoformat(),
            "event": self.name,
            "job": self.job,
            "mover": self.mover,
            "text": self.text,
            "data": hide_in(self.data),
        }


def age_data(age: timedelta | None, target: timedelta, *, ahead: bool) -> dict[str, Any]:
    """The data of an event about the age of a job's newest point.

    `age`: None where there is no point, or where its time lies `ahead` of now.
    """
    return {
        "age_s": age.total_seconds() if age is not None else None,
        "target_s": target.total_seconds(),
        "point_ahead": ahead,
    }


def _details(name: str, data: dict[str, Any]) -> str:
    if name == "failover done":
        state = str(data.get("state"))
        return f"{data.get('failover')} is {_FAILOVER_DONE.get(state, state)}"
    if "suspicions" in data:
        return "; ".join(data["suspicions"])
    if "error" in data:
        return str(data["error"])
    if name == "failover lost":
        return f"mover {data.get('mover')} is gone; start it again, and the failover goes on"
    if name == "run lost":
        return f"mover {data.get('mover')} is gone; another mover runs the job again"
    if "target_s" in data:
        return _age_in_words(data["age_s"], data["target_s"], ahead=data["point_ahead"])
    if "target" in data:
        return _age_of_0_1(data)
    if (seconds := run_seconds(data)) is not None:
        return f"in {seconds:.1f} s"
    return str(data.get("text", ""))


def _age_in_words(age_s: float | None, target_s: float, *, ahead: bool) -> str:
    if ahead:
        newest = "the time of the newest point lies ahead, so its age is not known"
    elif age_s is None:
        newest = "no recovery point is known"
    else:
        newest = f"newest point is {human_duration(age_s)} old"
    return f"{newest}, target {human_duration(target_s)}"


def _age_of_0_1(data: dict[str, Any]) -> str:
    """Of an event that version 0.1 has stored: durations as `str(timedelta)`."""
    age = data.get("age")
    age_s = _seconds(str(age)) if _DURATION_OF_0_1.fullmatch(str(age)) else None
    target_s = _seconds(str(data["target"]))
    return _age_in_words(age_s, target_s, ahead=age == "not known")


_DURATION_OF_0_1: Final = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def _seconds(text: str) -> float:
    found = _DURATION_OF_0_1.fullmatch(text)
    if found is None:
        return 0.0
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


EventListener = Callable[[ServiceEvent], None]


class EventPublisher:
    """Passes each event on to all listeners. An `OnEvent` for workers and the dispatcher."""

    def __init__(self, mover: str, *listeners: EventListener) -> None:
        self._mover, self._listeners = mover, (write_to_log, *listeners)

    def __call__(self, name: str, job: str, data: dict[str, Any]) -> None:
        event = ServiceEvent(name, job, self._mover, data)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("event %s of job %s", name, job, extra=log_fields(event))


def write_to_log(event: ServiceEvent) -> None:
    """Writes the event's text: as a warning, unless it is one that is expected."""
    level = logging.INFO if event.name in _NORMAL else logging.WARNING
    log.log(level, "%s", event.text, extra=log_fields(event))


def run_seconds(data: Mapping[str, Any]) -> float | None:
    """How long a run took, of the data of an event; None where it does not say."""
    # Version 0.1 called it "seconds"; such events may still wait in a catalog.
    seconds: float | None = data.get("duration_s", data.get("seconds"))
    return seconds


def log_fields(event: ServiceEvent) -> dict[str, Any]:
    """For `extra=` of a log record."""
    more: dict[str, Any] = {"run": event.data["run"]} if "run" in event.data else {}
    if (seconds := run_seconds(event.data)) is not None:
        more["seconds"] = seconds
    return {"event": event.name, "job": event.job, "mover": event.mover, **more}
