"""`schema`: prints the JSON schema of the job file, for editors, or of all results."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vreplica.cli import exit_codes
from vreplica.cli.options import OutputFile, command
from vreplica.cli.render.output import Output
from vreplica.cli.render.plain import print_document


@click.command()
@click.argument("what", type=click.Choice(["jobfile", "results"]), default="jobfile")
@click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write it to this file.")
@command
def schema(out: Output, what: str, output: Path | None) -> int:
    """Print a JSON schema (2020-12): of the job file (default), or of the results of --json.

    An editor that knows TOML completes keys and marks mistakes with the first. With taplo and
    editors that use it, name the file in the first line of the job file:
    #:schema vreplica.schema.json

    A program that reads results checks each line against the second. The key `result` says which
    kind a document is; `version` grows when a key is removed or gets another meaning.
    """
    if what == "results":
        from vreplica.cli.results.registry import json_schema
    else:
        from vreplica.config.schema.jobfile import json_schema

    text = json.dumps(json_schema(), indent=None if out.as_json and output is None else 2)
    if output is None:
        print_document(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
    return exit_codes.OK
