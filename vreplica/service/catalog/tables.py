"""The catalog's tables, as SQLAlchemy sees them. The migrations make and change them.

    vr_job  1 ──── n  vr_run        what the planner knows of a job; its runs and failovers
            1 ──── n  vr_point      its recovery points, as they were last read
            1 ──── 1  vr_job_seen   when they were last read
            1 ──── n  vr_failover   its failovers, as their journals were last read
            1 ──── n  vr_by_hand    runs and failovers that commands carried out
    vr_mover  1 ── 1  vr_mover_info the movers at work, and the end of each one's lease
    vr_audit  1 ── n  vr_notice     decisions of people and of the service; receivers that have
                                    not been notified of one yet
    vr_receiver                     the mover that notifies each receiver

Times are text, ISO 8601 in UTC, so that they sort and read the same in every database. Names of
columns are stored and stay: `order` holds a request, `holds` the resources of a run, `off` the
failover that disabled a job.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

import pydantic_core
import sqlalchemy as sa
from pydantic import AfterValidator, TypeAdapter

from vreplica.redact import hide, hide_in
from vreplica.service.catalog.errors import CatalogDamaged
from vreplica.stored import Damaged, parse_moment

_LONG_AGO_OF_0_1: Final = "0001-"
"""Begins the due time of a run after a clock was set back, as version 0.1 stored it."""


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware datetime, stored as text in UTC."""

    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        return value.astimezone(UTC).isoformat(timespec="microseconds") if value else None

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        if isinstance(value, str) and value.startswith(_LONG_AGO_OF_0_1):
            value = value.replace(_LONG_AGO_OF_0_1, "1970-", 1)
        try:
            return parse_moment(value) if value else None
        except Damaged as error:
            raise CatalogDamaged(str(error)) from None


def plain(text: str) -> str:
    """Without NULs and lone surrogates, which PostgreSQL takes in no text.

    Programs in guests, hosts and file names do contain them.
    """
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def to_json(value: Any) -> str:
    """JSON with `plain` texts, without secrets.

    A NUL would be stored, and make queries into the document fail.
    """
    return _NUL.sub(r"\1 ", plain(json.dumps(hide_in(value), ensure_ascii=False)))


def from_json(text: str | bytes) -> Any:
    """Raises CatalogDamaged."""
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise CatalogDamaged(f"a document in it is not JSON ({error})") from None


class JsonOf(sa.types.TypeDecorator[Any]):
    """A JSON document of one kind."""

    impl = sa.JSON
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        try:
            return None if value is None else TypeAdapter(self.kind).validate_python(value)
        except ValueError:
            raise CatalogDamaged("a document in it is of another kind") from None


class _OfOneType(sa.types.TypeDecorator[Any]):
    """SQLite stores a value of any type in any column: one of another type is not believed."""

    impl: Any = sa.types.NullType
    cache_ok = True
    kind: ClassVar[type]

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        if value is not None and not self.fits(value):
            raise CatalogDamaged(f"a value in it is no {self.kind.__name__} that can be")
        return value

    def fits(self, value: Any) -> bool:
        return type(value) is self.kind


class Word(_OfOneType):
    impl = sa.String
    cache_ok = True
    kind = str


class Number(_OfOneType):
    impl = sa.Integer
    cache_ok = True
    kind = int

    def fits(self, value: Any) -> bool:
        return super().fits(value) and 0 <= value < 1 << 31


class Flag(_OfOneType):
    impl = sa.Boolean
    cache_ok = True
    kind = bool


