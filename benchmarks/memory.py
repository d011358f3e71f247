"""Measures the peak memory of one cycle of the engine, in its own process.

    python -m benchmarks.memory CAPACITY_GIB DATA_MIB

The cycle is a full copy with a new digest map, a delta of a sixteenth, and a rescan. Prints JSON:
the peak resident memory of the interpreter alone (before the imports of this package), the peak at
the end, and the seconds of each step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter


def peak_kib(process: str = "self") -> int:
    """VmHWM of a process; getrusage would count the memory of the parent at the fork."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise SystemExit(f"no VmHWM in /proc/{process}/status")


def children_peak_kib() -> int:
    """The sum over all children that run now."""
    lists = Path("/proc/self/task").glob("*/children")
    return sum(peak_kib(pid) for text in lists for pid in text.read_text().split())


def main() -> None:
    interpreter = peak_kib()
    import tempfile

    from benchmarks.disks.pattern import PatternDisk
    from vreplica.delta.block_hash import ALGORITHM
    from vreplica.delta.copy import modes
    from vreplica.delta.copy.pipeline import copy
    from vreplica.delta.copy.spec import CopySpec
    from vreplica.extents import Extents
    from vreplica.points.digestmap.digest_map import DigestMap

    capacity, pieces = int(float(sys.argv[1]) * 2**30), int(sys.argv[2])
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        digests = DigestMap.create(
            Path(folder) / "map", capacity_bytes=capacity, algorithm=ALGORITHM
        )
        for point, mode in enumerate(("full", "delta", "rescan")):
            source = PatternDisk(capacity, pieces, seed=1 + point)
            target = PatternDisk(capacity, 1)
            if mode == "full":
                plan = modes.full(source.allocated(), Extents.empty(), capacity)
            elif mode == "delta":
                changed = Extents.from_array(source.allocated().array[::16])
                plan = modes.delta(changed, capacity)
            else:
                plan = modes.rescan(source.allocated(), digests.not_zero(), capacity)
            started = perf_counter()
            pending = digests.begin_run(str(point))
            copy(
                CopySpec(
                    source,
                    target,
                    plan.extents,
                    known=digests if plan.use_known else None,
                    sink=pending,
                    seed=digests.seed,
                    source_zero=plan.source_zero,
                    target_zero=plan.target_zero,
                )
            )
            digests.seal(pending)
            digests.apply(str(point))
            seconds[mode] = perf_counter() - started
            assert target.written == plan.extents.total
        digests.close()
    print(json.dumps({"interpreter_kib": interpreter, "peak_kib": peak_kib(), "seconds": seconds}))


if __name__ == "__main__":
    main()
