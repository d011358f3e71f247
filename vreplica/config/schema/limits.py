"""`limits` of a job: the rate at which its runs may read.

limits = { rate_mib_s = 50 }
limits = { windows = [{ when = "mon-fri 08:00-18:00", rate_mib_s = 10 }], timezone = "Asia/Tokyo" }
"""

from __future__ import annotations

from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from vreplica import hours
from vreplica.config.schema.base import Model, Text, Whole, problem
from vreplica.config.schema.schedule import Span, zone
from vreplica.delta.throttle import Window
from vreplica.sync.job import Limits
from vreplica.units import MIB

MOST_MIB_S: Final = 1 << 20


class RateWindowTable(Model):
    """A time with a rate of its own."""

    when: Span
    """For example "mon-fri 08:00-18:00"."""
    rate_mib_s: Annotated[Whole, Field(ge=0, le=MOST_MIB_S)] | None = None
    """Without it there is no limit; 0: nothing is copied."""


class LimitsTable(Model):
    """The rate at which the runs of a job may read."""

    rate_mib_s: Annotated[Whole, Field(ge=1, le=MOST_MIB_S)] | None = None
    """MiB a second of all disks of a run together, outside of all windows."""
    windows: tuple[RateWindowTable, ...] = ()
    """The first window that is open counts."""
    timezone: Annotated[Text, AfterValidator(zone)] = "UTC"
    """The time zone of the windows, by its IANA name."""

    @model_validator(mode="after")
    def _limits_something(self) -> LimitsTable:
        if self.rate_mib_s is None and not self.windows:
            raise problem("limits nothing", "Give rate_mib_s or windows, or leave limits out.")
        return self

    def limits(self) -> Limits:
        return Limits(
            _bytes(self.rate_mib_s),
            tuple(Window(_bytes(w.rate_mib_s), hours.parse(w.when)) for w in self.windows),
            ZoneInfo(self.timezone),
        )


def _bytes(rate_mib_s: int | None) -> float | None:
    return None if rate_mib_s is None else float(rate_mib_s * MIB)
