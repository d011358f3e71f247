"""Contenders, works, and the disks of one run, which are made when they are first used."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.disks import generated
from benchmarks.disks.generated import FORMS, Recipe, TestDisk
from vreplica.units import BLOCK, GIB
from vreplica.vddk.library import Library

HERE = Path(__file__).parent


IMAGEIO = [sys.executable, "-m", "benchmarks.peers.imageio_copy"]


def nothing() -> None:
    """Does nothing, for a contender without preparation or check."""


@dataclass(frozen=True)
class Contender:
    """A program that does a work.

    `role`: "ours", "peer", or "floor" for the least that is possible. `durable`: the result is on
    stable storage when the program ends. Only programs with the same answer are compared.
    """

    name: str
    role: str
    command: list[str]
    prepare: Callable[[], None] = nothing
    check: Callable[[], None] = nothing
    environment: dict[str, str] = field(default_factory=dict)
    durable: bool = False


@dataclass(frozen=True)
class Work:
    name: str
    what: str
    contenders: list[Contender]
    changed_bytes: int | None = None
    """Bytes that really changed, in blocks of 64 KiB: a delta should write exactly these."""


class Bench:
    """The disks of one run, which are made when they are first used."""

    def __init__(self, folder: Path, capacity_gib: float) -> None:
        self.folder = folder
        self.disk = TestDisk(Recipe(capacity=round(capacity_gib * GIB) // BLOCK * BLOCK))
        self.floor = self._compiled("floor.c", "floor", [])
        self.nosync = self._compiled("nosync.c", "nosync.so", ["-shared", "-fPIC"])
        self.allocated = self._extents("allocated", self.disk.clusters)
        self.reported = self._extents("reported", list(self.disk.reported))

    def source(self, form: str, *, changed: bool) -> Path:
        path = self.folder / f"source-{form}-{'changed' if changed else 'base'}.vmdk"
        if not path.exists():
            generated.make(path, self.disk, form, changed=changed)
        return path

    def empty(self, name: str, form: str) -> Path:
        """Makes an empty VMDK in the place of an old one."""
        path = self.folder / f"{name}.vmdk"
        self.remove(path)
        Library.load().create(path, self.disk.recipe.capacity, FORMS[form])
        return path

    def remove(self, path: Path) -> None:
        for old in (path, flat(path)):
            old.unlink(missing_ok=True)

    def replica(self, name: str, form: str) -> Path:
        """A target that holds the base: made once, later only restored."""
        path = self.folder / f"{name}.vmdk"
        source = self.source(form, changed=False)
        if not path.exists():
            if form == "flat":
                text = source.read_bytes().replace(source.stem.encode(), path.stem.encode())
                path.write_bytes(text)
                subprocess.run(["cp", "--sparse=always", flat(source), flat(path)], check=True)
            else:
                shutil.copyfile(source, path)
        return path

    def restore(self, path: Path, form: str) -> None:
        """Gives the changed blocks the content of the base again."""
        source = self.source(form, changed=False)
        library = Library.load()
        with library.open(source) as base, library.open(path, read_only=False) as target:
            for start, end in self.disk.reported.split(1 << 20):
                view = memoryview(bytearray(end - start))
                base.read_into(start, view)
                target.write_from(start, view)
            target.flush()

    def same(self, path: Path, form: str, *, changed: bool) -> Callable[[], None]:
        def check() -> None:
            command = ["qemu-img", "compare", "-f", "vmdk", "-F", "vmdk"]
            source = self.source(form, changed=changed)
            done = subprocess.run([*command, source, path], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{path.name} is wrong: {done.stdout}")

        return check

    def ours(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "benchmarks.peers.ours", *map(str, arguments)]

    def _compiled(self, source: str, name: str, flags: list[str]) -> Path:
        path = self.folder / name
        subprocess.run(["cc", "-O2", *flags, "-o", path, HERE / source], check=True)
        return path

    def _extents(self, name: str, rows: list[tuple[int, int]]) -> Path:
        path = self.folder / f"{name}.txt"
        path.write_text("".join(f"{start} {end}\n" for start, end in rows))
        return path


def flat(path: Path) -> Path:
    """The data file of a flat VMDK."""
    return path.with_name(path.stem + "-flat.vmdk")


def then_sync(command: list[str], path: Path) -> list[str]:
    return ["sh", "-c", 'file=$1; shift; "$@" && sync -d "$file"', "sh", str(path), *command]


def restore_map(path: Path, base: Path) -> None:
    path.with_name(path.name + ".pending").unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=always", base, path], check=True)
