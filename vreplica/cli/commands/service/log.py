"""Writes the service's log to standard error: lines for people, or JSON for programs.

    {"time": "...", "level": "info", "logger": "vreplica.service", "message": "run ... took 4.1 s",
     "job": "web01", "run": "20260301T123000-4f1a", "mover": "dr1"}

The job, the run and so on are fields of their own (`extra=` where a record is written). Secrets
that this process has read are hidden in every line: in messages, fields and tracebacks alike.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from vreplica.printable import printable
from vreplica.redact import hide, hide_in

FIELDS: Final = ("job", "run", "mover", "site", "event", "receiver", "seconds")
"""The fields of a record that `extra=` may give."""


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
        return json.dumps(hide_in(value), default=str)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # A traceback's lines are indented: what others wrote begins no line of its own.
        return printable(hide(super().format(record))).replace("\n", "\n  ")


def log_to_stderr(*, as_json: bool, verbose: bool) -> None:
    """Writes all of vreplica's own log, and the warnings of libraries."""
    handler = logging.StreamHandler()
    text = "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(_Json() if as_json else _Lines(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # DBOS has a handler of its own and keeps its records from the root.
    logging.getLogger("dbos").handlers[:] = [handler]
    logging.getLogger("dbos").propagate = False
    own = logging.getLogger("vreplica")
    own.handlers[:] = []  # the command's own handler, which shows warnings only
    own.setLevel(logging.DEBUG if verbose else logging.INFO)
