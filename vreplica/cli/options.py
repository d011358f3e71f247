"""The options that several commands have, and the frame that each command runs in.

@click.command()
@jobs_argument
@config_option
@command
def plan(out: Output, jobs: tuple[str, ...], config: Config) -> int:
    ...
    return exit_codes.OK
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

import vreplica
from vreplica.cli.guard import guarded
from vreplica.cli.render.output import Output, Verbosity

Callback = Callable[..., int]

_DURATION = re.compile(r"(\d+)([smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """`90`, `90s`, `10m`, `1h` -> seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 10m or 1h", param, ctx)
        return float(int(match[1]) * _UNITS[match[2]])


class OutputFile(click.Path):
    """A file that is written at the end of a command, and checked at its beginning."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        file = super().convert(value, param, ctx)
        folder = Path(os.fsdecode(file)).absolute().parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"folder {folder} may not be written to", param, ctx)
        return file


def command(callback: Callback) -> Callable[..., None]:
    """Makes a click callback of a function that gets an Output and returns the exit code.

    With `config_option` the function gets the job file loaded, as `config`. This is the one
    place where a command loads it.
    """

    @click.option("--json", "as_json", is_flag=True, help="Results as JSON, one document a line.")
    @click.option("-v", "--verbose", is_flag=True, help="Show each step.")
    @click.option("-q", "--quiet", is_flag=True, help="Show only results and errors.")
    @click.option(
        "--debug", is_flag=True, help="Show an error's traceback, and the disk library's log."
    )
    @wraps(callback)
    def call(*, as_json: bool, verbose: bool, quiet: bool, debug: bool, **more: Any) -> None:
        if verbose and quiet:
            raise click.UsageError("-v and -q contradict each other")
        loud = Verbosity.VERBOSE if verbose else Verbosity.NORMAL
        out = Output(as_json=as_json, verbosity=Verbosity.QUIET if quiet else loud, debug=debug)

        def work() -> int:
            if "config" in more:
                more["config"] = vreplica.load(more["config"])
            return callback(out, **more)

        with out.showing_logs():
            code = guarded(out, work)
        click.get_current_context().exit(code)

    return call


config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="VREPLICA_CONFIG",
    help="The job file. Default: ./vreplica.toml, then vreplica/vreplica.toml in the user's"
    " configuration folder.  [env var: VREPLICA_CONFIG]",
)
"""The job file. `command` loads it: the function gets a `Config`, not the path."""

file_type = click.Path(path_type=Path, dir_okay=False)
"""A file to read; that it cannot be read is the command's own error."""

jobs_argument = click.argument("jobs", nargs=-1, metavar="[JOB]...")

dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="The folder that holds the whole lab.",
)
