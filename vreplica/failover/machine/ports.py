"""What a failover may ask of, and do to, the two sites and the job: handed in, never imported.

Questions read afresh at each call; nothing here is remembered. Effects are called only inside
the journal's fence, after their intent is on disk, and must be harmless when repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from vreplica.points import Level, RecoveryPoint

Effect = tuple[str, Callable[[], None]]
"""Its name in the journal, and the call."""


class Sides(Protocol):
    """Source, replica and job of one failover. Every call may raise VReplicaError."""

    def tasks(self) -> dict[str, list[str]]:
        """side -> keys of the vCenter tasks that were started since this was asked last."""

    # -- the job ----------------------------------------------------------------------------

    def disable_job(self, failover: str) -> None:
        """No sync of the job starts any more; returns when none is in flight."""

    def enable_job(self, failover: str) -> None:
        """Syncs may start again."""

    def points(self) -> tuple[RecoveryPoint, ...]:
        """The recovery points, oldest first, as the destination has them."""

    def sync(
        self, point: str, known_level: Level | None, fence: Callable[[], None]
    ) -> RecoveryPoint:
        """One replication cycle that makes recovery point `point`.

        `known_level`: what a source that is off is worth; None: quiesce and see. `fence` is
        called before every write and stops the copy by raising.
        """

    def replica_is_frozen(self) -> bool:
        """The replica's present state is kept in a recovery point: syncs overwrite nothing.

        Not so when a failback begins: its replica is the original VM with its last state.
        """

    def freeze_replica(self, failover: str) -> None:
        """Keep that state in a recovery point of its own; refused where that is not safe."""

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        """The failover is permanent: which way the job replicates from now on, if at all.

        `booted`: the point that the replica was started from; `level`: how the source went down;
        `lost`: the source is not to be contacted.
        """

    # -- the source -------------------------------------------------------------------------

    def source_is_off(self) -> bool:
        """Its power state, read now."""

    def source_time(self) -> datetime:
        """Now, by the clock of the source's vCenter."""

    def source_started_since(self, time: datetime) -> datetime | None:
        """When it was started first since that time of its vCenter's clock; None: never."""

    def source_can_shut_down(self) -> bool:
        """VMware Tools are running in its guest."""

    def shut_down_source(self) -> None:
        """Ask the guest to shut down; returns at once."""

    def source_was_pulled(self) -> bool:
        """Somebody powered it off after its guest was last asked to shut down."""

    def power_off_source(self) -> None:
        """Pull its plug. Returns when it is off."""

    def power_on_source(self) -> None:
        """Returns when it is on."""

    def connect_source(self, connect: bool) -> None:
        """Its network cards, for its next start; it is off."""

    # -- the replica ------------------------------------------------------------------------

    def replica_is_on(self) -> bool:
        """Its power state, read now."""

    def replica_stands_on(self) -> str | None:
        """The recovery point that its disks hold, untouched; None when they hold another state."""

    def replica_is_touched(self) -> bool:
        """Others changed it since its latest point, and the job says that this is discarded.

        Raises ReplicaTouched where the job does not say so.
        """

    def put_replica_on(self, point: str) -> None:
        """Revert the (powered-off) replica to a recovery point."""

    def preparations(self) -> Sequence[Effect]:
        """What has to be done to the (powered-off) replica before its power-on."""

    def power_on_replica(self) -> None:
        """Returns when it is on."""

    def finishings(self) -> Sequence[Effect]:
        """What has to be done in the replica's guest once it answers."""

    def power_off_replica(self) -> None:
        """Returns when it is off."""

    def replica_answers(self) -> bool:
        """Tools of its guest report a heartbeat."""
