"""Names what the operator decides before a failover begins. The journal keeps it unchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Self

from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.points import Level
from vreplica.stored import build


class FinalSync(Enum):
    """A final synchronisation before the replica starts, or none."""

    YES = "yes"
    NO = "no"


class OnShutdownTimeout(Enum):
    """The action where the guest does not shut down in time, or cannot be asked."""

    ABORT = "abort"
    """Give up: leave the source as it is, switch the job on again. Point A stays."""
    USE_QUIESCED = "use-quiesced"
    """Boot point A. The source is powered off to fence it; its writes since A are lost."""
    POWER_OFF = "power-off"
    """Power the source off and make a final sync. Its point has the level `crash`; A is kept."""
    WAIT = "wait"
    """Wait without a limit. The source is never powered off."""


class OnError(Enum):
    """The action of a group where a member fails."""

    STOP = "stop"
    """Begin no other member. Those that were begun stay as they are, to be resumed or undone."""
    CONTINUE = "continue"
    """Continue with the others, except those that need the member that failed."""


FIRST: Final = (
    *("final_sync", "on_shutdown_timeout", "shutdown_timeout_s", "heartbeat_timeout_s"),
    *("point", "require", "source_lost"),
)
"""The choices that a journal of the first version has already."""


@dataclass(frozen=True, slots=True)
class FailoverChoices:
    """The operator's choices for one failover."""

    final_sync: FinalSync = FinalSync.YES
    on_shutdown_timeout: OnShutdownTimeout = OnShutdownTimeout.ABORT
    shutdown_timeout_s: float = 600.0
    heartbeat_timeout_s: float = 300.0
    boot: PointChoice = NEWEST
    """The point to boot where no final sync makes one."""
    require: Level = Level.CRASH
    """The lowest level that may boot."""
    source_lost: bool = False
    """The source is lost: it is not contacted."""
    max_downtime_s: float | None = None
    """Passes are repeated while the source runs until one takes no longer; None: one pass."""
    disconnect_source_nics: bool = False
    """Disconnect the network cards of the source once it is off, in case somebody starts it."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "final_sync": self.final_sync.value,
            "on_shutdown_timeout": self.on_shutdown_timeout.value,
            "shutdown_timeout_s": self.shutdown_timeout_s,
            "heartbeat_timeout_s": self.heartbeat_timeout_s,
            **self.boot.to_dict(),
            "require": self.require.value,
            "source_lost": self.source_lost,
            "max_downtime_s": self.max_downtime_s,
            "disconnect_source_nics": self.disconnect_source_nics,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Raises Damaged. Journals of older versions do not have all of the choices."""
        return replace(build(cls, value, needs=FIRST), boot=PointChoice.from_dict(value))


@dataclass(frozen=True, slots=True)
class UndoChoices:
    """The operator's choices for one undo."""

    even_without_source: bool = False
    """Stop the replica although the source cannot be read: then neither may run."""
    discard_written: bool = False
    """Throw away what was written in service."""
    on_shutdown_timeout: OnShutdownTimeout = OnShutdownTimeout.ABORT
    """For the replica's guest: abort, power-off or wait."""
    shutdown_timeout_s: float = 600.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "undo": {
                "even_without_source": self.even_without_source,
                "discard_written": self.discard_written,
                "on_shutdown_timeout": self.on_shutdown_timeout.value,
                "shutdown_timeout_s": self.shutdown_timeout_s,
            }
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Reads them from a journal's choices. Raises Damaged; older journals have none."""
        return build(cls, value.get("undo", {}))
