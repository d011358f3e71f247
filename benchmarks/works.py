"""What is compared: the work, who does it, how it is set up again, how the result is checked.

    full-flat       4 GiB at 40 %, flat VMDK to flat VMDK
    full-sparse     the same, monolithicSparse to monolithicSparse
    rescan          1 % changed somewhere, flat; the digests of the target are known
    delta           the changed extents are known, flat
    delta-sparse    the same into a sparse VMDK

Every contender has a target of its own. A contender with "sync" is durable at its end; the
engine always is, so that without sync it runs with fsync made empty (nosync.c).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import testdisk
from benchmarks.ours import make_map
from benchmarks.testdisk import FORMS, Recipe, TestDisk
from vreplica.units import BLOCK, GIB
from vreplica.vddk import Library

HERE = Path(__file__).parent


def nothing() -> None:
    """For a contender that has nothing to prepare or to check."""


@dataclass(frozen=True)
class Contender:
    """`role`: "ours", "peer", or "floor" for the least that is possible."""

    name: str
    role: str
    command: list[str]
    prepare: Callable[[], None] = nothing
    check: Callable[[], None] = nothing
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    name: str
    what: str
    contenders: list[Contender]


class Bench:
    """The disks of one run, made when they are first asked for."""

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
            testdisk.make(path, self.disk, form, changed=changed)
        return path

    def empty(self, name: str, form: str) -> Path:
        """A fresh, empty VMDK; an old one is removed."""
        path = self.folder / f"{name}.vmdk"
        self.remove(path)
        Library.load().create(path, self.disk.recipe.capacity, FORMS[form])
        return path

    def remove(self, path: Path) -> None:
        for old in (path, flat(path)):
            old.unlink(missing_ok=True)

    def replica(self, name: str, form: str) -> Path:
        """A target that holds the base: made once, then only taken back."""
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

    def take_back(self, path: Path, form: str) -> None:
        """The blocks that were changed get the base's content again."""
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
        return [sys.executable, "-m", "benchmarks.ours", *map(str, arguments)]

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


def full(bench: Bench, form: str) -> Work:
    source = bench.source(form, changed=False)
    data = flat if form == "flat" else (lambda path: path)
    made: list[Contender] = []

    def ours(name: str, *, sync: bool, flags: list[str]) -> None:
        path = bench.folder / f"out-{len(made)}.vmdk"
        made.append(
            Contender(
                name,
                "ours",
                bench.ours("full", source, path, "--map", path.with_suffix(".map"), *flags),
                lambda: (bench.empty(path.stem, form), None)[1],
                bench.same(path, form, changed=False),
                {} if sync else {"LD_PRELOAD": str(bench.nosync)},
            )
        )

    def peer(
        name: str, command: Callable[[Path], list[str]], role: str = "peer", *, check: bool = True
    ) -> None:
        path = bench.folder / f"out-{len(made)}.vmdk"
        made.append(
            Contender(
                name,
                role,
                command(path),
                lambda: bench.remove(path),
                bench.same(path, form, changed=False) if check else nothing,
            )
        )

    subformat = "monolithicFlat" if form == "flat" else "monolithicSparse"
    convert = ["qemu-img", "convert", "-f", "vmdk", "-O", "vmdk", "-o", f"subformat={subformat}"]
    ours("vreplica, hashing every block", sync=False, flags=[])
    ours("vreplica, library in helper processes", sync=False, flags=["--isolation"])
    peer("qemu-img convert", lambda path: [*convert, str(source), str(path)])
    peer(
        "qemu-img convert -W -m 16",
        lambda path: [*convert, "-W", "-m", "16", str(source), str(path)],
    )
    if form == "flat":
        peer(
            "nbdcopy, flat file to file",
            lambda path: ["nbdcopy", str(flat(source)), str(flat(path))],
            check=False,
        )
    else:
        # nbdcopy needs a target that is there.
        peer(
            "nbdcopy, qemu-nbd at both ends, 1 MiB requests",
            lambda path: ["sh", "-c", _by_nbd(source, path, subformat, bench.disk)],
        )
    peer(
        "cp --sparse=always of the data file",
        lambda path: ["cp", "--sparse=always", str(data(source)), str(data(path))],
        "floor",
        check=False,
    )
    ours("vreplica, durable", sync=True, flags=[])
    peer(
        "qemu-img convert, then sync",
        lambda path: then_sync([*convert, str(source), str(path)], data(path)),
        "durable peer",
    )
    share = f"{bench.disk.recipe.capacity / GIB:g} GiB at 40 %"
    return Work(f"full-{form}", f"{share}, {form} VMDK to {form} VMDK", made)


