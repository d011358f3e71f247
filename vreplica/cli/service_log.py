"""The service's log on standard error: lines for people, or JSON for programs.

    {"time": "...", "level": "info", "logger": "vreplica.service", "message": "run ... took 4.1 s",
     "job": "web01", "run": "20260301T123000-4f1a", "mover": "dr1"}

What a record is about stands in fields of its own (`extra=` where it is written). No secret gets
in: whatever was read as one is taken out of every line, message, field or traceback alike.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from vreplica.redact import hide

FIELDS: Final = ("job", "run", "mover", "site", "event", "receiver", "seconds")
"""What `extra=` may say of a record."""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        value: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: vars(record)[name] for name in FIELDS if name in vars(record)},
        }
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps({k: hide(v) if isinstance(v, str) else v for k, v in value.items()})


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide(super().format(record))


def log_to_stderr(*, as_json: bool, verbose: bool) -> None:
    """`vreplica`'s own log; of libraries warnings only."""
    handler = logging.StreamHandler()
    text = "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(_Json() if as_json else _Lines(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # DBOS brings a handler of its own and keeps its records from the root.
    logging.getLogger("dbos").handlers[:] = [handler]
    logging.getLogger("dbos").propagate = False
    own = logging.getLogger("vreplica")
    own.handlers[:] = []  # those of a command that ends
    own.setLevel(logging.DEBUG if verbose else logging.INFO)
