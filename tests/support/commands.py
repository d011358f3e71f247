"""Commands called as a user calls them, inside this process."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.testing import CliRunner, Result

from vreplica.cli.app import app


def with_confirmation(*args: str) -> list[str]:
    """The arguments, with `--confirm NAME` for a verb that has to be confirmed. A test's VM has
    the name of its job."""
    verb = args[0] if args else ""
    ends = verb in ("undo", "commit")
    hard = verb in ("failover", "failback") and {"no", "--source-lost"} & set(args[2:])
    if "--confirm" in args or "resume" in args or not (ends or hard) or len(args) < 2:
        return list(args)
    return [*args, "--confirm", args[1].removeprefix("group:")]


def invoke(*args: str) -> Result:
    """The result of `vreplica-sync ARGS`, confirmed, which shows no traceback."""
    return unconfirmed(*with_confirmation(*args))


def unconfirmed(*args: str) -> Result:
    """The result of exactly these arguments."""
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
