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
    if answer == "no" and can_ask(out):
        members = _members(known)
        chosen = _choose_flagged(out, members, options, single=members[0] is known)
        if chosen is None:
            out.note("cancelled: nothing was changed")
            return None
        options = chosen
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
    members = _members(known)
    if options.source_lost:
        sites = " and ".join(dict.fromkeys(m.source_site for m in members))
        names = ", ".join(m.source_vm for m in members)
        return (
            f"{sites} is declared lost: {names} is not contacted and not stopped there; where it "
            "still runs, both run"
        )
    healthy = [m for m in members if m.source and m.source.power_state == "poweredOn"]
    if answer == "no" and healthy:
        names = ", ".join(m.source_said for m in healthy)
        return f"{names} will be powered OFF, hard, without asking the guest"
    return None


def _ask(out: Output, known: FailoverPreview, name: str, source_lost: bool) -> str:
    """Asks the one question: only where somebody can answer it and has seen the preview."""
    members = _members(known)
    away = source_lost or any(member.source is None for member in members)
    if not can_ask(out):
        why = "--json asks nothing" if out.as_json else "no terminal to ask at"
        say = "--final-sync yes, no or cancel"
        if away:
            say = f"--source-lost --final-sync no --confirm {name}, or --final-sync cancel"
        raise click.UsageError(f"{why}: say {say}")
    to = " and ".join(dict.fromkeys(member.replica_site for member in members))
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


def _choose_flagged(
    out: Output, members: tuple[Preview, ...], options: BeginOptions, *, single: bool
) -> BeginOptions | None:
    """Asks for the point of each member whose newest is flagged. None: nothing is to be done.

    `single`: the target is a job, not a group.
    """
    for member in members:
        if (found := member.flagged) is None:
            continue
        out.warning(
            f"{member.job}: point {found.flagged} is flagged, it looks like mass encryption "
            f"({found.reason}); {found.point} may hold the same"
        )
        ways = {"2": found.point, "c": None}
        said = f"2 {found.point} in spite of it, c cancel"
        if found.clean is not None:
            ways["1"] = found.clean
            said = f"1 {found.clean}, the newest from before it, {said}"
        while True:
            typed: str = prompt(f"Which point of {member.source_vm} boots? {said}", default="c")
            answer = typed.strip().lower()
            if answer in ("", "cancel"):
                answer = "c"
            if answer in ways:
                break
            out.note(f"{typed!r} is no answer here: {said}")
        point = ways[answer]
        if point is None:
            return None
        boot = options.boot.with_point(None if single else member.job, point)
        options = replace(options, boot=boot)
    return options
