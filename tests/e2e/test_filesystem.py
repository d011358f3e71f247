"""An ext4 file system arrives clean and with equal files: the guest's view of a replica."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.sync.cycle import run
from vreplica.units import BLOCK, MIB

SIZE = 96 * MIB


def make_tree(root: Path, seed: int) -> Path:
    """Files of many sizes, deep folders, a link, an empty file."""
    source = random.Random(seed)
    for number in range(60):
        folder = root / f"d{number % 7}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        size = source.choice([0, 1, 100, 5_000, 70_000, 1_500_000])
        (folder / f"file{number}").write_bytes(source.randbytes(size))
    (root / "link").symlink_to("d0/e0/file0")
    return root


def tree_of(root: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if "lost+found" not in path.parts:
                key = str(path.relative_to(root))
                found[key] = str(path.readlink()) if path.is_symlink() else path.read_bytes()
    return found


@pytest.fixture
def make_ext4(tool: Callable[[str, str], str], tmp_path: Path) -> Callable[[Path, str], Path]:
    mke2fs = tool("mke2fs", "e2fsprogs")

    def make(tree: Path, name: str) -> Path:
        image = tmp_path / name
        with image.open("wb") as file:
            file.truncate(SIZE)
        # The same UUID and hash seed in both versions, so that they differ by their files only.
        same = "5d3b1d2a-0000-4000-8000-000000000001"
        command = [mke2fs, "-q", "-t", "ext4", "-U", same, "-E", f"hash_seed={same}"]
        subprocess.run([*command, "-d", str(tree), str(image)], check=True)
        return image

    return make


def read_back(tool: Callable[[str, str], str], image: Path, target: Path) -> dict[str, bytes | str]:
    """fsck without repairing, then every file out of the image."""
    fsck = subprocess.run(
        [tool("e2fsck", "e2fsprogs"), "-fn", str(image)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert fsck.returncode == 0, fsck.stdout
    target.mkdir()
    dump = [tool("debugfs", "e2fsprogs"), "-R", f"rdump / {target}", str(image)]
    subprocess.run(dump, check=True, capture_output=True)
    return tree_of(target)


def test_an_ext4_file_system_arrives_clean_after_full_and_after_delta(
    world, tool: Callable[[str, str], str], make_ext4: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", 1)
    image = make_ext4(tree, "first.raw")
    vm = world.make_vm(image)
    job = world.job(vm)
    first = run(job)
    arrived = world.image(
        1, world.point_disks(job, first.point.snapshot)[2000], tmp_path / "arrived1.raw"
    )
    assert read_back(tool, arrived, tmp_path / "out1") == tree_of(tree)

    # The guest changes files: what differs between the two images is written as a guest would.
    (tree / "d1" / "new").write_bytes(random.Random(9).randbytes(3_000_000))
    (tree / "d0" / "e0" / "file0").unlink(missing_ok=True)
    second_image = make_ext4(tree, "second.raw")
    world.power_on(vm)
    old, new = image.read_bytes(), second_image.read_bytes()
    for offset in range(0, SIZE, BLOCK):
        if old[offset : offset + BLOCK] != new[offset : offset + BLOCK]:
            world.write(vm, 2000, offset, new[offset : offset + BLOCK])
    second = run(job)
    assert 0 < second.written_bytes < SIZE // 2
    arrived = world.image(
        1, world.point_disks(job, second.point.snapshot)[2000], tmp_path / "arrived2.raw"
    )
    assert arrived.read_bytes() == new
    assert read_back(tool, arrived, tmp_path / "out2") == tree_of(tree)
