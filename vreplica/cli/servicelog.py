"""The service's log on standard error: lines for people, or JSON for programs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        value = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value)


def log_to_stderr(*, as_json: bool, verbose: bool) -> None:
    """`vreplica`'s own log; of libraries warnings only."""
    handler = logging.StreamHandler()
    text = "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(_Json() if as_json else logging.Formatter(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vreplica").setLevel(logging.DEBUG if verbose else logging.INFO)
