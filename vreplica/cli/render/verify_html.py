"""Makes an HTML page of a verification: verdict first, then each disk, then the digests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vreplica.cli.render.html import Cell, Html, code, facts, heading, page, text, verdict
from vreplica.cli.render.text import duration, moment, spot_check
from vreplica.units import human_size

if TYPE_CHECKING:
    from vreplica.sync.report import DiskVerify, VerifyReport


def render(report: VerifyReport, file: str = "", sha256: str = "", *, signed: bool = False) -> str:
    """The page. `file`: the JSON report that it belongs to, with its digest."""
    lead = f"Recovery point {report.point.id} and the source, both read anew"
    return page(f"Verification of {report.job}", lead, _parts(report, file, sha256, signed))


def _parts(report: VerifyReport, file: str, sha256: str, signed: bool) -> Iterator[Html]:
    yield verdict(_said(report), "good" if report.equal else "bad")
    point = report.point
    yield facts(
        ("Point taken", f"{moment(point.time)}, {point.level} consistent"),
        ("Source", report.source or point.source_name),
        ("Replica", report.replica),
        ("Verified", f"{moment(report.started)}, took {duration(report.seconds)}"),
        ("Disks left out", ", ".join(point.excluded)),
    )
    for disk in report.disks:
        yield from _disk(disk)
    there = {disk.key for disk in report.disks}
    for label in (disk.label for disk in point.disks if disk.key not in there):
        yield heading(f"{label}: not on both sides any more")
    totals = report.totals
    yield heading("All disks")
    yield facts(*_digests(totals.source_root, totals.replica_root, totals.image_digest))
    yield text(
        f"Digests are made by {report.algorithm}. Of what, and how to make them again from an "
        "image of the disk, says docs/verify.md of vreplica."
    )
    if file:
        state = "signed" if signed else "not signed"
        yield heading("The report")
        yield facts(("File", code(file)), ("SHA-256", code(sha256)), ("Signature", state))
        yield text("This page shows that file and is no proof itself.")


def _said(report: VerifyReport) -> str:
    if not report.equal:
        different = sum(disk.different_bytes for disk in report.disks)
        return f"{human_size(different)} differ" if different else "Not all disks were compared"
    return "No difference in the sample" if report.sampled else "Equal"


def _disk(disk: DiskVerify) -> Iterator[Html]:
    yield heading(f"{disk.label}: {'equal' if disk.equal else 'different'}")
    ranges = ", ".join(f"{start} to {end - 1}" for start, end in disk.first_differences)
    since = disk.changed_since_bytes
    yield facts(
        ("Capacity", human_size(disk.capacity_bytes)),
        ("Compared", human_size(disk.compared_bytes)),
        ("Changed since", f"{human_size(since)} on the source; not compared" if since else ""),
        ("Different", human_size(disk.different_bytes) if disk.different_bytes else "nothing"),
        ("First bytes", ranges),
        ("Sample", "; ".join(spot_check(disk.spot)) if disk.spot else ""),
        *_digests(disk.source_root, disk.replica_root, disk.image_digest),
    )


def _digests(source: str, replica: str, image: str | None) -> Iterator[tuple[str, Cell | None]]:
    if source == replica:
        yield "Root of both", code(source)
    else:
        yield "Root, source", code(source)
        yield "Root, point", code(replica)
    yield "Image of the point", code(image) if image else None
