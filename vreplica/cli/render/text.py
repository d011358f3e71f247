"""Shows the reports of runs, plans, points and verifications as text.

Pure: values in, renderables out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vreplica.cli.render.table import Grid
from vreplica.units import human_size

if TYPE_CHECKING:
    from vreplica.delta.compare.spot_check import SpotCheckResult
    from vreplica.points import Level, RecoveryPoint, Verdict
    from vreplica.points.model import LeftOut
    from vreplica.points.side_branch import SideBranch
    from vreplica.sync.plan.readiness import ReadinessReport
    from vreplica.sync.replica.seed import SeedReport
    from vreplica.sync.report import DiskVerify, Plan, RunReport, VerifyReport

GOOD, BAD, HEAD = "green", "bold red", "bold"
VERDICTS: Final = {"good": GOOD, "note": "yellow", "problem": BAD}


def run(report: RunReport, required: Level) -> Iterator[RenderableType]:
    point = report.point
    yield _head(
        report.job,
        f"recovery point {point.id}, level {point.level}, in {duration(report.seconds)}",
    )
    table = grid(
        "disk",
        "mode",
        "capacity>?",
        "looked at>",
        "read>?",
        "redundant>?",
        "written>",
        "zlib>?",
        "time>?",
    )
    for disk in report.disks:
        table.add_row(
            disk.label,
            str(disk.mode),
            human_size(disk.capacity_bytes),
            human_size(disk.looked_at_bytes),
            human_size(disk.read_bytes),
            human_size(disk.redundant_bytes),
            human_size(disk.written_bytes),
            "-" if disk.compressibility is None else f"{disk.compressibility:.0%}",
            duration(disk.seconds),
        )
    yield indented(table)
    yield from flag(point)
    yield facts(
        ("required", [_required(required)]),
        ("repaired first", report.recovered),
        ("excluded", point.excluded),
        ("not carried over", [", ".join(point.not_carried)] if point.not_carried else []),
        ("removed", report.removed_points),
        ("kept", [counted(report.points, "recovery point")]),
    )
    if report.verified is not None:
        yield from verify(report.verified)


def check(report: ReadinessReport, required: Level) -> Iterator[RenderableType]:
    number = len(report.problems)
    yield _head(report.job, "", (counted(number, "problem"), BAD) if number else ("good", GOOD))
    table = grid("what", "verdict", "found~")
    for finding in report.findings:
        mark = finding.kind.value
        text = f"{finding.text}. {finding.remedy}" if finding.remedy else finding.text
        table.add_row(finding.area, Text(mark, VERDICTS[mark]), text)
    yield indented(table)
    yield facts(("required", [_required(required)]))


def seed(report: SeedReport) -> Iterator[RenderableType]:
    yield _head(report.job, f"replica {report.replica} begins with what was there")
    table = grid("disk", "from~", "read>")
    for disk in report.disks:
        table.add_row(disk.label, disk.path, human_size(disk.read_bytes))
    yield indented(table)
    yield facts(("copied in full", report.empty), ("next", [f"vreplica-sync run {report.job}"]))


def plan(report: Plan, required: Level) -> Iterator[RenderableType]:
    replica = report.replica_vm if report.replica_exists else f"{report.replica_vm} (to be created)"
    yield _head(report.job, f"{report.source_vm} -> {replica}")
    table = grid("disk", "capacity>?", "mode", "reason~")
    for disk in report.disks:
        table.add_row(disk.label, human_size(disk.capacity_bytes), str(disk.mode), disk.reason)
    if report.disks:
        yield indented(table)
    base = report.base_point
    yield facts(
        ("excluded", report.excluded),
        ("transport", [report.transport]),
        ("last point", [f"{base.id}, {moment(base.time)}, {base.level}"] if base else ["none yet"]),
        ("expected", [f"{report.expected_level}-consistent" if not report.problems else ""]),
        ("required", [_required(required)]),
        ("warnings", report.warnings),
        ("not carried over", [str(missing) for missing in report.not_carried]),
        ("not looked at", [", ".join(report.not_looked_at)]),
        (
            "then removed",
            [f"point {p.id}, {moment(p.time)}, {p.level}" for p in report.expiring],
        ),
        ("steps", [f"{number}. {step}" for number, step in enumerate(report.steps, 1)]),
    )
    if report.problems:
        found = counted(len(report.problems), "problem")
        yield indented(Text(f"the next run cannot start: {found}", BAD))
        for problem in report.problems:
            yield indented(_hanging("-", problem))


def _required(level: Level) -> str:
    """The meaning of a job's `require`, also of a job file that does not give it."""
    if level.value != "crash":
        return f"at least {level}: a run that reaches less fails"
    return "any level (no `require` above crash): a point may be like a disk after a power failure"


