"""Failovers of groups as people read them. Pure: values in, renderables out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli.render import failover_text
from vreplica.cli.render.text import HEAD, counted, duration, facts, grid, indented, moment
from vreplica.failover.machine.progress import sides_of

if TYPE_CHECKING:
    from vreplica.failover.crosscheck import Comparison
    from vreplica.failover.group.preview import GroupPreview
    from vreplica.failover.group.report import GroupOutcome
    from vreplica.failover.machine.group_order import Group

NEXT: Final = {
    "running": "commit it (vreplica-sync commit GROUP) or undo it (vreplica-sync undo GROUP)",
    "committed": "failover: the replicas are in service for good, and `failback GROUP` is the way "
    "back; failback: the jobs replicate forward again",
    "undone": "the replicas are back on their points, and the jobs are on again",
    "aborted": "no replica was started; the jobs are on again",
    "stopped": "remove the cause, then vreplica-sync failover resume GROUP;"
    " or put everything back: vreplica-sync undo GROUP",
}


def preview(known: GroupPreview, max_downtime_s: float | None = None) -> Iterator[RenderableType]:
    yield from _order(known.group)
    if known.left_out:
        yield facts(("left out", [f"{name} runs on its original" for name in known.left_out]))
    yield facts(("points", _spread(known)))
    for member in known.members:
        yield Text("")
        yield from failover_text.preview(member, max_downtime_s)


def _spread(known: GroupPreview) -> list[str]:
    """How far the members' points lie apart, without a final sync."""
    if known.spread is None or known.spread_s is None:
        return []
    oldest, newest = known.spread
    assert oldest.boots_until is not None
    assert newest.boots_until is not None
    first, last = moment(oldest.boots_until), moment(newest.boots_until)
    apart = f"without a final sync they lie {duration(known.spread_s)} apart"
    return [
        f"{apart}: {oldest.job} from {first}, {newest.job} from {last}",
        f"--as-of '{first}' brings them as near to one moment as they allow",
    ]


def _order(group: Group) -> Iterator[RenderableType]:
    """The order in which members are started; they are shut down in reverse."""
    from vreplica.failover.machine.group_order import waves

    head = f": {counted(len(group.members), 'member')}, at most {group.parallel} at once"
    yield Text.assemble((group.label, HEAD), head, f", on error {group.on_error.value}")
    table = grid("start", "job", "after~", "delay>", "ready when")
    for number, wave in enumerate(waves(group.forwards), 1):
        for name in wave:
            member = group[name]
            table.add_row(
                str(number),
                name,
                ", ".join(member.after) or "-",
                duration(member.delay_s) if member.delay_s else "-",
                "its guest answers" if member.heartbeat else "it is on",
            )
    yield indented(table)


def outcome(name: str, done: GroupOutcome) -> Iterator[RenderableType]:
    return outcome_value(name, done.to_dict())


def outcome_value(name: str, value: Mapping[str, Any]) -> Iterator[RenderableType]:
    """`value`: as `GroupOutcome.to_dict` gives it."""
    kind, state = "failback" if value["back"] else "failover", value["state"]
    stands = failover_text.STANDS.get(state, state)
    yield Text.assemble((name, HEAD), f": {kind} {value['failover']} is ", (stands, HEAD))
    table = grid("job", "state", "runs at", "address?", "point", "level", "downtime>", "trouble~")
    for member in value["members"]:
        record = member.get("record", {})
        down = record.get("downtime_s")
        table.add_row(
            member["job"],
            member["state"] or "not begun",
            *_place(member["state"], record.get("facts", {})),
            record.get("point") or "-",
            record.get("level") or "-",
            duration(down) if down is not None else "-",
            member["trouble"] or "",
        )
    yield indented(table)
    yield facts(("next", [NEXT[state].replace("GROUP", name)]))


def _place(state: str | None, facts: Mapping[str, Any]) -> tuple[str, str]:
    """The VM in service with its site, and its addresses."""
    sides = sides_of(facts)
    if sides is None or state not in failover_text.IN_SERVICE:
        return "-", "-"
    return sides[1], ", ".join(facts.get("runs", {}).get("addresses", ())) or "-"


def report(
    name: str, done: GroupOutcome, checked: Mapping[str, Comparison]
) -> Iterator[RenderableType]:
    """`checked`: the members that were compared with vCenter's own record."""
    yield from outcome(name, done)
    for member, comparison in checked.items():
        yield from failover_text.comparison(comparison, member)


def history(name: str, found: Sequence[GroupOutcome]) -> Iterator[RenderableType]:
    if not found:
        yield Text(f"{name}: no failover yet")
        return
    table = grid("failover", "began", "state")
    for each in found:
        table.add_row(each.id, moment(each.entries[0].time), each.state)
    yield indented(table)
