"""test-failover JOB: a recovery point booted apart from production, looked at, thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import RenderableType
from rich.text import Text

from vreplica.cli import exits
from vreplica.cli.options import Duration, OutputFile, command, config_option
from vreplica.cli.render.html import Html, facts, heading, output, page, toned
from vreplica.cli.render.output import Output
from vreplica.cli.render.text import BAD, GOOD, HEAD, duration, moment
from vreplica.cli.render.text import facts as lines

if TYPE_CHECKING:
    from vreplica.failover.testing.run import TestReport


@click.command("test-failover", short_help="Try a recovery point apart from production.")
@click.argument("job")
@config_option
@click.option("--point", metavar="ID", help="Default: the newest of the highest level.")
@click.option("--network", metavar="NAME", help="Default: the job's test_network, else none.")
@click.option("--force", is_flag=True, help="Also on a network of production.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Run this file in the guest; it has to end with 0.",
)
@click.option("--script-timeout", type=Duration(), default="5m", show_default=True)
@click.option("--heartbeat-timeout", type=Duration(), default="5m", show_default=True)
@click.option("--keep", is_flag=True, help="Leave the test VM running; --clean removes it.")
@click.option("--clean", is_flag=True, help="Only remove the test VM that there is.")
@click.option(
    "--page",
    "file",
    type=OutputFile(),
    metavar="FILE",
    help="Write the report as an HTML page too.",
)
@command
def test_failover(
    out: Output,
    job: str,
    config: Path | None,
    point: str | None,
    network: str | None,
    force: bool,
    script: Path | None,
    script_timeout: float,
    heartbeat_timeout: float,
    keep: bool,
    clean: bool,
    file: Path | None,
) -> int:
    """Boot a recovery point of JOB as a VM of its own, on an isolated network or on none.

    It is watched until its guest answers, a script may look at it, and it is thrown away.
    Neither the replica nor the source is touched, and replication goes on. Ends with 9 when the
    guest did not answer or the script did not end with 0.
    """
    import vreplica
    from vreplica.failover.testing import run

    loaded = vreplica.load(config)
    loaded.select((job,))
    if clean:
        removed = run.clean(loaded[job])
        out.answer(
            {"job": job, "removed": removed},
            Text(f"{job}: {f'removed {removed}' if removed else 'no test VM is there'}"),
        )
        return exits.OK
    options = run.TestOptions(
        point=point,
        network=network,
        force=force,
        script=script,
        script_timeout_s=script_timeout,
        heartbeat_timeout_s=heartbeat_timeout,
        keep=keep,
    )
    report = run.run_test(loaded[job], options, lambda text: out.note(f"{job}: {text}"))
    if file is not None:
        file.write_text(as_page(report), encoding="utf-8")
    out.answer(report.to_dict(), *shown(report))
    return exits.OK if report.passed else exits.STOPPED


def shown(report: TestReport) -> Iterator[RenderableType]:
    verdict = ("passed", GOOD) if report.passed else ("failed", BAD)
    yield Text.assemble((report.job, HEAD), f": test failover {report.id} ", verdict)
    yield lines(*((name, [value] if value else []) for name, value in _facts(report)))
    if report.script is not None and report.script.output:
        yield Text(report.script.output.rstrip("\n"))


def as_page(report: TestReport) -> str:
    def parts() -> Iterator[Html]:
        verdict = toned("passed", "good") if report.passed else toned("failed", "bad")
        yield facts(("verdict", verdict), *_facts(report))
        if report.script is not None:
            yield heading(f"Output of {report.script_name}")
            yield output(report.script.output)

    lead = f"{report.id}, {moment(report.began)}"
    return page(f"Test failover of {report.job}", lead, parts())


def _facts(report: TestReport) -> list[tuple[str, str]]:
    point = report.point
    heartbeat = "none in its time"
    if report.heartbeat_s is not None:
        heartbeat = f"{duration(report.heartbeat_s)} after the power-on"
    script = ""
    if report.script_name is not None:
        code = report.script.exit_code if report.script is not None else None
        ended = f"ended with {code}" if code is not None else "did not end by itself"
        script = f"{report.script_name} {ended if report.script is not None else 'was not run'}"
    left = "removed" if report.removed else f"{report.vm} is left"
    if report.kept:
        left = f"{report.vm} runs; vreplica-sync test-failover {report.job} --clean removes it"
    return [
        ("point", f"{point.id}, {moment(point.time)}, {point.level}"),
        ("network", report.network or "none: the cards are disconnected"),
        ("heartbeat", heartbeat),
        ("guest", ", ".join((report.host_name or "", *report.addresses)).strip(", ")),
        ("script", script),
        ("trouble", report.trouble or ""),
        ("took", duration(report.seconds)),
        ("test VM", left),
    ]