def _by_nbd(source: Path, target: Path, subformat: str, disk: TestDisk) -> str:
    create = f"qemu-img create -q -f vmdk -o subformat={subformat} {target}"
    served = f"[ qemu-nbd -r -f vmdk {source} ] [ qemu-nbd -f vmdk {target} ]"
    copied = f"nbdcopy --request-size=1048576 -- {served}"
    return f"{create} {disk.recipe.capacity} && {copied}"


def rescan(bench: Bench) -> Work:
    source = bench.source("flat", changed=True)
    ours = bench.replica("rescan-ours", "flat")
    theirs = bench.replica("rescan-rsync", "flat")
    same = bench.replica("rescan-memcmp", "flat")
    maps = [bench.folder / name for name in ("rescan.map", "rescan.map.base")]
    make_map(ours, maps[1])

    def reset() -> None:
        bench.take_back(ours, "flat")
        restore_map(*maps)

    made = [
        Contender(
            name,
            "ours",
            bench.ours("rescan", source, ours, "--map", maps[0], *flags),
            reset,
            bench.same(ours, "flat", changed=True),
            {"LD_PRELOAD": str(bench.nosync)},
        )
        for name, flags in (
            ("vreplica rescan by digests", []),
            ("vreplica rescan, helper processes", ["--isolation"]),
        )
    ]
    if (blocksync := shutil.which("blocksync-fast")) is not None:
        made.append(_blocksync(bench, blocksync, source))
    made.append(
        Contender(
            "rsync --inplace --no-whole-file",
            "peer",
            [
                *("rsync", "--inplace", "--no-whole-file", "--ignore-times"),
                *(str(flat(source)), str(flat(theirs))),
            ],
            lambda: bench.take_back(theirs, "flat"),
            bench.same(theirs, "flat", changed=True),
        )
    )
    made.append(
        Contender(
            "C memcmp of the allocated bytes, both sides",
            "floor",
            [str(bench.floor), "memcmp", str(flat(source)), str(flat(same)), str(bench.allocated)],
        )
    )
    return Work("rescan", "1 % changed, nobody knows where; flat", made)


def _blocksync(bench: Bench, program: str, source: Path) -> Contender:
    """blocksync-fast with a file of XXH3 digests, as it is meant for repeated runs."""
    target = bench.replica("rescan-blocksync", "flat")
    digests, base = bench.folder / "blocksync.digests", bench.folder / "blocksync.base"
    command = [
        *(program, "-s", str(flat(source)), "-d", str(flat(target)), "-f", str(digests)),
        *("--block-size=64K", "--algo=XXH3"),
    ]
    first = [*command[:2], str(flat(target)), *command[3:]]
    digests.unlink(missing_ok=True)
    subprocess.run([*first, "--make-digest"], check=True, capture_output=True)
    shutil.copyfile(digests, base)

    def reset() -> None:
        bench.take_back(target, "flat")
        shutil.copyfile(base, digests)

    return Contender(
        "blocksync-fast, file of XXH3 digests",
        "peer",
        command,
        reset,
        bench.same(target, "flat", changed=True),
    )


