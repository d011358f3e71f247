"""Shows what is known before a failover and asks for the operator's decision."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vreplica.cli import render
from vreplica.cli.commands.failover.options import BeginOptions
from vreplica.cli.render.output import Output
from vreplica.cli.render.plain import prompt

if TYPE_CHECKING:
    from vreplica.failover.machine.choices import FailoverChoices
    from vreplica.failover.target import FailoverPreview


def decide(out: Output, known: FailoverPreview, options: BeginOptions) -> FailoverChoices | None:
    """Shows the preview, and asks where no option gave the answer. None: nothing is to be done."""
    value = known.to_dict(options.max_downtime)
    if options.dry_run or not out.as_json:
        out.answer(
            render.failover_views.kind_of(known),
            value,
            lambda: render.failover_views.preview(known, options.max_downtime),
        )
    if options.dry_run or options.final_sync == "cancel":
        return None
    answer = options.final_sync or _ask(out)
    if answer == "cancel":
        out.note("cancelled: nothing was changed")
        return None
    if out.as_json:
        for text in render.failover_views.unseen(value, answer):
            out.warning(text)
    return options.choices(answer)


def _ask(out: Output) -> str:
    """Asks the one question: only where somebody can answer it and has seen the preview."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("no terminal to ask at: say --final-sync yes, no or cancel")
    if out.as_json:
        raise click.UsageError("--json asks nothing: say --final-sync yes, no or cancel")
    answer: str = prompt(
        "Final synchronisation before the replica starts?",
        type=click.Choice(["yes", "no", "cancel"], case_sensitive=False),
        default="cancel",
    )
    return answer