def _left_out(points: Sequence[LeftOut]) -> Iterator[RenderableType]:
    """The points that cannot be used, with what to do."""
    for point in points:
        yield indented(f"{point}. {point.advice}")


def _side_branch(branch: SideBranch) -> str:
    """A side branch, which keeps what was written in service, in one line."""
    written = branch.written_bytes
    size = human_size(written) if written is not None else "size not known"
    return f"{branch.id} ({branch.level}, {moment(branch.time)}, {size} since {branch.point})"


def points(
    job: str,
    found: Sequence[RecoveryPoint],
    left_out: Sequence[LeftOut] = (),
    warnings: Sequence[str] = (),
    sides: Sequence[SideBranch] = (),
) -> Iterator[RenderableType]:
    if not found:
        which = "recovery point that this version can read" if left_out else "recovery point yet"
        yield _head(job, f"no {which}")
        yield from _left_out(left_out)
        return
    yield _head(job, f"{counted(len(found), 'recovery point')}, oldest first")
    table = grid(
        "id",
        "time",
        "level~",
        "mode?",
        "looked at>?",
        "redundant>?",
        "zeroed>?",
        "written>",
        "zlib>?",
    )
    for point in found:
        level = str(point.level)
        if point.requested > point.level:
            level += f" (not {point.requested})"
        table.add_row(
            point.id,
            moment(point.time),
            level,
            "+".join(dict.fromkeys(disk.mode for disk in point.disks)),
            *_changes(point),
        )
    yield indented(table)
    for point in found:
        yield from flag(point)
    without = {", ".join(point.excluded) for point in found}
    if len(without) == 1:
        yield facts(("excluded", without))
    else:
        lines = [f"{point.id}: {', '.join(point.excluded) or 'none'}" for point in found]
        yield facts(("excluded", lines))
    yield facts(
        ("not carried over", [", ".join(found[-1].not_carried)] if found[-1].not_carried else []),
        ("warnings", warnings),
        ("kept by undo", [_side_branch(b) for b in sides]),
    )
    yield from _left_out(left_out)


def retention(
    job: str, rule: str, verdicts: Sequence[Verdict], left_out: Sequence[LeftOut] = ()
) -> Iterator[RenderableType]:
    going = sum(not v.stays for v in verdicts)
    yield _head(
        job, f"{counted(len(verdicts), 'recovery point')}, keeping {rule}: {going or 'none'} may go"
    )
    table = grid("id", "time?", "level", "kept as~")
    for verdict in verdicts:
        point = verdict.point
        why = Text(", ".join(verdict.reasons)) if verdict.stays else Text("goes", BAD)
        table.add_row(point.id, moment(point.time), str(point.level), why)
    if verdicts:
        yield indented(table)
    yield from _left_out(left_out)


def flag(point: RecoveryPoint) -> Iterator[RenderableType]:
    """The reasons for which a point is flagged, and what to do about it."""
    for what in point.suspicions:
        if point.accepted:
            yield indented(_hanging(f"{point.id} was flagged, and accepted:", what))
        else:
            yield indented(Text(f"{point.id} is flagged: it looks like mass encryption", BAD))
            yield indented(_hanging("-", what))
    if point.flagged:
        yield indented(
            Group(
                "Look at the guest before you trust this point or a later one. The last clean "
                "point before it is kept until:",
                f"  vreplica-sync points {point.job} --accept {point.id}",
            )
        )


