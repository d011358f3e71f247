"""`[jobs.NAME]`: one VM, its replica, and how it is replicated; `[defaults]`: for all jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vreplica.config.schema.base import Model, Switch, Text, Whole, problem
from vreplica.config.schema.guest import GuestTable
from vreplica.config.schema.limits import LimitsTable
from vreplica.config.schema.preference import PreferTable
from vreplica.config.schema.schedule import ScheduleTable
from vreplica.points import MAX_POINTS, Retention
from vreplica.sync.job import Transport


class DefaultsTable(Model):
    """Keys of a job. In the table `defaults` they are for all jobs that do not set them."""

    transport: Transport = Transport.AUTO
    """The way of reading and writing disks; auto: VDDK where the file names it, else NFC."""
    quiesce: Literal["try", "require", "never"] = "try"
    """Whether the guest is quiesced for the source's snapshot."""
    # The limits are those of vSphere's VirtualMachineGuestQuiesceSpec.
    quiesce_timeout_min: Whole = Field(default=10, ge=5, le=240)
    """Minutes that the guest has for quiescing."""
    quiesce_attempts: Whole = Field(default=3, ge=1, le=20)
    """Attempts before `try` takes the snapshot without quiescing."""
    require: Literal["crash", "filesystem", "application"] = "crash"
    """The lowest consistency level of a recovery point; a run that cannot reach it fails."""
    on_cbt_loss: Literal["ask", "rescan", "fail"] = "ask"
    """The action when changed block tracking cannot say what changed."""
    on_replica_change: Literal["stop", "discard"] = "stop"
    """The action when somebody else has changed the replica since its newest point."""
    keep: Whole = Field(default=7, ge=1, le=MAX_POINTS)
    """The newest recovery points to keep."""
    keep_hourly: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    """Beside those, the newest point of each of so many hours."""
    keep_daily: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    """The same for days."""
    keep_weekly: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    """The same for weeks."""
    parallel_disks: Whole = Field(default=2, ge=1, le=16)
    """Disks that are copied at the same time."""
    limits: LimitsTable | None = None
    """The rate at which runs may read."""
    audit_percent: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Percent of the blocks that change tracking calls unchanged, to be read and compared."""
    keep_undone_days: Whole | None = Field(default=14, ge=1, le=3650)
    """Days for which an undo keeps what was written in service."""
    prefer: PreferTable | None = None
    """The points that boot in place of the newest where no final sync is made."""
    schedule: ScheduleTable | None = None
    """When the service runs the job; without it, the job is run by hand."""

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
                f"keep, keep_hourly, keep_daily and keep_weekly keep too many points: {error}",
                "Keep fewer; where keep is below 3 it counts as 3.",
            ) from None
        return self

    def retention(self) -> Retention:
        return Retention(self.keep, self.keep_hourly, self.keep_daily, self.keep_weekly)


class SourceTable(Model):
    """The VM to replicate."""

    site: Text
    vm: Text
    """A name, an inventory path, a moref (vm-12) or an instance UUID."""


class DestinationTable(Model):
    """The replica's site and place there."""

    site: Text
    datastore: Text
    name: Text
    """The name of the replica VM."""
    host: Text | None = None
    resource_pool: Text | None = None
    folder: Text | None = None
    networks: dict[str, str] = {}
    """Networks of the source, each with the network of the destination to use for it."""
    keep_mac: Switch = False
    """Give the replica the MAC addresses of the source."""
    keep_bios_uuid: Switch = True
    """Give the replica the BIOS UUID of the source."""
    test_network: Text | None = None
    """The isolated network of test failovers."""
    new_vtpm: Switch = False
    """Give the replica of a source with a virtual TPM a new, empty one."""
    storage_policy: Text | None = None
    """The id of a storage policy for a new replica, such as one that encrypts."""


class JobTable(DefaultsTable):
    """A VM and its replica."""

    source: SourceTable
    destination: DestinationTable
    exclude_disks: frozenset[Text] = frozenset()
    """Labels of disks that are not replicated, such as "Hard disk 2"."""
    require_complete: Switch = False
    """Refuse to run where the source has anything that a replica does not get."""
    allow_plain_replica: Switch = False
    """Replicate an encrypted source to a replica that is not encrypted."""
    guest: GuestTable | None = None
    """The guest's account for scripts, and its addresses at the destination."""
