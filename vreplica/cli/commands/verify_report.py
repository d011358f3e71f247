"""`verify-report`: checks the signature and the sums of a verification's report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.options import command, file_type
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@click.argument("file", type=file_type)
@click.option("--key", type=file_type, metavar="PEM", required=True, help="The public key.")
@click.option(
    "--signature", type=file_type, metavar="FILE", help="Default: the report's name and .sig"
)
@command
def verify_report(out: Output, file: Path, key: Path, signature: Path | None) -> int:
    """Check that FILE is what was signed and that its digests add up, and show what it says.

    Ends with 8 when a check fails, or when the report itself tells of a difference.
    """
    from vreplica.sync.verify import signed_report

    value = signed_report.check_report(file, key, signature)
    out.answer(
        "verify-report",
        {"file": str(file), "signature": "good", "report": value},
        lambda: _shown(file, value),
    )
    return exit_codes.OK if value["equal"] else exit_codes.DIFFERENT


def _shown(file: Path, report: dict[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    text = render.text
    verdict = "equal" if report["equal"] else "different"
    if report["equal"] and report["coverage"] == "sample":
        verdict = "no difference in a sample"
    yield Text.assemble((str(file), text.HEAD), ": the signature is good")
    yield text.facts(
        ("verdict", [verdict]),
        ("job", [report["job"]]),
        ("point", [report["point"]["id"]]),
        ("source", [report["source"]]),
        ("replica", [report["replica"]]),
        ("started", [text.moment(datetime.fromisoformat(report["started"]))]),
        (report["algorithm"], [f"{n}: {d}" for n, d in report["totals"].items() if d]),
    )
