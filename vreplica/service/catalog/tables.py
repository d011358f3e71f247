"""The catalog's tables, as SQLAlchemy sees them. migrations/ makes and changes them.

    vr_job  1 ──── n  vr_run        what is known of a job; what it did
            1 ──── n  vr_point      its recovery points, as the destination last had them
            1 ──── n  vr_failover   its failovers, as their journals last had them
    vr_mover                        who works, and until when that is believed
    vr_audit  1 ── n  vr_notice     everything that somebody, or the service, decided; and which
                                    receivers have not been told of it yet
    vr_receiver                     which mover tells each of them

Moments are kept as text, ISO 8601 in UTC, so that they sort and read the same in every database.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware datetime, as text in UTC."""

    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        return value.astimezone(UTC).isoformat(timespec="microseconds") if value else None

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        return datetime.fromisoformat(value) if value else None


def plain(text: str) -> str:
    """Without what PostgreSQL keeps in no text. Guests' programs, hosts and file names say it."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def to_json(value: Any) -> str:
    """As `plain`: a NUL would be kept, and make every query fail that looks into the document."""
    return _NUL.sub(r"\1 ", plain(json.dumps(value, ensure_ascii=False)))


class Words(sa.types.TypeDecorator[str]):
    """What somebody else has said."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else plain(value)


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
ACTIVE: Final = ("queued", "running")
"""States of a run that is under way; an index allows one such run a job."""
metadata = sa.MetaData()

jobs = sa.Table(
    "vr_job",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("since", Moment, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False, default=False),
    sa.Column("epoch", sa.Integer, nullable=False, default=0),
    sa.Column("last_start", Moment),
    sa.Column("last_end", Moment),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("point_time", Moment),
    sa.Column("durations_s", sa.JSON, nullable=False, default=list),
    sa.Column("holds", sa.JSON, nullable=False, default=list),
    sa.Column("mover", sa.String(120)),
    sa.Column("alarm", sa.String(40)),
    sa.Column("off", sa.String(60)),
)
"""`off`: the failover that has switched the job off; the planner leaves it alone."""
runs = sa.Table(
    "vr_run",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(12), nullable=False, default="run"),
    sa.Column("order", sa.JSON),
    sa.Column("job", sa.String(80), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("mover", sa.String(120), nullable=False),
    sa.Column("holds", sa.JSON, nullable=False),
    sa.Column("epoch", sa.Integer),
    sa.Column("due", Moment, nullable=False),
    sa.Column("queued", Moment, nullable=False),
    sa.Column("began", Moment),
    sa.Column("ended", Moment),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("result", sa.JSON),
    sa.Column("error", Words),
)
"""`kind`: run | failover; a failover has an `order` (orders.py)."""
points = sa.Table(
    "vr_point",
    metadata,
    sa.Column("job", sa.String(80), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("time", Moment, nullable=False),
    sa.Column("level", sa.String(20), nullable=False),
    sa.Column("description", sa.JSON, nullable=False),
)
failovers = sa.Table(
    "vr_failover",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("job", sa.String(80), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("seen", Moment, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
)
movers = sa.Table(
    "vr_mover",
    metadata,
    sa.Column("id", sa.String(120), primary_key=True),
    sa.Column("capacity", sa.Integer, nullable=False),
    sa.Column("joined", Moment, nullable=False),
    sa.Column("until", Moment, nullable=False),
)
audit = sa.Table(
    "vr_audit",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", Moment, nullable=False),
    sa.Column("who", sa.String(120), nullable=False),
    sa.Column("what", sa.String(60), nullable=False),
    sa.Column("job", sa.String(80)),
    sa.Column("data", sa.JSON, nullable=False),
)
receivers = sa.Table(
    "vr_receiver",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("sender", sa.String(120)),
)
notices = sa.Table(
    "vr_notice",
    metadata,
    sa.Column("receiver", sa.String(80), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
)
