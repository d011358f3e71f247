"""Disks of 62 TiB cost what they hold, not what they could hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.vddk.library import Library

TIB = 1 << 40
CAPACITY = 62 * TIB

QUERY = """
import json, resource, sys
from vreplica.vddk.config import VddkConfig
from vreplica.vddk.library import Library
from vreplica.vddk.allocated_blocks import BlockQuery

library = Library.load(VddkConfig(isolation=False))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
chunk, start, blocks = 131072, 0, []
with library.open(sys.argv[1]) as handle:
    capacity = handle.capacity_bytes // 512
    while start < capacity:
        count = min(524288 * chunk, -(-(capacity - start) // chunk) * chunk)
        blocks += handle.query_blocks(BlockQuery(start=start, count=count, chunk=chunk)).tolist()
        start += count
grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"blocks": blocks, "grown_kib": grown_kib}))
"""


@pytest.fixture
def large_chain(library: Library, tmp_path: Path) -> Path:
    """Two links of 62 TiB with a few grains at far ends of each."""
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    library.create(base, CAPACITY)
    with library.open(base, read_only=False) as handle:
        for offset in (0, 31 * TIB, CAPACITY - 65536):
            handle.write_from(offset, memoryview(b"\1" * 65536))
        library.create_child(handle, child)
    with library.open(child, read_only=False) as handle:
        handle.write_from(45 * TIB + 512, memoryview(b"\2" * 512))
    return child


def test_allocated_blocks_of_62_tib_come_within_64_mib(large_chain: Path) -> None:
    """How long it takes is told by benchmarks/native/speed.sh."""
    done = subprocess.run(
        [sys.executable, "-c", QUERY, str(large_chain)], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    chunk = 131072
    last = CAPACITY // 512 - chunk
    assert result["blocks"] == [
        [offset // 512 // chunk * chunk, chunk] for offset in (0, 31 * TIB, 45 * TIB, last * 512)
    ]
    assert result["grown_kib"] < 64 * 1024


def test_qemu_reads_the_far_ends_of_62_tib(
    large_chain: Path, tool: Callable[[str, str], str]
) -> None:
    used = sum(file.stat().st_blocks * 512 for file in large_chain.parent.glob("*.vmdk"))
    assert used < 64 << 20
    reads = [
        f"read -P {pattern} {offset} {size}"
        for pattern, offset, size in [
            (1, 0, 65536),
            (0, 65536, 1 << 20),
            (1, 31 * TIB, 65536),
            (2, 45 * TIB + 512, 512),
            (0, 45 * TIB + 1024, 65536),
            (1, CAPACITY - 65536, 65536),
        ]
    ]
    command = [tool("qemu-io", "qemu-utils"), "-r", "-f", "vmdk"]
    for read in reads:
        command += ["-c", read]
    done = subprocess.run([*command, large_chain], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
