"""Defines the delta works: all contenders know the changed extents.

ours         reads the reported extents, leaves out redundant blocks, writes, commits the digest map
commit       qemu-img commit of an overlay that holds the reported extents
nbdcopy      copies a file that has data only in the reported extents
imageio      copies the extents that a dirty bitmap names
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.bench import IMAGEIO, Bench, Contender, Work, flat, restore_map, then_sync
from benchmarks.peers.ours import make_map
from vreplica.units import BLOCK
from vreplica.vddk.library import Library


def delta(bench: Bench, form: str) -> Work:
    source = bench.source(form, changed=True)
    ours = bench.replica(f"delta-ours-{form}", form)
    maps = [bench.folder / name for name in (f"delta-{form}.map", f"delta-{form}.map.base")]
    make_map(ours, maps[1])

    def reset() -> None:
        bench.restore(ours, form)
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
            durable=True,
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
                lambda: bench.restore(least, form),
                bench.same(least, form, changed=True),
                durable=True,
            )
        )
    made += [_commit(bench, source, form), _nbdcopy(bench, source, form)]
    if find_spec("ovirt_imageio") is not None:
        made.append(_imageio_delta(bench, source, form))
    made += [
        Contender("the interpreter starts", "floor", [sys.executable, "-c", "pass"]),
        Contender("it imports numpy", "floor", [sys.executable, "-c", "import numpy"]),
    ]
    name = "delta" if form == "flat" else f"delta-{form}"
    changed = len(bench.disk.changed_blocks) * BLOCK
    return Work(name, f"{len(bench.disk.reported)} known extents, {form}", made, changed)


def _overlay(bench: Bench, source: Path, base: Path, path: Path, bitmap: str | None) -> None:
    """Makes a qcow2 on top of `base` with the reported extents, marked in `bitmap` if given."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "vmdk", path], check=True
    )
    if bitmap is not None:
        subprocess.run(["qemu-img", "bitmap", "--add", path, bitmap], check=True)
    script: list[str] = []
    pieces = [bench.folder / f"piece.{number}" for number in range(len(bench.disk.reported))]
    with Library.load().open(source) as handle:
        for piece, (start, end) in zip(pieces, bench.disk.reported, strict=True):
            view = memoryview(bytearray(end - start))
            handle.read_into(start, view)
            piece.write_bytes(view)
            script.append(f"write -q -s {piece} {start} {end - start}")
    subprocess.run(
        ["qemu-io", "-f", "qcow2", str(path)],
        input="\n".join(script) + "\nquit\n",
        text=True,
        check=True,
        capture_output=True,
    )
    for piece in pieces:
        piece.unlink()


def _commit(bench: Bench, source: Path, form: str) -> Contender:
    """qemu-img commit of an overlay that holds the reported extents."""
    target = bench.replica(f"delta-commit-{form}", form)
    overlay, kept = bench.folder / f"overlay-{form}.qcow2", bench.folder / f"kept-{form}.qcow2"
    _overlay(bench, source, target, kept, None)

    def reset() -> None:
        bench.restore(target, form)
        shutil.copyfile(kept, overlay)

    return Contender(
        "qemu-img commit of an overlay, then sync",
        "peer",
        then_sync(
            ["qemu-img", "commit", "-q", str(overlay)], flat(target) if form == "flat" else target
        ),
        reset,
        bench.same(target, form, changed=True),
        durable=True,
    )


def _nbdcopy(bench: Bench, source: Path, form: str) -> Contender:
    """nbdcopy of a file that has data only in the reported extents."""
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
        lambda: bench.restore(target, form),
        bench.same(target, form, changed=True),
        durable=True,
    )


def _imageio_delta(bench: Bench, source: Path, form: str) -> Contender:
    """ovirt-imageio of the extents that a dirty bitmap names, from qemu-nbd to qemu-nbd."""
    target = bench.replica(f"delta-imageio-{form}", form)
    overlay = bench.folder / f"dirty-{form}.qcow2"
    _overlay(bench, source, bench.source(form, changed=False), overlay, "changed")
    end = [str(flat(target)), "raw"] if form == "flat" else [str(target), "vmdk"]
    return Contender(
        "ovirt-imageio, dirty bitmap, NBD",
        "peer",
        [*IMAGEIO, str(overlay), "qcow2", *end, "--bitmap", "changed"],
        lambda: bench.restore(target, form),
        bench.same(target, form, changed=True),
        durable=True,
    )
