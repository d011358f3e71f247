"""What asking for changed blocks can fail with."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.errors import CbtError


@dataclass(eq=False)
class CbtUnsupported(CbtError):
    template = "changed block tracking is not possible for this VM: {reason}"
    remedy = "Without it every run reads all allocated blocks. Hardware version 7 is the least."
    reason: str


@dataclass(eq=False)
class CbtNotActive(CbtError):
    template = "changed block tracking is not active: {reason}"
    remedy = "Tracking begins at the next snapshot, power-on or migration; the next run checks."
    reason: str


@dataclass(eq=False)
class CbtEnableRefused(CbtError):
    """Enabled on top of a snapshot, tracking is silently incomplete (since vSphere 6.5)."""

    template = "changed block tracking is not switched on while snapshots exist: {snapshots}"
    remedy = "Delete the VM's snapshots (Snapshots > Delete all), then start again."
    snapshots: str


@dataclass(eq=False)
class ChangeIdInvalid(CbtError):
    template = "changeId {change_id} is not valid any more: {reason}"
    remedy = "The whole disk has to be read once; only what differs is shipped."
    change_id: str
    reason: str


@dataclass(eq=False)
class CbtQueryFailed(CbtError):
    template = "changed areas of disk {disk_key} cannot be had: {reason} ({fault})"
    remedy = "The whole disk has to be read once; only what differs is shipped."
    disk_key: int
    fault: str
    reason: str


@dataclass(eq=False)
class CbtCoverage(CbtError):
    """The pages do not cover the disk: using them would lose data."""

    template = "the answer about changed areas of disk {disk_key} cannot be trusted: {reason}"
    remedy = "The whole disk has to be read once; only what differs is shipped."
    disk_key: int
    reason: str
