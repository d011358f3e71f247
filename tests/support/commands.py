"""Commands called as a user calls them, inside this process."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.testing import CliRunner, Result

from vreplica.cli.app import app


def invoke(*args: str) -> Result:
    """The result of `vreplica-sync ARGS`, which shows no traceback."""
    result = CliRunner().invoke(app, list(args))
    assert "Traceback" not in result.output
    return result


def leaves(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *before, name)
        else:
            yield (*before, name), command


ALL = dict(leaves(app))
"""Every command by its words."""
