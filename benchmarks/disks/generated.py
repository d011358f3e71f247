"""Generates test disks from a recipe: content in clusters with holes between, then changes.

    base      |..RRRRR....TT..FFFFFFFFF...R.....TTTTTT...|   R random  T log text  F system files
    changes        ^^ ^       =     ^^^                      ^ short runs rewritten in a block
                                                             = a block rewritten with the same data
    reported     [=====]     [=]  [=====]                    the extents that CBT would report

`TestDisk(recipe)` plans the disk; `base()` and `changes()` yield the data to write; `reported` and
`changed_blocks` are what a copier is told and what it should find. The same recipe gives the same
disk on one machine, but not on another, because F is taken from the files of this machine.

    python -m benchmarks.disks.generated OUT.vmdk --form sparse [--changed] [--capacity-gib 4] ...

makes a disk as a VMDK, in any form that the native library writes: all except seSparse.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreplica.extents import Extents
from vreplica.units import BLOCK, GIB, MIB
from vreplica.vddk.abi import DiskType
from vreplica.vddk.library import Library

_POOL = 32 * MIB
_KINDS = ("random", "text", "files")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a test disk depends on."""

    capacity: int = 4 * GIB
    allocated: float = 0.40
    """Share of the blocks that hold something."""
    largest_cluster: int = 8 * MIB
    changed: float = 0.01
    """Share of the blocks of the disk that `changes()` really changes."""
    redundant_blocks: int = 200
    kinds: tuple[str, ...] = _KINDS
    seed: int = 20_240_229


