"""Shows the values that failover targets return, by their class: of a job or of a group.

preview   Preview        GroupPreview
outcome   Outcome        GroupOutcome
undo      UndoPreview    GroupUndoPreview
report    Record         GroupOutcome
history   JobHistory     GroupHistory
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from rich.console import RenderableType

from vreplica.cli.render import failover_html, failover_text, group_text, undo_text
from vreplica.cli.render.text import duration, facts
from vreplica.failover.crosscheck import Comparison
from vreplica.failover.group.preview import GroupPreview
from vreplica.failover.group.report import GroupOutcome
from vreplica.failover.live import LiveJob
from vreplica.failover.machine.record import Outcome, Record
from vreplica.failover.preview import Preview
from vreplica.failover.target import (
    FailoverOutcome,
    FailoverPreview,
    FailoverReport,
    GroupHistory,
    JobHistory,
)
from vreplica.failover.undo_preview import GroupUndoPreview, UndoPreview


def kind_of(value: object) -> str:
    """The kind of the result, as `--json` names it."""
    # Of a group by the service there is its JSON alone, as a value of the command's own.
    return _KINDS.get(type(value), "failover-group")


_KINDS: Final[dict[type, str]] = {
    Preview: "failover-preview",
    GroupPreview: "failover-preview-group",
    UndoPreview: "undo-preview",
    GroupUndoPreview: "undo-preview-group",
    Outcome: "failover",
    GroupOutcome: "failover-group",
    Record: "failover-record",
    JobHistory: "failover-history",
    GroupHistory: "failover-history-group",
}


def preview(
    known: FailoverPreview, max_downtime_s: float | None = None
) -> Iterator[RenderableType]:
    if isinstance(known, GroupPreview):
        return group_text.preview(known, max_downtime_s)
    return failover_text.preview(cast(Preview, known), max_downtime_s)


def undo_preview(known: UndoPreview | GroupUndoPreview) -> Iterator[RenderableType]:
    return undo_text.preview(known)


def undo_consequence(known: UndoPreview | GroupUndoPreview) -> str:
    """The consequence of an undo, in one sentence."""
    return undo_text.consequence(known)


def unseen(value: dict[str, Any], answer: str) -> Iterator[str]:
    """The warnings of a preview, for a caller of --json, who is shown no text.

    `value`: the preview as JSON. `answer`: yes or no.
    """
    for known in value.get("members", [value]):
        no = known["no"]
        if no is not None and no["newer"] and (answer == "no" or known["source"] is None):
            boots, *newer = (
                f"{p['point']} ({p['level']}, {duration(p['age_s'])} old)"
                for p in (no, *no["newer"])
            )
            yield f"{known['job']}: boots {boots}, not the newer {', '.join(newer)}"
        if answer == "yes" and any(point["flagged"] for point in known["points"]):
            flagged = next(p["id"] for p in known["points"] if p["flagged"])
            yield f"{known['job']}: point {flagged} is flagged: it looks like mass encryption"


def outcome(name: str, done: FailoverOutcome) -> Iterator[RenderableType]:
    if isinstance(done, GroupOutcome):
        return group_text.outcome(name, done)
    if not isinstance(done, Outcome):
        return group_text.outcome_value(name, done.to_dict())
    return failover_text.outcome(name, done)


def report(
    name: str, found: FailoverReport, checked: Mapping[str, Comparison]
) -> Iterator[RenderableType]:
    if isinstance(found, GroupOutcome):
        return group_text.report(name, found, checked)
    return failover_text.record(cast(Record, found), _only(checked))


def report_value(found: FailoverReport, checked: Mapping[str, Comparison]) -> dict[str, Any]:
    """As JSON: a job's with the entries of its journal; `check` where it was compared."""
    value = found.to_dict()
    if isinstance(found, GroupOutcome):
        check = {name: comparison.to_dict() for name, comparison in checked.items()}
        return {**value, **({"check": check} if check else {})}
    value["entries"] = [failover_text.entry_dict(e) for e in cast(Record, found).entries]
    only = _only(checked)
    return {**value, **({"check": only.to_dict()} if only is not None else {})}


def live(found: Mapping[str, LiveJob]) -> Iterator[RenderableType]:
    """Both VMs of each job, as they were read now."""
    yield facts(
        (
            "read now",
            [t for j in found.values() for t in (j.source.in_words(), j.replica.in_words())],
        )
    )


def live_value(found: FailoverReport, now: Mapping[str, LiveJob]) -> dict[str, Any]:
    """The same as JSON: of a job, or of each member by name."""
    each = {name: one.to_dict() for name, one in now.items()}
    if isinstance(found, GroupOutcome):
        return {"live": each}
    return {"live": next(iter(each.values()))}


def report_page(found: FailoverReport, checked: Mapping[str, Comparison]) -> str:
    """As an HTML page."""
    if isinstance(found, GroupOutcome):
        return failover_html.group(found, checked)
    return failover_html.job(cast(Record, found), _only(checked))


def history(name: str, found: JobHistory | GroupHistory) -> Iterator[RenderableType]:
    if isinstance(found, GroupHistory):
        return group_text.history(name, found.failovers)
    return failover_text.history(name, found.failovers)


def _only(checked: Mapping[str, Comparison]) -> Comparison | None:
    """The comparison of a single job."""
    return next(iter(checked.values()), None)
