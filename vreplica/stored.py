"""Reads what was stored earlier, and believes nothing of it before it is checked.

    JSON      Layout.parse(text), parse_texts, parse_data, build     strict types, finite numbers
    a time    parse_moment(text)                              with a zone, of this age
    a file    read_text(path)                                 UTF-8, with its checksum

A file of ours may have lost a bit, and extraConfig is written by whoever may edit the VM. Readers
raise Damaged and nothing else. Their callers decide what is safe to begin anew.

The checksum shows damage. It proves nothing about who wrote the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from vreplica.formats import Damaged as Damaged

MOST_BYTES: Final = 64 << 20
"""A longer file is none of ours: it is not read into memory."""

SUM_MARK: Final = "#blake2b "
"""Begins the last line of a text file. A file of the first version has no such line."""

SUM_KEY: Final = "sum"
"""The last key of a JSON object. Objects of the first version do not have it."""

T = TypeVar("T")


# -- kinds of values --------------------------------------------------------------------------


def is_id(text: str) -> bool:
    """True for what can be the id of a run, a point or a failover."""
    return re.fullmatch(ID, text, re.ASCII) is not None


def in_range(time: datetime) -> datetime:
    """The time in UTC. Raises ValueError outside the years that every calculation can bear."""
    if not 1970 <= time.year < 3000:
        raise ValueError(f"the year {time.year} is not between 1970 and 2999")
    return time.astimezone(UTC)


def _finite(value: Any) -> Any:
    """JSON knows neither Infinity nor NaN; its readers do."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        _finite(each)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("a number is not finite")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(in_range)]
Size = Annotated[int, Field(ge=0, lt=1 << 62)]
"""Bytes. The sum of two fits into 64 bits."""
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Key = Annotated[int, Field(ge=0, lt=1 << 31)]
"""VirtualDevice.key, an xsd:int."""
Seconds = Annotated[float, Field(ge=0, lt=1e10)]
Share = Annotated[float, Field(ge=0, lt=1e3)]
Text = Annotated[str, StringConstraints(max_length=10_000)]
ID: Final = "[A-Za-z0-9][A-Za-z0-9._:~-]{0,63}"
"""Id of a run, a point or a failover: one word that fits into the header of a digest map."""
Id = Annotated[str, StringConstraints(pattern=rf"\A{ID}\z")]
Data = Annotated[dict[str, JsonValue], AfterValidator(_finite)]

_STRICT: Final = ConfigDict(strict=True, allow_inf_nan=False)


class Layout(BaseModel):
    """A layout of stored JSON. Keys that a newer version has added are ignored."""

    model_config = ConfigDict(**_STRICT, frozen=True, extra="ignore")

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Raises Damaged."""
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise Damaged(_reason(error)) from None


_TEXTS: Final = TypeAdapter(tuple[Text, ...], config=_STRICT)
_DATA: Final = TypeAdapter(Data, config=_STRICT)


def parse_texts(text: str | bytes) -> tuple[str, ...]:
    """A JSON array of strings. Raises Damaged."""
    return _parse(_TEXTS, text)


def parse_data(text: str | bytes) -> dict[str, Any]:
    """A JSON object that holds what JSON knows. Raises Damaged."""
    return _parse(_DATA, text)


def build(kind: type[T], value: Mapping[str, Any], *, needs: Collection[str] = ()) -> T:
    """Makes a dataclass of a JSON object, by its annotations. Raises Damaged.

    Keys that it does not know are ignored; a key that is missing has its default, unless it is one
    of `needs`.
    """
    if missing := [name for name in needs if name not in value]:
        raise Damaged(f"{missing[0]} is missing")
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # mypy: no hash
        return adapter.validate_json(json.dumps(_finite(value)), strict=True)
    except (ValueError, TypeError) as error:
        raise Damaged(_reason(error)) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # slow to make
    return TypeAdapter(kind)


def parse_moment(text: Any) -> datetime:
    """A time of ISO 8601 with its zone, in UTC. Raises Damaged."""
    try:
        if not isinstance(text, str):
            raise ValueError("it is no text")
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError("it has no time zone")
        return in_range(time)
    except (ValueError, OverflowError) as error:
        raise Damaged(f"{str(text)[:40]!r} is no time: {error}") from None


def _parse(adapter: TypeAdapter[T], text: str | bytes) -> T:
    try:
        return adapter.validate_json(text)
    except ValueError as error:
        raise Damaged(_reason(error)) from None


def _reason(error: ValueError | TypeError) -> str:
    """The first thing that is wrong, without the value: it may be long, or not to be printed."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


# -- checksums --------------------------------------------------------------------------------


def _sum_of(*texts: str) -> str:
    state = blake2b(digest_size=8)
    for text in texts:
        state.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return state.hexdigest()


def seal_json(text: str, *others: str) -> str:
    """A JSON object with a last key: the checksum of all before it, and of `others`."""
    body = text.rstrip().removesuffix("}")
    return f'{body}{"," if body != "{" else ""}"{SUM_KEY}":"{_sum_of(body, *others)}"}}'


def check_json(text: str, *others: str) -> None:
    """Raises Damaged where the object has a checksum and it does not fit.

    `others`: as they were given to `seal_json`. An object without one is of the first version.
    """
    head, mark, tail = text.rstrip().rpartition(f'"{SUM_KEY}":"')
    if not mark and re.search(r'"[^"]{0,6}":"[0-9a-f]{16}"\}$', text.rstrip()):
        raise Damaged("its checksum has lost its name")
    if mark and tail != f'{_sum_of(head.removesuffix(","), *others)}"}}':
        raise Damaged("its checksum does not fit")


def has_sum(text: str) -> bool:
    """True for an object that `seal_json` has made; False for one of the first version."""
    return f'"{SUM_KEY}":"' in text


def seal_text(text: str) -> str:
    """Lines of text with a last line: the checksum of all before it."""
    return f"{text}{SUM_MARK}{_sum_of(text)}\n"


def read_text(path: Path) -> str:
    """The text of a file, without its line of checksum.

    Raises Damaged, and OSError as the operating system does.
    """
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Damaged(f"it has more than {MOST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"byte {error.start} is not of a text") from None
    body, mark, tail = text.rpartition(SUM_MARK)
    if not mark:
        return text
    if tail != f"{_sum_of(body)}\n":
        raise Damaged("its checksum does not fit")
    return body


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, the last of which is whole. Raises as `read_text`."""
    text = read_text(path)
    if text and not text.endswith("\n"):
        raise Damaged("its last line is not whole")
    return text.splitlines()
