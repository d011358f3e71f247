"""The engine: read -> hash -> ship -> apply. Knows only Disk, extents and errors."""

from vreplica.delta.compare import CompareReport, compare
from vreplica.delta.control import Control
from vreplica.delta.hash import ALGORITHM, hash_blocks
from vreplica.delta.modes import CopyPlan
from vreplica.delta.pipeline import DigestSink, KnownDigests, copy
from vreplica.delta.spotcheck import SpotCheck, SpotChecked
from vreplica.delta.stats import CopyProgress, CopyStats

__all__ = [
    "ALGORITHM",
    "CompareReport",
    "Control",
    "CopyPlan",
    "CopyProgress",
    "CopyStats",
    "DigestSink",
    "KnownDigests",
    "SpotCheck",
    "SpotChecked",
    "compare",
    "copy",
    "hash_blocks",
]