@cache
def _system_files() -> bytes:
    """Files of an operating system: the libraries of this machine, by name."""
    pool = bytearray()
    for path in sorted(Path("/usr/lib").rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            pool += path.read_bytes()
        if len(pool) >= _POOL:
            break
    return bytes(pool) * (_POOL // len(pool) + 1) if pool else b""


class TestDisk:
    """The content and the changes of one recipe."""

    __test__ = False  # no test class, although pytest would take it for one

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe or Recipe()
        self.clusters = self._place_clusters()
        self._runs = self._place_changes()

    # -- content ----------------------------------------------------------------------------

    def base(self) -> Iterator[tuple[int, bytes]]:
        """Yields (offset, data) of every cluster, ascending."""
        rng = np.random.default_rng([self.recipe.seed, 1])
        for index, (start, end) in enumerate(self.clusters):
            kind = self.recipe.kinds[index % len(self.recipe.kinds)]
            if kind == "random":
                yield start, rng.bytes(end - start)
            else:
                pool = self._text if kind == "text" else self._files
                at = int(rng.integers(0, len(pool) - (end - start)))
                yield start, pool[at : at + end - start]

    @cached_property
    def _text(self) -> bytes:
        """Lines of a log, about 3:1 for a compressor."""
        rng = np.random.default_rng([self.recipe.seed, 2])
        numbers = rng.integers(0, 2**63, (20_000, 3)).tolist()
        lines = "".join(
            f"2024-02-{a % 28 + 1:02}T{b % 24:02}:{c % 60:02}:{a % 59:02}.{b % 1000:03}Z "
            f"host{c % 40:02} service[{a % 32768}]: session {b:016x} opened for user{c % 500}\n"
            for a, b, c in numbers
        ).encode()
        return lines * (_POOL // len(lines) + 1)

    @property
    def _files(self) -> bytes:
        return _system_files() or self._text

    # -- changes ----------------------------------------------------------------------------

    @cached_property
    def reported(self) -> Extents:
        """The extents that CBT would report: changed and redundant blocks and near neighbours."""
        held = np.concatenate((self.changed_blocks, self.redundant_blocks))
        rows = Extents.from_blocks(np.sort(held), BLOCK, self.recipe.capacity)
        return rows.coalesce(BLOCK)

    @property
    def changed_blocks(self) -> NDArray[np.int64]:
        """Numbers of the blocks whose content differs after the changes."""
        return self._changed

    def changes(self) -> Iterator[tuple[int, bytes]]:
        """Yields (offset, data): short runs inside the changed blocks, whole sectors."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        for offset, length in self._runs:
            yield offset, rng.bytes(length)

    def changed(self) -> Iterator[tuple[int, bytes]]:
        """Yields (offset, data) of every cluster after the changes, ascending, each byte once."""
        runs = self.changes()
        run = next(runs, None)
        for start, data in self.base():
            cluster, end = bytearray(data), start + len(data)
            while run is not None and run[0] < end:
                at = run[0] - start
                cluster[at : at + len(run[1])] = run[1]
                run = next(runs, None)
            yield start, bytes(cluster)

    def _place_clusters(self) -> list[tuple[int, int]]:
        recipe, rng = self.recipe, np.random.default_rng([self.recipe.seed, 0])
        blocks = recipe.capacity // BLOCK
        wanted = round(blocks * recipe.allocated)
        if not wanted:
            return []
        largest = max(1, recipe.largest_cluster // BLOCK)
        sizes: list[int] = []
        while sum(sizes) < wanted:
            size = int(np.exp2(rng.uniform(0, np.log2(largest))))
            sizes.append(min(size, wanted - sum(sizes)))
        gaps = rng.multinomial(blocks - wanted, np.full(len(sizes), 1 / max(1, len(sizes))))
        at, placed = 0, []
        for size, gap in zip(sizes, gaps.tolist(), strict=True):
            at += gap
            placed.append((at * BLOCK, (at + size) * BLOCK))
            at += size
        return placed

    def _place_changes(self) -> list[tuple[int, int]]:
        """Places the short runs; sets the changed and the redundant blocks."""
        recipe, rng = self.recipe, np.random.default_rng([self.recipe.seed, 4])
        held = np.concatenate(
            [np.empty(0, np.int64), *(np.arange(s // BLOCK, e // BLOCK) for s, e in self.clusters)]
        )
        wanted = min(len(held), round(recipe.capacity // BLOCK * recipe.changed))
        changed: set[int] = set()
        while len(changed) < wanted:
            first = int(rng.integers(0, len(held)))
            for block in held[first : first + int(rng.integers(1, 6))].tolist():
                if len(changed) < wanted:
                    changed.add(block)
        self._changed = np.array(sorted(changed), np.int64)
        rest = np.setdiff1d(held, self._changed)
        count = min(recipe.redundant_blocks, len(rest))
        self.redundant_blocks = np.sort(rng.choice(rest, count, replace=False))
        runs = []
        for block in self._changed.tolist():
            for _ in range(int(rng.integers(1, 9))):
                sector = int(rng.integers(0, BLOCK // 512 - 8))
                runs.append((block * BLOCK + sector * 512, 512 * int(rng.integers(1, 9))))
        # Ascending by block; runs that overlap stay in the order of their writes.
        return runs


# -- as VMDK files --------------------------------------------------------------------------

FORMS = {
    "sparse": DiskType.MONOLITHIC_SPARSE,
    "flat": DiskType.MONOLITHIC_FLAT,
    "split-sparse": DiskType.SPLIT_SPARSE,
    "split-flat": DiskType.SPLIT_FLAT,
    "stream": DiskType.STREAM_OPTIMIZED,
    "vmfs-flat": DiskType.VMFS_FLAT,
    "vmfs-thin": DiskType.VMFS_THIN,
}

CHAINS = {
    "hosted-delta": (DiskType.MONOLITHIC_SPARSE, DiskType.MONOLITHIC_SPARSE),
    "vmfs-delta": (DiskType.VMFS_FLAT, DiskType.VMFS_SPARSE),
}
"""A base beside the disk, NAME-base.vmdk, and a link that holds the changes."""


def make(path: Path, disk: TestDisk, form: str, *, changed: bool = False) -> None:
    """Writes the disk as a new VMDK; `changed`: as it is after `changes()`."""
    library = Library.load()
    if form in CHAINS:
        base, link = CHAINS[form]
        below = path.with_name(f"{path.stem}-base{path.suffix}")
        _write(library, below, disk, base, disk.base())
        with library.open(below) as handle:
            library.create_child(handle, path, link)
        if changed:
            change(path, disk)
    else:
        # In one pass from front to back, which is the only way to write a stream.
        content = disk.changed() if changed else disk.base()
        _write(library, path, disk, FORMS[form], content)


def _write(
    library: Library,
    path: Path,
    disk: TestDisk,
    form: DiskType,
    content: Iterator[tuple[int, bytes]],
) -> None:
    library.create(path, disk.recipe.capacity, form)
    with library.open(path, read_only=False) as handle:
        for offset, data in content:
            view = memoryview(data)
            for at in range(0, len(data), MIB):
                handle.write_from(offset + at, view[at : at + MIB])


def change(path: Path, disk: TestDisk) -> None:
    """Applies `changes()` to a VMDK that holds `base()`."""
    with Library.load().open(path, read_only=False) as handle:
        for offset, data in disk.changes():
            handle.write_from(offset, memoryview(data))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a test disk.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--form", choices=[*FORMS, *CHAINS], default="sparse")
    parser.add_argument("--changed", action="store_true", help="as it is after the changes")
    parser.add_argument("--capacity-gib", type=float, default=4.0)
    parser.add_argument("--allocated", type=float, default=0.40)
    parser.add_argument("--change-share", type=float, default=0.01)
    parser.add_argument("--redundant-blocks", type=int, default=Recipe().redundant_blocks)
    parser.add_argument("--kind", action="append", choices=_KINDS, help="default: all, in turn")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    options = parser.parse_args()
    disk = TestDisk(
        Recipe(
            capacity=round(options.capacity_gib * GIB) // BLOCK * BLOCK,
            allocated=options.allocated,
            changed=options.change_share,
            redundant_blocks=options.redundant_blocks,
            kinds=tuple(options.kind or _KINDS),
            seed=options.seed,
        )
    )
    make(options.path, disk, options.form, changed=options.changed)


if __name__ == "__main__":
    main()
