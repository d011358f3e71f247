"""Describes a run whose two sides are ready for the copy."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.sync.replica.shape import Shape
from vreplica.sync.replica.state import ReplicaState
from vreplica.sync.run_record import Resumable
from vreplica.sync.source.snapshot import SourceSnapshot
from vreplica.vsphere.model import VmInfo


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """Both sides, ready for the copy: the source has its snapshot, the replica its disks."""

    source: VmInfo
    snapshot: SourceSnapshot
    replica: ReplicaState
    shape: Shape
    resumed: Resumable | None = None
    """The run that this one continues."""
