"""Runs one copy by the engine as a process, for comparison with other programs.

    python -m benchmarks.peers.ours full|rescan|delta SOURCE.vmdk TARGET.vmdk [--map MAP] ...

Prints one line of JSON: the seconds of the engine, from opening the disks to the committed digest
map, and of its parts, the counts of the copy, and the peak memory of all its processes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.memory import children_peak_kib, peak_kib
from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.delta.copy import modes
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.extents import Extents
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk

BASE = "base"
"""The recovery point that the digest maps of benchmarks belong to."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    config = VddkConfig(isolation=options.isolation)
    here = VddkConnection(read_only=False)
    started = perf_counter()
    source = open_vddk_disk(config, here, str(options.source))
    target = open_vddk_disk(config, here, str(options.target), read_only=False)
    capacity = source.capacity_bytes
    digests = None
    if options.mode == "full":
        plan = modes.full(source.allocated(), target.allocated(), capacity)
        if options.map is not None:
            digests = DigestMap.create(options.map, capacity_bytes=capacity, algorithm=ALGORITHM)
    else:
        digests = DigestMap.open(options.map, latest_point=BASE)
        if options.mode == "delta":
            rows = np.loadtxt(options.extents, np.int64, ndmin=2)
            plan = modes.delta(Extents.from_array(rows), capacity)
        else:
            plan = modes.rescan(source.allocated(), digests.not_zero(), capacity)
    sizes = {name: getattr(options, name) for name in ("io_size", "batch_size", "depth")}
    ready = perf_counter()
    pending = digests.begin_run("next") if digests is not None else None
    stats = copy(
        CopySpec(
            source,
            target,
            plan.extents,
            known=digests if plan.use_known else None,
            sink=pending,
            seed=digests.seed if digests is not None else 0,
            source_zero=plan.source_zero,
            target_zero=plan.target_zero,
            **{name: size for name, size in sizes.items() if size},
        )
    )
    copied = perf_counter()
    if digests is not None and pending is not None:
        digests.seal(pending)
        digests.apply("next")
        digests.close()
    # The helpers end with their disks.
    looked = perf_counter()
    peaks = {"engine": peak_kib(), "helpers": children_peak_kib()}
    looking = perf_counter() - looked
    source.close()
    target.close()
    ended = perf_counter() - looking
    return {
        "engine_s": ended - started,
        "open_s": ready - started,
        "copy_s": copied - ready,
        "close_s": ended - copied,
        "peak_kib": peaks,
        **stats.to_dict(),
    }


def make_map(disk_path: Path, map_path: Path) -> None:
    """Makes the digest map of a disk as it is now, for the recovery point `base`."""
    with open_vddk_disk(VddkConfig(isolation=False), VddkConnection(), str(disk_path)) as disk:
        rebuild(map_path, disk, hash_blocks, point=BASE, algorithm=ALGORITHM).close()


def main() -> None:
    parser = argparse.ArgumentParser(description="One copy by the engine.")
    parser.add_argument("mode", choices=("full", "rescan", "delta"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--map", type=Path)
    parser.add_argument("--extents", type=Path, help='"start end" lines, in bytes')
    parser.add_argument("--isolation", action="store_true", help="library in helper processes")
    for name in ("--io-size", "--batch-size", "--depth"):
        parser.add_argument(name, type=int)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
