"""Describes a run that a failover makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vreplica.points import Level


def _keep_no_tasks(source: tuple[str, ...], destination: tuple[str, ...]) -> None:
    """Drops the keys: the failover keeps no record of tasks."""


@dataclass(frozen=True, slots=True)
class FailoverRun:
    """The failover behind a run. An ordinary run has none.

    Such a run works although the failover has disabled the job, is not bound by the job's limits
    (every minute is downtime), begins anew instead of resuming, and removes no point that the
    failover may still boot.
    """

    failover: str
    """Id of the failover."""
    known_level: Level | None = None
    """The level of a source that is off, where the failover saw how it went down."""
    started: Callable[[tuple[str, ...], tuple[str, ...]], None] = _keep_no_tasks
    """Gets the keys of the tasks that the run started, at the source and at the destination,
    also where the run fails."""
    journal: str = ""
    """The failover's journal (sync/claim/claim.py)."""
    must_hold: bool = False
    """The failover has claimed the replica before."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Entries of extraConfig that are set with every claim of the replica."""
