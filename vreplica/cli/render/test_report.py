"""Shows the report of a test failover, as text and as an HTML page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli.render import html
from vreplica.cli.render.text import BAD, GOOD, HEAD, duration, facts, moment

if TYPE_CHECKING:
    from vreplica.failover.testing.run import TestReport


def as_text(report: TestReport) -> Iterator[RenderableType]:
    verdict = ("passed", GOOD) if report.passed else ("failed", BAD)
    yield Text.assemble((report.job, HEAD), f": test failover {report.id} ", verdict)
    yield facts(*((name, [value] if value else []) for name, value in _facts(report)))
    if report.script is not None and report.script.output:
        yield Text("\n".join(f"  {line}" for line in report.script.output.splitlines()))


def as_page(report: TestReport) -> str:
    lead = f"{report.id}, {moment(report.began)}"
    return html.page(f"Test failover of {report.job}", lead, _parts(report))


def _parts(report: TestReport) -> Iterator[html.Html]:
    verdict = html.toned("passed", "good") if report.passed else html.toned("failed", "bad")
    yield html.facts(("verdict", verdict), *_facts(report))
    if report.script is not None:
        yield html.heading(f"Output of {report.script_name}")
        yield html.output(report.script.output)


def _facts(report: TestReport) -> list[tuple[str, str]]:
    point = report.point
    heartbeat = "none within the timeout"
    if report.heartbeat_s is not None:
        heartbeat = f"{duration(report.heartbeat_s)} after the power-on"
    left = "removed" if report.removed else f"{report.vm} is left"
    if report.kept:
        left = f"{report.vm} runs; vreplica-sync test-failover {report.job} --clean removes it"
    return [
        ("point", f"{point.id}, {moment(point.time)}, {point.level}"),
        ("network", report.network or "none: the cards are disconnected"),
        ("heartbeat", heartbeat),
        ("guest", ", ".join((report.host_name or "", *report.addresses)).strip(", ")),
        ("script", _script(report)),
        ("trouble", report.trouble or ""),
        ("took", duration(report.seconds)),
        ("test VM", left),
    ]


def _script(report: TestReport) -> str:
    if report.script_name is None:
        return ""
    if report.script is None:
        return f"{report.script_name} was not run"
    code = report.script.exit_code
    return f"{report.script_name} {f'ended with {code}' if code is not None else 'timed out'}"
