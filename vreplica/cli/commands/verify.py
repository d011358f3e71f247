"""verify, verify-report: is a recovery point what the source was, and can others believe it?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from vreplica.cli import exits
from vreplica.cli.commands.run import each_job
from vreplica.cli.options import OutputFile, command, config_option, jobs_argument
from vreplica.cli.render import text
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.sync.job import Job
    from vreplica.sync.report import VerifyReport

HASHES = {"blake3": "blake3", "xxh3": "xxh3-128"}


class Percent(click.ParamType[float]):
    """`5%`, `0.5%`, `5` -> a share of 1."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            share = float(str(value).removesuffix("%")) / 100
        except ValueError:
            share = 0.0
        # Written so that nan fails, too.
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share above 0% and up to 100%", param, ctx)
        return share


file_option = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Compare replicas with their sources.")
@jobs_argument
@config_option
@click.option("--point", metavar="ID", help="The recovery point. Default: the newest.")
@click.option("--full", is_flag=True, help="Look at everything. This is the default.")
@click.option("--sample", type=Percent(), metavar="N%", help="Look at that share only.")
@click.option("--seed", type=click.IntRange(min=0), help="Choose the sample as an earlier one was.")
@click.option(
    "--hash",
    "digest",
    type=click.Choice(list(HASHES)),
    default="blake3",
    show_default=True,
    help="What the digests are made by.",
)
@click.option(
    "--image-digest/--no-image-digest",
    default=None,
    help="Digest the point's disks whole, as b3sum does an image. Default: unless sampled.",
)
@click.option("--report", type=OutputFile(), metavar="FILE", help="Write the report, as JSON.")
@click.option("--page", type=OutputFile(), metavar="FILE", help="Write a page for people, as HTML.")
@click.option(
    "--sign-key", type=file_option, metavar="PEM", help="Sign the report; an Ed25519 key."
)
@command
def verify(
    out: Output,
    jobs: tuple[str, ...],
    config: Path | None,
    point: str | None,
    full: bool,
    sample: float | None,
    seed: int | None,
    digest: str,
    image_digest: bool | None,
    report: Path | None,
    page: Path | None,
    sign_key: Path | None,
) -> int:
    """Compare a recovery point of each JOB with the source, block by block.

    Both sides are read anew. Blocks that the source has changed since the point are counted, not
    compared. Ends with 8 when anything else differs. What the digests are made of, and how a
    third party checks them and the signature, says docs/verify.md.
    """
    import vreplica
    from vreplica.cli.render.progress import Watcher
    from vreplica.cli.signals import Cancellation
    from vreplica.sync.verify import signed_report, signing

    if full and sample is not None:
        raise click.UsageError("--full and --sample contradict each other")
    if seed is not None and sample is None:
        raise click.UsageError("--seed needs --sample")
    if sign_key is not None and report is None:
        raise click.UsageError("--sign-key needs --report: that file is what is signed")
    if report is not None or page is not None:
        _one_job(config, jobs)
    # Before hours of reading, not after them.
    key = signing.private_key(sign_key) if sign_key is not None else None

    with Cancellation(out, "the source's snapshot is removed") as cancellation:

        def work(job: Job) -> int:
            with Watcher(out, job.name) as watcher:
                found = vreplica.verify(
                    job,
                    point=point,
                    share=1.0 if sample is None else sample,
                    seed=seed,
                    algorithm=HASHES[digest],
                    image=image_digest,
                    listener=watcher,
                    control=cancellation.control,
                )
            data = signed_report.write(found, report, key) if report is not None else None
            if page is not None:
                _write_page(found, page, report, data, signed=key is not None)
            out.answer(found.to_dict(), *text.verify(found))
            return exits.OK if found.equal else exits.DIFFERENT

        code = each_job(out, config, jobs, work, lambda: cancellation.code is not None)
    return cancellation.code or code


@click.command(short_help="Check the signature of a verification's report.")
@click.argument("file", type=file_option)
@click.option("--key", type=file_option, metavar="PEM", required=True, help="The public key.")
@click.option(
    "--signature", type=file_option, metavar="FILE", help="Default: the report's name and .sig"
)
@command
def verify_report(out: Output, file: Path, key: Path, signature: Path | None) -> int:
    """Check that FILE is what was signed, that its digests add up, and tell what it says.

    Ends with 8 when it is not, or when the report itself tells of a difference.
    """
    from vreplica.sync.verify import signed_report

    value = signed_report.check(file, key, signature)
    if out.as_json:
        out.json({"file": str(file), "signature": "good", "report": value})
    else:
        verdict = ("equal", text.GOOD) if value["equal"] else ("different", text.BAD)
        if value["equal"] and value["coverage"] == "sample":
            verdict = ("no difference in a sample", text.GOOD)
        out.show(
            Text.assemble((str(file), text.HEAD), ": the signature is good"),
            text.facts(
                ("verdict", [verdict[0]]),
                ("job", [value["job"]]),
                ("point", [value["point"]["id"]]),
                ("source", [value["source"]]),
                ("replica", [value["replica"]]),
                ("started", [text.moment(datetime.fromisoformat(value["started"]))]),
                (value["algorithm"], [f"{n}: {d}" for n, d in value["totals"].items() if d]),
            ),
        )
    return exits.OK if value["equal"] else exits.DIFFERENT


def _one_job(config: Path | None, names: tuple[str, ...]) -> None:
    import vreplica

    chosen = vreplica.load(config).select(names)
    if len(chosen) > 1:
        raise click.UsageError(f"--report and --page are for one JOB, these are {len(chosen)}")


def _write_page(
    found: VerifyReport, page: Path, report: Path | None, data: bytes | None, *, signed: bool
) -> None:
    from hashlib import sha256

    from vreplica.cli.render.verify_html import render

    digest = sha256(data).hexdigest() if data is not None else ""
    name = report.name if report is not None else ""
    page.write_text(render(found, name, digest, signed=signed), encoding="utf-8")