def delta(bench: Bench, form: str) -> Work:
    source = bench.source(form, changed=True)
    ours = bench.replica(f"delta-ours-{form}", form)
    maps = [bench.folder / name for name in (f"delta-{form}.map", f"delta-{form}.map.base")]
    make_map(ours, maps[1])

    def reset() -> None:
        bench.take_back(ours, form)
        restore_map(*maps)

    def mine(name: str, flags: list[str]) -> Contender:
        return Contender(
            name,
            "ours",
            bench.ours(
                "delta", source, ours, "--map", maps[0], "--extents", bench.reported, *flags
            ),
            reset,
            bench.same(ours, form, changed=True),
        )

    made = [
        mine("vreplica delta, durable", []),
        mine("vreplica delta, durable, helper processes", ["--isolation"]),
    ]
    if form == "flat":
        least = bench.replica("delta-floor", form)
        made.append(
            Contender(
                "C pread/pwrite, fdatasync",
                "floor",
                [
                    *(str(bench.floor), "copy", str(flat(source)), str(flat(least))),
                    *(str(bench.reported), "sync"),
                ],
                lambda: bench.take_back(least, form),
                bench.same(least, form, changed=True),
            )
        )
    made += [_commit(bench, source, form), _nbdcopy(bench, source, form)]
    name = "delta" if form == "flat" else f"delta-{form}"
    return Work(name, f"{len(bench.disk.reported)} known extents, {form}", made)


def _commit(bench: Bench, source: Path, form: str) -> Contender:
    """qemu-img commit of an overlay that holds the reported extents."""
    target = bench.replica(f"delta-commit-{form}", form)
    overlay, kept = bench.folder / f"overlay-{form}.qcow2", bench.folder / f"kept-{form}.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", target, "-F", "vmdk", kept], check=True
    )
    library = Library.load()
    script = []
    pieces = bench.folder / "piece"
    with library.open(source) as handle:
        data = bytearray()
        for start, end in bench.disk.reported:
            view = memoryview(bytearray(end - start))
            handle.read_into(start, view)
            script.append(f"write -q -s {pieces}.{len(script)} {start} {end - start}")
            Path(f"{pieces}.{len(script) - 1}").write_bytes(view)
            data.clear()
    subprocess.run(
        ["qemu-io", "-f", "qcow2", str(kept)],
        input="\n".join(script) + "\nquit\n",
        text=True,
        check=True,
        capture_output=True,
    )
    for number in range(len(script)):
        Path(f"{pieces}.{number}").unlink()

    def reset() -> None:
        bench.take_back(target, form)
        shutil.copyfile(kept, overlay)

    return Contender(
        "qemu-img commit of an overlay, then sync",
        "peer",
        then_sync(
            ["qemu-img", "commit", "-q", str(overlay)], flat(target) if form == "flat" else target
        ),
        reset,
        bench.same(target, form, changed=True),
    )


def _nbdcopy(bench: Bench, source: Path, form: str) -> Contender:
    """nbdcopy of a file that has data only where something was reported."""
    target = bench.replica(f"delta-nbdcopy-{form}", form)
    holes = bench.folder / f"holes-{form}.raw"
    with Library.load().open(source) as handle, holes.open("wb") as file:
        file.truncate(bench.disk.recipe.capacity)
        for start, end in bench.disk.reported:
            view = memoryview(bytearray(end - start))
            handle.read_into(start, view)
            file.seek(start)
            file.write(view)
    command = [
        "nbdcopy",
        "--request-size=65536",
        "--destination-is-zero",
        "--flush",
        "--",
        str(holes),
    ]
    served = (
        ["[", "nbdkit", "--exit-with-parent", "file", str(flat(target)), "]"]
        if form == "flat"
        else ["[", "qemu-nbd", "-f", "vmdk", str(target), "]"]
    )
    return Contender(
        "nbdcopy of a file with holes",
        "peer",
        [*command, *served],
        lambda: bench.take_back(target, form),
        bench.same(target, form, changed=True),
    )


def restore_map(path: Path, base: Path) -> None:
    path.with_name(path.name + ".pending").unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=always", base, path], check=True)


def works(folder: Path, capacity_gib: float, only: list[str] | None) -> Iterator[Work]:
    """One after the other: the targets of a work are gone when the next one starts."""
    bench = Bench(folder, capacity_gib)
    for name, make in (
        ("full-flat", lambda: full(bench, "flat")),
        ("full-sparse", lambda: full(bench, "sparse")),
        ("rescan", lambda: rescan(bench)),
        ("delta", lambda: delta(bench, "flat")),
        ("delta-sparse", lambda: delta(bench, "sparse")),
    ):
        if only is None or name in only:
            yield make()
            for path in folder.iterdir():
                if not path.name.startswith("source-") and path.suffix in {
                    ".vmdk",
                    ".map",
                    ".qcow2",
                }:
                    path.unlink()
