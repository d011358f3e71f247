"""`verify`: compares recovery points with their sources."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import vreplica
from vreplica.cli import exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.options import OutputFile, command, config_option, file_type, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job
    from vreplica.sync.report import VerifyReport

HASHES: Final = {"blake3": "blake3", "xxh3": "xxh3-128"}


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


@click.command()
@jobs_argument
@config_option
@click.option("--point", metavar="ID", help="The recovery point. Default: the newest.")
@click.option("--full", is_flag=True, help="Compare everything. This is the default.")
@click.option("--sample", type=Percent(), metavar="N%", help="Compare only that share.")
@click.option("--seed", type=click.IntRange(min=0), help="Repeat the sample that has this seed.")
@click.option(
    "--hash",
    "digest",
    type=click.Choice(list(HASHES)),
    default="blake3",
    show_default=True,
    help="The hash function of the digests.",
)
@click.option(
    "--image-digest/--no-image-digest",
    default=None,
    help="Also digest each disk of the point as one image, as b3sum does. Default: unless sampled.",
)
@click.option("--report", type=OutputFile(), metavar="FILE", help="Write the report, as JSON.")
@click.option("--page", type=OutputFile(), metavar="FILE", help="Write the report, as HTML.")
@click.option(
    "--sign-key", type=file_type, metavar="PEM", help="Sign the report with this Ed25519 key."
)
@command
def verify(
    out: Output,
    jobs: tuple[str, ...],
    config: Config,
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
    compared. Ends with 8 when anything else differs. docs/verify.md says what the digests are
    made of, and how a third party checks them and the signature.
    """
    from vreplica.cli.render.progress import Watcher
    from vreplica.cli.signals import Cancellation
    from vreplica.sync.verify import signed_report, signing

    if full and sample is not None:
        raise click.UsageError("--full and --sample contradict each other")
    if seed is not None and sample is None:
        raise click.UsageError("--seed needs --sample")
    if sign_key is not None and report is None:
        raise click.UsageError("--sign-key needs --report: that file is what is signed")
    chosen = config.select(jobs)
    if (report is not None or page is not None) and len(chosen) > 1:
        raise click.UsageError(f"--report and --page are for one JOB, these are {len(chosen)}")
    # Before hours of reading, not after them.
    key = signing.private_key(sign_key) if sign_key is not None else None

    from vreplica.sync.sites import SiteSessions

    until = Cancellation(out, "the source's snapshot is removed")
    with until as cancellation, SiteSessions() as sessions:

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
                    sessions=sessions,
                )
            data = signed_report.write_report(found, report, key) if report is not None else None
            if page is not None:
                _write_page(found, page, report, data, signed=key is not None)
            out.answer("verify", found.to_dict(), lambda: render.text.verify(found))
            return exit_codes.OK if found.equal else exit_codes.DIFFERENT

        code = each_job(out, config, jobs, work, lambda: cancellation.code is not None)
    return cancellation.code or code


def _write_page(
    found: VerifyReport, page: Path, report: Path | None, data: bytes | None, *, signed: bool
) -> None:
    from vreplica.cli.render.verify_html import render

    digest = sha256(data).hexdigest() if data is not None else ""
    name = report.name if report is not None else ""
    page.write_text(render(found, name, digest, signed=signed), encoding="utf-8")
