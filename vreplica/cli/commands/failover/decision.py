"""Shows what is known before a failover and asks for the operator's decision."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import click

from vreplica.cli import render
from vreplica.cli.commands.failover.confirm import can_ask, confirmed
from vreplica.cli.commands.failover.options import BeginOptions
from vreplica.cli.render.output import Output
from vreplica.cli.render.plain import prompt

if TYPE_CHECKING:
    from vreplica.failover.machine.choices import FailoverChoices
    from vreplica.failover.preview import Preview
    from vreplica.failover.target import FailoverPreview


LOST: Final = "lost"

ANSWERS: Final = {
    **dict.fromkeys(("1", "y", "yes", "planned"), "yes"),
    **dict.fromkeys(("2", "n", "no", "emergency"), "no"),
    **dict.fromkeys(("3", "lost"), LOST),
    **dict.fromkeys(("c", "cancel", ""), "cancel"),
}
"""Words that may be typed at the question -> the answer that each of them is."""


def decide(
    out: Output, known: FailoverPreview, options: BeginOptions, name: str
) -> FailoverChoices | None:
    """Shows the preview, and asks where no option gave the answer. None: nothing is to be done.

    `name`: what the operator types to confirm.
    """
    value = known.to_dict(options.max_downtime)
    if options.dry_run or not out.as_json:
        out.answer(
            render.failover_views.kind_of(known),
            value,
            lambda: render.failover_views.preview(known, options.max_downtime),
        )
    if options.dry_run or options.final_sync == "cancel":
        return None
    answer = options.final_sync or _ask(out, known, name, options.source_lost)
    if answer == "cancel":
        out.note("cancelled: nothing was changed")
        return None
    if answer == LOST:
        options, answer = replace(options, source_lost=True), "no"
    consequence = _consequence(known, options, answer, name)
    if consequence and not confirmed(out, name, consequence, options.confirm):
        return None
    if out.as_json:
        for text in render.failover_views.unseen(value, answer):
            out.warning(text)
    return options.choices(answer)


def _members(known: FailoverPreview) -> tuple[Preview, ...]:
    from vreplica.failover.group.preview import GroupPreview

    return known.members if isinstance(known, GroupPreview) else (cast("Preview", known),)


def _consequence(
    known: FailoverPreview, options: BeginOptions, answer: str, name: str
) -> str | None:
    """The consequence of an answer that has to be confirmed; None: nothing has to be."""
    if options.source_lost:
        return (
            f"the site of {name} is declared lost: it is not contacted and not stopped; if "
            f"{name} still runs there, both run"
        )
    healthy = [m for m in _members(known) if m.source and m.source.power_state == "poweredOn"]
    if answer == "no" and healthy:
        names = ", ".join(m.source.name for m in healthy if m.source)
        return f"{names} will be powered OFF, hard, without asking the guest"
    return None


def _ask(out: Output, known: FailoverPreview, name: str, source_lost: bool) -> str:
    """Asks the one question: only where somebody can answer it and has seen the preview."""
    if not can_ask(out):
        why = "--json asks nothing" if out.as_json else "no terminal to ask at"
        raise click.UsageError(f"{why}: say --final-sync yes, no or cancel")
    members = _members(known)
    away = source_lost or any(member.source is None for member in members)
    to = ", ".join(member.replica.name for member in members)
    ways = "3 the site is lost" if away else "1 planned, 2 emergency"
    accepted = {k for k, v in ANSWERS.items() if v == "cancel" or (v == LOST) is away}
    if source_lost:
        accepted |= {k for k, v in ANSWERS.items() if v in ("yes", "no")}
    while True:
        typed: str = prompt(f"How shall {name} move to {to}? {ways}, c cancel", default="c")
        answer = typed.strip().lower()
        if answer in accepted:
            found = ANSWERS[answer]
            return "no" if source_lost and found in (LOST, "yes") else found
        out.note(f"{typed!r} is no answer here: {ways}, c cancel")
