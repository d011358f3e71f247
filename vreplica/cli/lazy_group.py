"""A group of commands whose modules are imported when they are invoked.

    COMMANDS = {"undo": Lazy("failover.undo:undo", "Put both sides back after a failover.")}

    @click.group(cls=LazyGroup, table=COMMANDS)
    def app() -> None: ...

The group's help is written from the table alone, so that it needs none of the modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from vreplica.cli.render.output import Output

PACKAGE = "vreplica.cli.commands"
_ARGUMENTS = "vreplica.arguments"
"""The key in a context's `meta` of everything that stands on the command line."""


class Lazy(NamedTuple):
    """A command that is not imported yet.

    `place`: `module:name` below `vreplica.cli.commands`. `help`: its line in the group's help.
    """

    place: str
    help: str


class LazyGroup(click.Group):
    """Lists its commands in the order of `table`, and imports the one that is asked for."""

    def __init__(self, name: str | None, table: Mapping[str, Lazy], **more: Any) -> None:
        # click reads the names from these, to suggest one in place of a mistyped one.
        known = {name: click.Command(name, short_help=lazy.help) for name, lazy in table.items()}
        super().__init__(name, commands=known, **more)
        self._table = table

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta.setdefault(_ARGUMENTS, list(args))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            # The text of a command line that cannot be used goes to standard error, by click.
            if ctx.parent is None and "--json" in ctx.meta[_ARGUMENTS]:
                Output(as_json=True).usage_error(error)
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (lazy := self._table.get(cmd_name)) is None:
            return None
        module, _, name = lazy.place.partition(":")
        found = getattr(import_module(f"{PACKAGE}.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._table.items()])
