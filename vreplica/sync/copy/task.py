"""Describes one disk of a run: what is copied from where to where."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.sync.replica.shape import Origin
from vreplica.sync.source.cbt import Settled
from vreplica.vsphere.model import VmDisk


@dataclass(frozen=True, slots=True)
class DiskTask:
    """One disk to bring over: as the source's snapshot has it, to the replica's leaf."""

    source: VmDisk
    target: VmDisk
    settled: Settled
    origin: Origin | None = None
    """What a new disk of the replica is a copy of; None for one that was there, or is empty."""
    resumes: str | None = None
    """The point that its digest map was of when the run that is gone on with began; "": of none.
    None: begun now."""