class PlainText(sa.types.TypeDecorator[str]):
    """Text from elsewhere, stored without secrets and what the database does not take."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> str | None:
        if value is not None and not isinstance(value, str):
            raise CatalogDamaged("a text in it is none")
        return value

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else plain(hide(value))


def _has_order(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("do") not in ("begin", "back", "resume", "undo", "commit", "adopt"):
        raise ValueError("it asks for nothing that is known")
    return value


DOCUMENT: Final = dict[str, Any]
NUMBERS: Final = list[float]
NAMES: Final = list[str]
ORDER: Final = Annotated[dict[str, Any], AfterValidator(_has_order)]
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
ACTIVE: Final = ("queued", "running")
"""States of a run that is under way; an index allows one such run a job."""
FAILOVER: Final = "failover"
"""The kind of a run that is a failover, requested of the service; others are of kind `run`."""
metadata = sa.MetaData()

jobs = sa.Table(
    "vr_job",
    metadata,
    sa.Column("name", Word(80), primary_key=True),
    sa.Column("since", Moment, nullable=False),
    sa.Column("paused", Flag, nullable=False, default=False),
    sa.Column("epoch", Number, nullable=False, default=0),
    sa.Column("last_start", Moment),
    sa.Column("last_end", Moment),
    sa.Column("failures", Number, nullable=False, default=0),
    sa.Column("point_time", Moment),
    sa.Column("durations_s", JsonOf(NUMBERS), nullable=False, default=list),
    sa.Column("holds", JsonOf(NAMES), nullable=False, default=list),
    sa.Column("mover", Word(120)),
    sa.Column("alarm", Word(40)),
    sa.Column("off", Word(60)),
)
"""`off`: the id of the failover that disabled the job; the planner leaves the job alone."""
runs = sa.Table(
    "vr_run",
    metadata,
    sa.Column("id", Word(40), primary_key=True),
    sa.Column("kind", Word(12), nullable=False, default="run"),
    sa.Column("order", JsonOf(ORDER)),
    sa.Column("job", Word(80), nullable=False),
    sa.Column("state", Word(12), nullable=False),
    sa.Column("mover", Word(120), nullable=False),
    sa.Column("holds", JsonOf(NAMES), nullable=False),
    sa.Column("epoch", Number),
    sa.Column("due", Moment, nullable=False),
    sa.Column("queued", Moment, nullable=False),
    sa.Column("began", Moment),
    sa.Column("ended", Moment),
    sa.Column("tries", Number, nullable=False, default=0),
    sa.Column("result", JsonOf(DOCUMENT)),
    sa.Column("error", PlainText),
)
"""`kind`: run | failover; `order`: the request of a failover, see failover_requests."""
points = sa.Table(
    "vr_point",
    metadata,
    sa.Column("job", Word(80), primary_key=True),
    sa.Column("id", Word(40), primary_key=True),
    sa.Column("time", Moment, nullable=False),
    sa.Column("level", Word(20), nullable=False),
    sa.Column("description", JsonOf(DOCUMENT), nullable=False),
)
job_seen = sa.Table(
    "vr_job_seen",
    metadata,
    sa.Column("job", Word(80), primary_key=True),
    sa.Column("seen", Moment, nullable=False),
)
by_hand = sa.Table(
    "vr_by_hand",
    metadata,
    sa.Column("id", Word(120), primary_key=True),
    sa.Column("what", Word(20), nullable=False),
    sa.Column("job", Word(80), nullable=False),
    sa.Column("state", Word(20), nullable=False),
    sa.Column("who", Word(200), nullable=False),
    sa.Column("began", Moment, nullable=False),
    sa.Column("ended", Moment, nullable=False),
    sa.Column("result", JsonOf(DOCUMENT), nullable=False),
    sa.Column("error", PlainText),
)
failovers = sa.Table(
    "vr_failover",
    metadata,
    sa.Column("id", Word(60), primary_key=True),
    sa.Column("job", Word(80), primary_key=True),
    sa.Column("state", Word(20), nullable=False),
    sa.Column("seen", Moment, nullable=False),
    sa.Column("facts", JsonOf(DOCUMENT), nullable=False),
)
movers = sa.Table(
    "vr_mover",
    metadata,
    sa.Column("id", Word(120), primary_key=True),
    sa.Column("capacity", Number, nullable=False),
    sa.Column("joined", Moment, nullable=False),
    sa.Column("until", Moment, nullable=False),
)
mover_info = sa.Table(
    "vr_mover_info",
    metadata,
    sa.Column("mover", Word(120), primary_key=True),
    sa.Column("version", Word(60), nullable=False),
    sa.Column("lease_s", sa.Float, nullable=False),
)
audit = sa.Table(
    "vr_audit",
    metadata,
    sa.Column("n", Number, primary_key=True, autoincrement=True),
    sa.Column("time", Moment, nullable=False),
    sa.Column("who", Word(120), nullable=False),
    sa.Column("what", Word(60), nullable=False),
    sa.Column("job", Word(80)),
    sa.Column("data", JsonOf(DOCUMENT), nullable=False),
)
receivers = sa.Table(
    "vr_receiver",
    metadata,
    sa.Column("name", Word(80), primary_key=True),
    sa.Column("sender", Word(120)),
)
notices = sa.Table(
    "vr_notice",
    metadata,
    sa.Column("receiver", Word(80), primary_key=True),
    sa.Column("n", Number, primary_key=True),
)
