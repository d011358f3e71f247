"""Disks for all suites: 512 MiB, 40 % allocated, flat and sparse, before and after changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.disks import generated
from benchmarks.disks.generated import Recipe, TestDisk
from vreplica.units import MIB

CAPACITY = 512 * MIB


@pytest.fixture(scope="session")
def bench_disk() -> TestDisk:
    return TestDisk(Recipe(capacity=CAPACITY, redundant_blocks=25))


@pytest.fixture(scope="session")
def vmdk(bench_disk: TestDisk, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`vmdk("flat", changed=True)` is the path of that disk, made once; do not write to it."""
    folder = tmp_path_factory.mktemp("disks")

    def make(form: str, *, changed: bool = False) -> Path:
        path = folder / f"{form}-{'changed' if changed else 'base'}.vmdk"
        if not path.exists():
            generated.make(path, bench_disk, form, changed=changed)
        return path

    return make


@pytest.fixture
def replica(vmdk: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """`replica("flat")` is a copy of the base to write to."""

    def make(form: str) -> Path:
        source, path = vmdk(form), tmp_path / f"replica-{form}.vmdk"
        if form == "flat":
            text = source.read_bytes().replace(source.stem.encode(), path.stem.encode())
            path.write_bytes(text)
            shutil.copyfile(
                source.with_name(source.stem + "-flat.vmdk"),
                path.with_name(path.stem + "-flat.vmdk"),
            )
        else:
            shutil.copyfile(source, path)
        return path

    return make