def _changes(point: RecoveryPoint) -> Iterator[str]:
    """Looked at, redundant, zeroed, written and zlib; "-" for what an older point does not say."""
    known = [disk.stats for disk in point.disks if disk.stats is not None]
    if len(known) < len(point.disks) or not known:
        yield from ("-", "-", "-", human_size(sum(disk.written_bytes for disk in point.disks)), "-")
        return
    redundant = [s.redundant_bytes for s in known if s.redundant_bytes is not None]
    yield human_size(sum(s.looked_at_bytes for s in known))
    yield human_size(sum(redundant)) if len(redundant) == len(known) else "-"
    yield human_size(sum(s.zeroed_bytes for s in known))
    yield human_size(sum(s.written_bytes for s in known))
    sampled = [s for s in known if s.sampled_pieces]
    weight = sum(s.data_bytes for s in sampled)
    packed = sum(s.compressibility * s.data_bytes for s in sampled)
    yield f"{packed / weight:.0%}" if weight else "-"


def verify(report: VerifyReport) -> Iterator[RenderableType]:
    different = sum(disk.different_bytes for disk in report.disks)
    good = "no difference in the sample" if report.sampled else "equal"
    verdict = (good, GOOD) if report.equal else (f"{human_size(different)} differ", BAD)
    text = f"recovery point {report.point.id} and the source, {duration(report.seconds)}: "
    yield _head(report.job, text, verdict)
    table = grid("disk", "capacity>?", "compared>", "changed since>?", "different>", "verdict")
    for disk in report.disks:
        table.add_row(
            disk.label,
            human_size(disk.capacity_bytes),
            human_size(disk.compared_bytes),
            human_size(disk.changed_since_bytes),
            human_size(disk.different_bytes),
            Text("equal", GOOD) if disk.equal else Text("different", BAD),
        )
    yield indented(table)
    yield facts(*((disk.label, _digests(report.algorithm, disk)) for disk in report.disks))
    for disk in report.disks:
        ranges = ", ".join(f"{start}-{end - 1}" for start, end in disk.first_differences)
        if ranges:
            yield indented(_hanging(f"{disk.label} differs in bytes", ranges))


def _digests(algorithm: str, disk: DiskVerify) -> Iterator[str]:
    if disk.spot is not None:
        yield from spot_check(disk.spot)
    if disk.image_digest is not None:
        yield f"{algorithm} of the point's image: {disk.image_digest}"
    if disk.source_root == disk.replica_root:
        yield f"{algorithm} root of both: {disk.source_root}"
    else:
        yield f"{algorithm} root of the source: {disk.source_root}"
        yield f"{algorithm} root of the point: {disk.replica_root}"


def spot_check(spot: SpotCheckResult) -> Iterator[str]:
    """The size of a sample, and the confidence that it gives."""
    yield f"compared {spot.pieces} of {spot.of_pieces} MiB ({spot.share:.2%}), seed {spot.seed}"
    least = spot.rules_out_pieces
    if spot.pieces == spot.of_pieces:
        return
    if least > spot.of_pieces:
        yield "too few to rule any difference out"
        return
    yield (
        f"with {spot.confidence:.0%} confidence fewer than {least} of these MiB differ "
        f"({least / spot.of_pieces:.2%}); a single one would be missed with {1 - spot.share:.0%}"
    )


def duration(seconds: float) -> str:
    """`0.84 s`, `12.3 s`, `2 min 05 s`, `1 h 05 min`"""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {second:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def grid(*columns: str) -> Grid:
    """`>`: to the right; `~`: may be folded; `?`: may be hidden on a narrow terminal."""
    return Grid(*columns)


def indented(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _head(job: str, text: str, verdict: tuple[str, str] = ("", "")) -> Text:
    return Text.assemble((job, HEAD), ": ", text, verdict)


def facts(*named: tuple[str, Iterable[str]]) -> RenderableType:
    """Names with their values in two columns; names without values are left out."""
    table = Table.grid(padding=(0, 2))
    for name, values in named:
        for number, value in enumerate(v for v in values if v):
            table.add_row(Text("" if number else name, "dim"), Text(value, overflow="fold"))
    return indented(table) if table.row_count else Group()


def _hanging(mark: str, text: str) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(Text(mark), Text(text, overflow="fold"))
    return table
