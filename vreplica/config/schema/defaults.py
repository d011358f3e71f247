"""`[defaults]`: keys that every job may set, with the values for jobs that do not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vreplica.config.schema.base import Model, Whole, problem
from vreplica.config.schema.limits import LimitsTable
from vreplica.config.schema.schedule import ScheduleTable
from vreplica.points import MAX_POINTS, Retention


class DefaultsTable(Model):
    """What a job may say and, for all jobs, the table `defaults`."""

    transport: Literal["auto", "vddk", "nfc"] = "auto"
    quiesce: Literal["try", "require", "never"] = "try"
    quiesce_timeout_min: Whole = Field(default=10, ge=5, le=240)
    """The limits are those of vSphere's VirtualMachineGuestQuiesceSpec."""
    quiesce_attempts: Whole = Field(default=3, ge=1, le=20)
    require: Literal["crash", "filesystem", "application"] = "crash"
    on_cbt_loss: Literal["ask", "rescan", "fail"] = "ask"
    on_replica_change: Literal["stop", "discard"] = "stop"
    keep: Whole = Field(default=7, ge=1, le=MAX_POINTS)
    keep_hourly: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    keep_daily: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    keep_weekly: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    parallel_disks: Whole = Field(default=2, ge=1, le=16)
    limits: LimitsTable | None = None
    audit_percent: Annotated[float, Field(ge=0, le=100)] = 0.1
    schedule: ScheduleTable | None = None

    @model_validator(mode="after")
    def _level_needs_quiescing(self) -> DefaultsTable:
        if self.quiesce == "never" and self.require != "crash":
            raise problem(
                f'quiesce = "never" cannot reach require = "{self.require}"',
                'Set quiesce = "try" or "require", or require = "crash".',
            )
        return self

    @model_validator(mode="after")
    def _chain_takes_all_points(self) -> DefaultsTable:
        try:
            self.retention()
        except ValueError as error:
            raise problem(
                f"keep, keep_hourly, keep_daily and keep_weekly are too much together: {error}",
                "Keep fewer; where keep is below 3 it counts as 3.",
            ) from None
        return self

    def retention(self) -> Retention:
        return Retention(self.keep, self.keep_hourly, self.keep_daily, self.keep_weekly)
