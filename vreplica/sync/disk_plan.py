"""Describes what the next run does with one disk."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.delta.copy.modes import CopyMode


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """What the next run does with one disk, and why."""

    key: int
    label: str
    capacity_bytes: int
    mode: CopyMode
    reason: str
