"""What the operator decides before a failover begins. It is journalled and does not change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from vreplica.points import Level


class FinalSync(Enum):
    """The one question: a final synchronisation before the replica starts?"""

    YES = "yes"
    NO = "no"


class OnShutdownTimeout(Enum):
    """What to do when the guest does not shut down in time, or cannot be asked."""

    ABORT = "abort"
    """Leave the source as it is, switch the job on again. Point A stays."""
    USE_QUIESCED = "use-quiesced"
    """Boot from point A; the source is powered off to fence it, its writes since A are lost."""
    POWER_OFF = "power-off"
    """Power the source off and sync once more: that point says `crash`; A is kept."""
    WAIT = "wait"
    """Go on waiting."""


class OnError(Enum):
    """What a group does when a member fails."""

    STOP = "stop"
    """Begin nobody else; what was begun stays where it is, to be resumed or undone."""
    CONTINUE = "continue"
    """Go on with the others, without those that need the one that failed."""


@dataclass(frozen=True, slots=True)
class FailoverChoices:
    """The operator's word. Times in seconds."""

    final_sync: FinalSync = FinalSync.YES
    on_shutdown_timeout: OnShutdownTimeout = OnShutdownTimeout.ABORT
    shutdown_timeout_s: float = 600.0
    heartbeat_timeout_s: float = 300.0
    point: str | None = None
    """For No: the recovery point to boot; None: the newest of the highest level."""
    require: Level = Level.CRASH
    """Refuse to boot anything lower."""
    source_lost: bool = False
    """The operator declares the source lost: it is not contacted."""
    max_downtime_s: float | None = None
    """Repeat the pass while the source runs until one takes no longer; None: one pass."""
    disconnect_source_nics: bool = False
    """Once the source is off its cards stay off the network, should somebody start it again."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "final_sync": self.final_sync.value,
            "on_shutdown_timeout": self.on_shutdown_timeout.value,
            "shutdown_timeout_s": self.shutdown_timeout_s,
            "heartbeat_timeout_s": self.heartbeat_timeout_s,
            "point": self.point,
            "require": self.require.value,
            "source_lost": self.source_lost,
            "max_downtime_s": self.max_downtime_s,
            "disconnect_source_nics": self.disconnect_source_nics,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        return cls(
            final_sync=FinalSync(value["final_sync"]),
            on_shutdown_timeout=OnShutdownTimeout(value["on_shutdown_timeout"]),
            shutdown_timeout_s=value["shutdown_timeout_s"],
            heartbeat_timeout_s=value["heartbeat_timeout_s"],
            point=value["point"],
            require=Level(value["require"]),
            source_lost=value["source_lost"],
            # Journals of before have neither.
            max_downtime_s=value.get("max_downtime_s"),
            disconnect_source_nics=value.get("disconnect_source_nics", False),
        )
