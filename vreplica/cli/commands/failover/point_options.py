"""The options that choose the recovery point to boot: --point, --as-of, --prefer, --newest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from vreplica.cli.options import Duration
from vreplica.points.level import Level

if TYPE_CHECKING:
    from vreplica.failover.machine.point_choice import PointChoice
    from vreplica.points.preference import Preference


class Moment(click.ParamType[datetime]):
    """`2026-11-30T16:12`, `2026-11-30 16:12:00Z`, `...+01:00` -> a time; UTC without a zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is not a time such as 2026-11-30T16:12 (UTC) or ...T17:12+01:00",
                param,
                ctx,
            )
        zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return zoned.astimezone(UTC)


class Preferred(click.ParamType["Preference"]):
    """`level=application,max-age=1h` -> a Preference."""

    name = "preference"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Preference:
        from vreplica.points.preference import Preference

        level, max_age_s = Level.CRASH, None
        for part in str(value).split(","):
            key, _, text = part.strip().partition("=")
            if key == "level" and text in {each.value for each in Level}:
                level = Level(text)
            elif key == "max-age":
                max_age_s = Duration().convert(text, param, ctx)
            else:
                self.fail(
                    f"{part!r} is neither level=LEVEL ({', '.join(e.value for e in Level)}) nor "
                    "max-age=DURATION",
                    param,
                    ctx,
                )
        return Preference(level, max_age_s)


@dataclass(frozen=True, slots=True)
class PointOptions:
    """What the operator said of the point to boot."""

    point: tuple[str, ...] = ()
    as_of: datetime | None = None
    prefer: Preference | None = None
    newest: bool = False

    def __post_init__(self) -> None:
        members = [each for each in self.point if "=" in each]
        alone = len(self.point) - len(members)
        said = bool(alone) + bool(self.as_of) + bool(self.prefer) + self.newest
        if alone > 1 or said > 1 or (alone and members):
            raise click.UsageError(
                "only one of --point ID, --as-of, --prefer and --newest can choose the point"
            )

    @property
    def names_a_point(self) -> str | None:
        """The option that names a point of its own, so that a final sync contradicts it."""
        if self.point:
            return "--point"
        return "--as-of" if self.as_of is not None else None

    def with_point(self, job: str | None, point: str) -> PointOptions:
        """With this point instead. `job`: the member of a group whose point it is."""
        if job is None:
            return PointOptions(point=(point,))
        return replace(self, point=(*self.point, f"{job}={point}"))

    def choice(self) -> PointChoice:
        from vreplica.failover.machine.point_choice import PointChoice

        members = dict(each.split("=", 1) for each in self.point if "=" in each)
        alone = next((each for each in self.point if "=" not in each), None)
        return PointChoice(alone, self.as_of, self.newest, self.prefer, members)


_OPTIONS: Final = (
    click.option(
        "--point",
        metavar="ID",
        multiple=True,
        help="Without a final sync: boot this recovery point. Of a group: JOB=ID, for each job"
        " whose newest is not to boot.",
    ),
    click.option(
        "--as-of",
        type=Moment(),
        metavar="TIME",
        help="Boot the newest point with nothing from after this time (UTC unless it says another"
        " zone).",
    ),
    click.option(
        "--prefer",
        type=Preferred(),
        metavar="level=L,max-age=T",
        help="Boot the newest point of at least this level and at most this age; where there is"
        " none, boot nothing.",
    ),
    click.option("--newest", is_flag=True, help="Boot the newest, whatever the job file prefers."),
)


def point_options(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options. The function gets them as one value, `boot`."""

    @wraps(callback)
    def call(
        *args: Any,
        point: tuple[str, ...],
        as_of: datetime | None,
        prefer: Preference | None,
        newest: bool,
        **more: Any,
    ) -> Any:
        boot = PointOptions(point, as_of, prefer, newest)
        return callback(*args, boot=boot, **more)

    for option in reversed(_OPTIONS):
        call = option(call)
    return call
