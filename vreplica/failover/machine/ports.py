"""Names what a failover asks of, and does to, the two sites and the job.

The state machine has no other way to a site. Questions read afresh at each call: nothing is
remembered. Effects are called only after their intent is in the journal, and are harmless when
repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from vreplica.failover.machine.errors import FailoverError
from vreplica.failover.machine.mark import Holding
from vreplica.points import Level, RecoveryPoint
from vreplica.points.side_branch import SideBranch

Effect = tuple[str, Callable[[], None]]
"""An effect: its name in the journal, and the call."""


@dataclass(frozen=True, slots=True)
class NamedVm:
    """A VM by its name and that of its site, for messages."""

    vm: str
    site: str

    def __str__(self) -> str:
        return f"{self.vm} at {self.site}"


@dataclass(frozen=True, slots=True)
class Written:
    """The size of what was written to a replica since the point that it was started from.

    `bytes_`: None where it is not known. `exact`: by change tracking, which answers for a VM that
    is off; else by the size of its newest disk files, which is about as much.
    """

    bytes_: int | None
    exact: bool


class Ports(Protocol):
    """Source, replica and job of one failover. Every call can raise VReplicaError."""

    def tasks(self) -> dict[str, list[str]]:
        """Side -> keys of the vCenter tasks that were started since the last call."""

    @property
    def target(self) -> str:
        """The job by its name, as the operator types it."""

    def names(self) -> tuple[NamedVm, NamedVm]:
        """Source and replica by their names. Does not contact the source. Raises no error."""

    # -- the replica's own mark -------------------------------------------------------------

    def check_free(self) -> None:
        """Raises ReplicaInFailover where a failover has the replica, whoever began it."""

    def hold(self, holding: Holding) -> None:
        """From now on each effect is done in this state of the journal. Sends nothing.

        The effects that claim the replica set the mark with the claim.
        """

    def check_held(self) -> None:
        """Raises FailoverNotHere where the replica is not in the hands of this journal."""

    def mark_replica(self) -> None:
        """Sets claim and mark on the replica, where they are still those of this journal.

        Raises FailoverNotHere.
        """

    def stays_claimed(self) -> bool:
        """True where the replica keeps claim and mark after a commit: it is in service then.

        False for a failback, whose commit gives the original VM back.
        """

    # -- the job ----------------------------------------------------------------------------

    def disable_job(self, failover: str) -> None:
        """Switches the job off. Returns when no run is in flight; none begins any more."""

    def enable_job(self, failover: str) -> None:
        """Switches the job on again."""

    def points(self) -> tuple[RecoveryPoint, ...]:
        """The recovery points, oldest first, as the destination has them."""

    def sync(
        self, point: str, known_level: Level | None, check_epoch: Callable[[], None]
    ) -> RecoveryPoint:
        """Runs the job once and makes the recovery point `point`.

        `known_level`: the level of a source that is off; None: quiesce and see. `check_epoch` is
        called before every write and stops the copy by raising.
        """

    def replica_state_is_kept(self) -> bool:
        """True where a recovery point keeps the replica's present state: a sync destroys nothing.

        False when a failback begins: its replica is the original VM, with its last state.
        """

    def keep_replica_state(self, failover: str) -> None:
        """Keeps that state in a recovery point of its own. Raises where that is not safe."""

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        """Makes the failover permanent: settles the direction in which the job replicates, if any.

        `booted`: the point that the replica was started from. `level`: how the source went down.
        `lost`: the source must not be contacted.
        """

    # -- the source -------------------------------------------------------------------------

    def check_source_is_reached(self) -> None:
        """Asks its host now. Raises SourceNotReached."""

    def check_can_sync(self) -> None:
        """Raises PreflightFailed where a sync would be refused now. Changes nothing.

        The preflight of a run. A run in flight has had it, and is waited for.
        """

    def source_is_off(self) -> bool:
        """Reads its power state now."""

    def check_source_can_run(self) -> None:
        """Asks its host now. Raises where the host does not answer, or the VM cannot be on."""

    def source_time(self) -> datetime:
        """The time by the clock of the source's vCenter."""

    def source_started_since(self, time: datetime) -> datetime | None:
        """The time of its first start since `time`, by its vCenter's clock; None: there is none."""

    def source_can_shut_down(self) -> bool:
        """True where VMware Tools are running in its guest."""

    def shut_down_source(self) -> None:
        """Asks the guest to shut down. Returns at once."""

    def source_was_powered_off(self) -> bool:
        """True where somebody powered it off after its guest was last asked to shut down."""

    def power_off_source(self) -> None:
        """Powers it off hard. Returns when it is off."""

    def power_on_source(self) -> None:
        """Powers it on. Returns when it is on."""

    def connect_source(self, connect: bool) -> None:
        """Connects or disconnects its network cards for its next start. It is off."""

    # -- the replica ------------------------------------------------------------------------

    def check_guest_rules(self) -> None:
        """Raises GuestRulesDoNotFit where the guest's customization would be refused later."""

    def replica_is_on(self) -> bool:
        """Reads its power state now."""

    def replica_stands_on(self) -> str | None:
        """The id of the recovery point that its disks hold; None: they hold another state."""

    def replica_is_changed(self) -> bool:
        """True where others changed it since its latest point, and the job discards changes.

        Raises ReplicaTouched where the job does not discard them.
        """

    def put_replica_on(self, point: str) -> None:
        """Reverts the replica, which is off, to a recovery point."""

    def before_power_on(self) -> Sequence[Effect]:
        """The effects on the replica, which is off, before its power-on."""

    def power_on_replica(self) -> None:
        """Powers it on. Returns when it is on."""

    def after_heartbeat(self) -> Sequence[Effect]:
        """The effects in the replica's guest once it answers."""

    def where_replica_runs(self) -> dict[str, Any]:
        """Its `host`, and the `addresses` and `networks` by which its guest is reached."""

    def power_off_replica(self) -> None:
        """Powers it off hard. Returns when it is off."""

    def replica_can_shut_down(self) -> bool:
        """True where VMware Tools are running in its guest."""

    def shut_down_replica(self) -> None:
        """Asks its guest to shut down. Returns at once."""

    def power_on_replica_again(self) -> None:
        """Powers it on as it is, after an undo that was dropped. Returns when it is on."""

    # -- what was written in service --------------------------------------------------------

    def side_branches(self) -> tuple[SideBranch, ...]:
        """The side branches of the replica."""

    def check_room_to_keep(self) -> None:
        """Raises NoRoomToKeep where the replica can take no further snapshot."""

    def written_in_service(self) -> int | None:
        """Bytes that changed since the booted point, by change tracking; None: not known."""

    def written_so_far(self) -> Written:
        """The same, also while it is on. Changes nothing."""

    def keep_side_branch(self, id_: str, level: Level, written_bytes: int | None) -> None:
        """Makes a snapshot of the replica, which is off, as the side branch `id_`."""

    def replica_answers(self) -> bool:
        """True where VMware Tools report a heartbeat of its guest."""


@contextmanager
def naming_sides(ports: Ports) -> Iterator[None]:
    """Inside, an error of the failover gets the names of both VMs and of the job."""
    try:
        yield
    except FailoverError as error:
        if not error.named:
            source, replica = ports.names()
            error.name_sides(str(source), str(replica), ports.target)
        raise


def bootable(ports: Ports) -> tuple[RecoveryPoint, ...]:
    """The recovery points, oldest first, and after them the side branches as points."""
    points = ports.points()
    return (*points, *side_points(points, ports.side_branches()))


def side_points(
    points: Sequence[RecoveryPoint], sides: Sequence[SideBranch]
) -> tuple[RecoveryPoint, ...]:
    """The side branches as points that boot where they are named."""
    bases = {p.id: p for p in points}
    return tuple(b.as_point(bases[b.point]) for b in sides if b.point in bases)
