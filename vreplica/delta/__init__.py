"""The engine: read -> hash -> ship -> apply. Knows only Disk, extents and errors.

Comparing is a part of its own, for which a copy does not wait at its start: `delta.compare`,
`delta.spotcheck`.
"""

from vreplica.delta.control import Control
from vreplica.delta.hash import ALGORITHM, hash_blocks
from vreplica.delta.modes import CopyPlan
from vreplica.delta.pipeline import DigestSink, KnownDigests, copy
from vreplica.delta.stats import CopyProgress, CopyStats

__all__ = [
    "ALGORITHM",
    "Control",
    "CopyPlan",
    "CopyProgress",
    "CopyStats",
    "DigestSink",
    "KnownDigests",
    "copy",
    "hash_blocks",
]
