"""`[service]`: the database of `vreplica-sync serve`, and its limits."""

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
    """The service (`vreplica-sync serve`): its database, and how many runs go on at a time."""

    database: Secret | None = None
    """The place of the URL of a PostgreSQL database; without it, SQLite in state_dir."""
    lease: Duration = timedelta(seconds=30)
    """A mover that does not answer is waited for so long, and a third more."""
    runs: Whole = Field(default=1000, ge=1)
    """Runs at a time, of all movers together."""
    runs_per_mover: Whole = Field(default=8, ge=1, le=256)
    """Runs at a time on one machine."""
    runs_per_host: Whole = Field(default=4, ge=1)
    """Runs at a time that read or write at one ESXi host."""
    runs_per_datastore: Whole = Field(default=4, ge=1)
    """Runs at a time that read or write one datastore."""
    exceptions: dict[Text, Annotated[Whole, Field(ge=0)]] = {}
    """Limits of single hosts and datastores, by host:SITE/NAME or datastore:SITE/NAME."""
    metrics: Annotated[Text, AfterValidator(_listen)] | None = None
    """The address at which Prometheus finds metrics."""

    @model_validator(mode="after")
    def _lease_is_long_enough(self) -> ServiceTable:
        if self.lease < timedelta(seconds=5):
            raise problem("has a lease below 5 s", "A short pause of the machine would end it.")
        return self

    def limits(self) -> ConcurrencyLimits:
        return ConcurrencyLimits(
            self.runs_per_host, self.runs_per_datastore, self.runs, dict(self.exceptions)
        )
