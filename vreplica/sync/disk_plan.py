"""Describes the plan of the next run for one disk."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.delta.copy.modes import CopyMode


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """The plan of the next run for one disk: a mode, and the reason for it."""

    key: int
    label: str
    capacity_bytes: int
    mode: CopyMode
    reason: str
    digest_map_problem: str | None = None
    """The reason why a delta will have no digest map, so that it cannot audit change tracking."""
