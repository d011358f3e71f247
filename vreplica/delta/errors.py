"""Errors of copies and comparisons themselves; disks have their own errors."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.errors import VReplicaError


@dataclass(eq=False)
class CopyCancelled(VReplicaError):
    template = "the copy was cancelled after {done_bytes} of {total_bytes} bytes"
    remedy = "Start the job again; nothing has to be cleaned up."
    done_bytes: int
    total_bytes: int
