"""The table of a job file that says how fast a job's runs may read.

limits = { rate_mib_s = 50 }
limits = { windows = [{ when = "mon-fri 08:00-18:00", rate_mib_s = 10 }], timezone = "Asia/Tokyo" }
"""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from vreplica import hours
from vreplica.config.schema.base import Model, Text, Whole, problem
from vreplica.config.schema.schedule import Span, zone
from vreplica.delta.throttle import Window
from vreplica.sync.job import Limits
from vreplica.units import MIB

MOST_MIB_S = 1 << 20


class RateWindowTable(Model):
    """Without a rate: no limit while it lasts; 0: nothing is copied."""

    when: Span
    rate_mib_s: Annotated[Whole, Field(ge=0, le=MOST_MIB_S)] | None = None


class LimitsTable(Model):
    rate_mib_s: Annotated[Whole, Field(ge=1, le=MOST_MIB_S)] | None = None
    windows: tuple[RateWindowTable, ...] = ()
    timezone: Annotated[Text, AfterValidator(zone)] = "UTC"

    @model_validator(mode="after")
    def _says_something(self) -> LimitsTable:
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
