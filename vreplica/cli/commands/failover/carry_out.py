"""Carries out a verb of a failover's target and turns its outcome into an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from vreplica.cli import exit_codes, render
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.failover.machine.context import Reporter
    from vreplica.failover.target import FailoverOutcome, FailoverTarget
    from vreplica.sync.events import Listener

    Verb = Callable[[Reporter, Listener], FailoverOutcome]


UNREACHABLE: Final = 5
"""The exit code of a vCenter or host that refused, failed or could not be reached."""

BEFORE_BOOT: Final = frozenset(
    {"ready", "disabled", "insured", "shutting-down", "source-off", "synced", "fenced"}
)


def carry_out(
    out: Output,
    target: FailoverTarget,
    verb: Verb,
    *,
    commit: bool = False,
    given_up: int = exit_codes.STOPPED,
) -> int:
    """Does it, shows the outcome, and returns the exit code.

    `commit`: a commit was asked for; without one the code is 9. `given_up`: the code of a failover
    that was given up, which is what an undo asks for.
    """
    try:
        with _watching(out, target) as (report, on_event):
            outcome = verb(report, on_event)
    except BaseException as error:
        # Also Ctrl-C and a full disk: the job is off, and perhaps both VMs are.
        _explain_how_to_continue(out, target, error)
        raise
    out.answer(
        render.failover_views.kind_of(outcome),
        outcome.to_dict(),
        lambda: render.failover_views.outcome(target.name, outcome),
    )
    if outcome.incomplete or (commit and not outcome.committed):
        return exit_codes.STOPPED
    return given_up if outcome.given_up else exit_codes.OK


@contextmanager
def _watching(out: Output, target: FailoverTarget) -> Iterator[tuple[Reporter, Listener]]:
    from vreplica.cli.render.progress import Watcher
    from vreplica.failover.machine.group_order import GROUP_PREFIX
    from vreplica.sync.events import ignore

    if target.name.startswith(GROUP_PREFIX):
        # Its lines name their member, and it has no progress of its own.
        yield out.note, ignore
        return
    with Watcher(out, target.name) as watcher:
        yield watcher.report, watcher


def _explain_how_to_continue(out: Output, target: FailoverTarget, error: BaseException) -> None:
    from vreplica.failover.machine.errors import (
        FailoverUnderWay,
        NotPossibleNow,
        OptionNotForTarget,
    )

    unfinished = target.unfinished()
    refused = (NotPossibleNow, FailoverUnderWay, OptionNotForTarget)
    if unfinished is None or isinstance(error, refused):
        return
    resume = f"`vreplica-sync failover resume {target.name}` continues it"
    if getattr(error, "exit_code", 0) == UNREACHABLE and str(unfinished.state) in BEFORE_BOOT:
        resume += ", with --source-lost where the source's site is lost"
    if isinstance(error, VReplicaError):
        error.where.next_run = resume
    else:
        undo = f"`vreplica-sync undo {target.name}` goes back"
        out.warning(f"{target.name}: {unfinished.id} is {unfinished.state}: {resume}, {undo}")
