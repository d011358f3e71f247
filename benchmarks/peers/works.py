"""Defines the works: the contenders of each, their set-up before a run, the check of the result.

    full-flat       4 GiB at 40 %, flat VMDK to flat VMDK
    full-sparse     the same, monolithicSparse to monolithicSparse
    rescan          1 % changed at unknown places, flat; the digests of the target are known
    delta           the changed extents are known, flat
    delta-sparse    the same into a sparse VMDK

Every contender has its own target. The engine is always durable at its end, so it is compared with
peers that are too. For a comparison with the others it runs without syncs (nosync.c).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.disks.generated import TestDisk
from benchmarks.peers.bench import (
    IMAGEIO,
    Bench,
    Contender,
    Work,
    flat,
    nothing,
    restore_map,
    then_sync,
)
from benchmarks.peers.delta_work import delta
from benchmarks.peers.ours import make_map
from vreplica.units import BLOCK, GIB


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
                durable=sync,
            )
        )

    def peer(
        name: str,
        command: Callable[[Path], list[str]],
        role: str = "peer",
        *,
        durable: bool = False,
        check: bool = True,
    ) -> None:
        path = bench.folder / f"out-{len(made)}.vmdk"
        made.append(
            Contender(
                name,
                role,
                command(path),
                lambda: bench.remove(path),
                bench.same(path, form, changed=False) if check else nothing,
                durable=durable,
            )
        )

    subformat = "monolithicFlat" if form == "flat" else "monolithicSparse"
    convert = ["qemu-img", "convert", "-f", "vmdk", "-O", "vmdk", "-o", f"subformat={subformat}"]
    several = [*convert, "-W", "-m", "16"]

    ours("vreplica, hashing every block", sync=True, flags=[])
    ours("vreplica, library in helper processes", sync=True, flags=["--isolation"])
    for name, command in (("qemu-img convert", convert), ("qemu-img convert -W -m 16", several)):

        def run(path: Path, command: list[str] = command) -> list[str]:
            return [*command, str(source), str(path)]

        peer(name, run)
        peer(
            f"{name}, then sync",
            lambda path, run=run: then_sync(run(path), data(path)),
            durable=True,
        )
    if form == "flat":
        copied = ["nbdcopy", "--flush", str(flat(source))]
        peer(
            "nbdcopy --flush, flat file to file",
            lambda path: [*copied, str(flat(path))],
            durable=True,
            check=False,
        )
        if find_spec("ovirt_imageio") is not None:
            peer(
                "ovirt-imageio, NBD at both ends",
                lambda path: ["sh", "-c", _by_imageio(source, path, bench.disk)],
                durable=True,
                check=False,
            )
    else:
        # nbdcopy needs a target that exists.
        peer(
            "nbdcopy --flush, qemu-nbd at both ends, 1 MiB requests",
            lambda path: ["sh", "-c", _by_nbd(source, path, subformat, bench.disk)],
            durable=True,
        )
    peer(
        "cp --sparse=always of the data file, then sync",
        lambda path: then_sync(
            ["cp", "--sparse=always", str(data(source)), str(data(path))], data(path)
        ),
        "floor",
        durable=True,
        check=False,
    )
    ours("vreplica, without the syncs", sync=False, flags=[])
    if form == "flat":
        peer(
            "nbdcopy, flat file to file",
            lambda path: ["nbdcopy", str(flat(source)), str(flat(path))],
            check=False,
        )
    share = f"{bench.disk.recipe.capacity / GIB:g} GiB at 40 %"
    return Work(f"full-{form}", f"{share}, {form} VMDK to {form} VMDK", made)


def _by_nbd(source: Path, target: Path, subformat: str, disk: TestDisk) -> str:
    create = f"qemu-img create -q -f vmdk -o subformat={subformat} {target}"
    served = f"[ qemu-nbd -r -f vmdk {source} ] [ qemu-nbd -f vmdk {target} ]"
    copied = f"nbdcopy --flush --request-size=1048576 -- {served}"
    return f"{create} {disk.recipe.capacity} && {copied}"


def _by_imageio(source: Path, target: Path, disk: TestDisk) -> str:
    copied = " ".join([*IMAGEIO, str(flat(source)), "raw", str(flat(target)), "raw"])
    return f"truncate --size {disk.recipe.capacity} {flat(target)} && {copied}"


def rescan(bench: Bench) -> Work:
    source = bench.source("flat", changed=True)
    ours = bench.replica("rescan-ours", "flat")
    theirs = bench.replica("rescan-rsync", "flat")
    same = bench.replica("rescan-memcmp", "flat")
    maps = [bench.folder / name for name in ("rescan.map", "rescan.map.base")]
    make_map(ours, maps[1])

    def reset() -> None:
        bench.restore(ours, "flat")
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
            lambda: bench.restore(theirs, "flat"),
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
    changed = len(bench.disk.changed_blocks) * BLOCK
    return Work("rescan", "1 % changed at unknown places, flat", made, changed)


def _blocksync(bench: Bench, program: str, source: Path) -> Contender:
    """blocksync-fast with a file of XXH3 digests, which is its mode for repeated runs."""
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
        bench.restore(target, "flat")
        shutil.copyfile(base, digests)

    return Contender(
        "blocksync-fast, file of XXH3 digests",
        "peer",
        command,
        reset,
        bench.same(target, "flat", changed=True),
    )


def works(folder: Path, capacity_gib: float, only: list[str] | None) -> Iterator[Work]:
    """Yields work after work, and removes the targets of a work before the next one."""
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
