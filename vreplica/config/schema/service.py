"""`[service]`: the database of `vreplica-sync serve`, and how many runs go on at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from vreplica.config.schema.base import Model, Secret, Text, Whole, problem
from vreplica.config.schema.schedule import Duration
from vreplica.scheduling.planner import ConcurrencyLimits


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise problem("is not an address with a port", 'Write it as "127.0.0.1:9464".')
    return value


class ServiceTable(Model):
    """`vreplica-sync serve`: its database, and how many runs go on at a time."""

    database: Secret | None = None
    """Where the URL of a PostgreSQL database is kept; None: SQLite in state_dir."""
    lease: Duration = timedelta(seconds=30)
    """How long a mover that does not answer keeps its runs; a third more until they are given
    away."""
    runs: Whole = Field(default=1000, ge=1)
    """All movers together."""
    runs_per_mover: Whole = Field(default=8, ge=1, le=256)
    runs_per_host: Whole = Field(default=4, ge=1)
    runs_per_datastore: Whole = Field(default=4, ge=1)
    exceptions: dict[Text, Annotated[Whole, Field(ge=0)]] = {}
    """Limits of their own, by `host:NAME` or `datastore:NAME`."""
    metrics: Annotated[Text, AfterValidator(_listen)] | None = None
    """Where Prometheus finds metrics; None: nowhere."""

    @model_validator(mode="after")
    def _lease_is_no_hair_trigger(self) -> ServiceTable:
        if self.lease < timedelta(seconds=5):
            raise problem("has a lease below 5 s", "A short pause of the machine would end it.")
        return self

    def limits(self) -> ConcurrencyLimits:
        return ConcurrencyLimits(
            self.runs_per_host, self.runs_per_datastore, self.runs, dict(self.exceptions)
        )
