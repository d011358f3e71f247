"""What the service tells of: the names of its events, and who gets to hear them.

    mover, dispatcher --tell(what, job, data)--> Events --+--> the log
              |                                           +--> outbox   (looks into the catalog)
              `--> audit trail, in the catalog            +--> metrics

Nobody who listens holds a run or the planner: a listener returns at once, and what it raises is
logged and goes no further.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

log = logging.getLogger("vreplica.service")

Name = Literal[
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
]
NAMES: Final[tuple[str, ...]] = get_args(Name)
TEST: Final = "test"
"""Only `notify test` makes it; every receiver gets it."""
NOT_KNOWN: Final = "not known"
"""The age of a point whose time lies ahead of now."""
MUST_KNOW: Final[frozenset[Name]] = frozenset(get_args(Name)) - {"run done", "run cancelled"}
"""What receivers get that do not say what they want."""
_NORMAL: Final = frozenset({"run done", "run cancelled", "RPO kept again", "failover done"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. `id` lets a receiver drop what it has got already."""

    what: str
    job: str
    mover: str
    data: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def text(self) -> str:
        """One line for people."""
        subject = f"job {self.job}: {self.what}" if self.job else self.what
        more = _details(self.what, self.data)
        return " ".join(f"{subject}: {more}".split() if more else subject.split())

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "time": self.time.isoformat(),
            "event": self.what,
            "job": self.job,
            "mover": self.mover,
            "text": self.text,
            "data": self.data,
        }


def _details(what: str, data: dict[str, Any]) -> str:
    if what == "failover done":
        return f"{data.get('failover')} is {data.get('state')}"
    if "suspicions" in data:
        return "; ".join(data["suspicions"])
    if "error" in data:
        return str(data["error"])
    if what == "failover lost":
        return f"mover {data.get('mover')} is gone; it goes on when that one is back"
    if what == "run lost":
        return f"mover {data.get('mover')} is gone; the job is planned anew"
    if "target" in data:
        age = data.get("age")
        newest = "there is no point yet" if age in (None, "None") else f"the newest is {age} old"
        if age == NOT_KNOWN:
            newest = "the newest has a time that lies ahead, so its age is not known"
        return f"{newest}, {data['target']} at most"
    if "seconds" in data:
        return f"in {data['seconds']:.1f} s"
    return str(data.get("text", ""))


Listener = Callable[[Event], None]


class Events:
    """A `Tell` for movers and dispatchers that passes on to all listeners."""

    def __init__(self, mover: str, *listeners: Listener) -> None:
        self._mover, self._listeners = mover, (to_log, *listeners)

    def __call__(self, what: str, job: str, data: dict[str, Any]) -> None:
        event = Event(what, job, self._mover, data)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("event %s of job %s", what, job, extra=fields(event))


def to_log(event: Event) -> None:
    """What is not as it should be is a warning."""
    level = logging.INFO if event.what in _NORMAL else logging.WARNING
    log.log(level, "%s", event.text, extra=fields(event))


def fields(event: Event) -> dict[str, Any]:
    """For `extra=` of a log record."""
    more: dict[str, Any] = {k: event.data[k] for k in ("run", "seconds") if k in event.data}
    return {"event": event.what, "job": event.job, "mover": event.mover, **more}
