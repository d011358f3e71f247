"""`demo`: replicates a VM on an embedded lab, through the functions of the library.

lab up ─► a VM with two disks ─► run: full ─► the guest writes ─► run: delta ─► verify
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.guard import guarded
from vreplica.cli.options import command
from vreplica.cli.render.output import Output
from vreplica.cli.signals import Cancellation
from vreplica.units import human_size

if TYPE_CHECKING:
    from vreplica.points import RecoveryPoint
    from vreplica.sync.report import RunReport, VerifyReport


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The results of every step of the demo."""

    runs: tuple[RunReport, ...]
    written: dict[str, int]
    verified: VerifyReport
    points: tuple[RecoveryPoint, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "runs": [run.to_dict() for run in self.runs],
            "guest_wrote": self.written,
            "verified": self.verified.to_dict(),
            "points": [point.to_dict() for point in self.points],
            "equal": self.verified.equal,
            "duration_s": self.seconds,
        }


@click.command()
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Put the lab into this folder (it must be empty) and keep it.",
)
@command
def demo(out: Output, keep: Path | None) -> int:
    """Replicate a VM, then its changes, between two vCenters on this machine.

    Starts a lab of two sites in a temporary folder, copies a VM with two disks (2 GiB thin,
    1 GiB thick), lets its guest write, replicates the changes, and compares both sides block by
    block. Needs no VMware and no network, and cleans up. Ends with 8 when anything differs.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.BadParameter(f"{keep} is not empty", param_hint="--keep")
    with Cancellation(out, "the lab is taken down", unwind=True) as cancellation:
        with _lab_folder(out, keep) as folder:
            code = guarded(out, lambda: _demo(out, folder, cancellation, temporary=keep is None))
        if keep is not None and not code:
            out.note(f"\nStart the lab again: vreplica-sync lab up --dir {keep}")
            out.note(f"then, for example:   vreplica-sync plan --config {keep}/jobs.toml")
    return cancellation.code or code


def _demo(out: Output, folder: Path, cancellation: Cancellation, *, temporary: bool) -> int:
    report = _play(out, folder, cancellation, temporary)
    out.answer("demo", report.to_dict(), lambda: _shown(report))
    return exit_codes.OK if report.verified.equal else exit_codes.DIFFERENT


def _play(out: Output, folder: Path, cancellation: Cancellation, temporary: bool) -> DemoReport:
    import vreplica
    import vreplica.lab
    from vreplica.cli.commands.demo.vm import VM_NAME, make_vm, write_as_guest
    from vreplica.cli.render.progress import Watcher

    started = time.monotonic()

    def chapter(title: str) -> None:
        if cancellation.control.cancelled:
            raise KeyboardInterrupt
        out.note(title)

    chapter(f"Starting two vCenters with ESXi hosts in {folder}")
    site = vreplica.lab.up(folder, temporary=temporary)["sites"][0]["name"]
    control = vreplica.lab.LabControl(folder)
    chapter(f"Making {VM_NAME} in {site}: 2 GiB thin with files and a log, 1 GiB thick with data")
    make_vm(control, site)

    job = vreplica.load(folder / "jobs.toml")["web01"]
    with Watcher(out, job.name) as watcher:
        chapter(f"First run: all allocated blocks go to {job.placement.name}")
        first = vreplica.run(job, listener=watcher, control=cancellation.control)
        chapter(f"{VM_NAME} keeps running, and its guest writes:")
        written = write_as_guest(control, site)
        for what, size in written.items():
            out.note(f"  {human_size(size):>8}  {what}")
        chapter("Second run: the changed blocks, without those that the replica has already")
        second = vreplica.run(job, listener=watcher, control=cancellation.control)
        chapter("Comparing the new recovery point with the source, block by block")
        verified = vreplica.verify(job, listener=watcher, control=cancellation.control)
    points = vreplica.recovery_points(job)
    seconds = time.monotonic() - started
    return DemoReport((first, second), written, verified, points, seconds)


@contextmanager
def _lab_folder(out: Output, keep: Path | None) -> Iterator[Path]:
    """A folder for the lab, which is stopped at the end. Without `keep` the folder is removed."""
    import vreplica.lab

    folder = keep.absolute() if keep else Path(tempfile.mkdtemp(prefix="vreplica-demo-"))
    try:
        yield folder
    finally:
        vreplica.lab.down(folder)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _shown(report: DemoReport) -> Iterator[Any]:
    text = render.text

    yield ""
    columns = ("capacity>", "allocated>", "looked at>", "read>", "written>", "time>")
    table = text.grid("run", "disk", *columns)
    for run in report.runs:
        for disk in run.disks:
            allocated = disk.allocated_bytes
            table.add_row(
                str(disk.mode),
                disk.label,
                human_size(disk.capacity_bytes),
                "-" if allocated is None else human_size(allocated),
                human_size(disk.looked_at_bytes),
                human_size(disk.read_bytes),
                human_size(disk.written_bytes),
                text.duration(disk.seconds),
            )
    yield table
    yield ""
    yield from text.points(report.runs[-1].job, report.points)
    yield ""
    yield from text.verify(report.verified)
    written = [human_size(run.written_bytes) for run in report.runs]
    capacity = human_size(sum(disk.capacity_bytes for disk in report.runs[0].disks))
    yield ""
    yield f"{written[0]}, then {written[1]} were written for {capacity} of disks."
    yield f"The demo took {text.duration(report.seconds)}."
