"""schema: what a job file may say, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vreplica.cli import exits
from vreplica.cli.options import OutputFile, command
from vreplica.cli.render.output import Output


@click.command(short_help="Print the job file's JSON schema, for editors.")
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    metavar="FILE",
    help="Write it there.",
)
@command
def schema(out: Output, output: Path | None) -> int:
    """Print the JSON schema (2020-12) of the job file.

    An editor that knows TOML completes keys and marks mistakes with it. With taplo and editors
    that use it, name the file in the first line of the job file: #:schema vreplica.schema.json
    """
    from vreplica.config.schema.jobfile import json_schema

    found = json_schema()
    text = json.dumps(found, indent=None if out.as_json and output is None else 2)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
    return exits.OK
