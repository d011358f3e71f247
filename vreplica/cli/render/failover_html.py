"""Makes an HTML page of a failover, of a job or of a group. Pure: values in, HTML out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vreplica.cli.render.failover_text import point_label, source_now
from vreplica.cli.render.html import Html, Tone, bars, facts, heading, page, table, toned
from vreplica.cli.render.text import duration, moment

if TYPE_CHECKING:
    from vreplica.failover.crosscheck import Comparison
    from vreplica.failover.group.report import GroupOutcome
    from vreplica.failover.machine.record import Record

TONES: dict[str, Tone] = {
    "running": "good",
    "committed": "good",
    "undone": "plain",
    "aborted": "bad",
    "stopped": "bad",
}


def job(record: Record, checked: Comparison | None = None) -> str:
    """The page of a job. `checked`: the comparison with vCenter's own record."""
    lead = f"{record.id}, {moment(record.began)}"
    parts = [*_single(record), *(_checked(checked) if checked is not None else ())]
    return page(f"Failover of {record.job}", lead, parts)


def _checked(checked: Comparison) -> Iterator[Html]:
    yield heading("Compared with vCenter's own tasks and events")
    verdict = toned("agrees", "good") if checked.equal else toned("differs", "bad")
    yield facts(
        ("verdict", verdict),
        ("tasks in both", str(checked.agreed)),
        ("only in its events", str(checked.by_events) if checked.by_events else ""),
        ("not asked", "; ".join(checked.not_asked)),
    )
    if checked.findings:
        rows = [(f.kind, f.side, f.text) for f in checked.findings]
        yield table(("kind", "side", "what~"), rows)


def group(outcome: GroupOutcome, checked: Mapping[str, Comparison] | None = None) -> str:
    """The page of a group. `checked`: the comparisons with vCenter, by member."""
    name = outcome.group.name
    lead = f"{outcome.id}, {moment(outcome.entries[0].time)}"
    return page(
        f"{outcome.kind.capitalize()} of group {name}", lead, _group(outcome, checked or {})
    )


def _group(outcome: GroupOutcome, checked: Mapping[str, Comparison]) -> Iterator[Html]:
    offs = [m.record.source_off for m in outcome.members if m.record and m.record.source_off]
    ons = [m.record.answered for m in outcome.members if m.record and m.record.answered]
    whole = duration((max(ons) - min(offs)).total_seconds()) if offs and ons else "not measured"
    yield facts(
        ("state", toned(outcome.state, TONES.get(outcome.state, "plain"))),
        ("members", str(len(outcome.members))),
        ("at an error", outcome.group.on_error.value),
        ("final sync", outcome.choices.final_sync.value),
        ("first source off to last answer", whole),
    )
    yield heading("Members")
    rows = []
    for member in outcome.members:
        state = str(member.state or "not begun")
        record = member.record
        rows.append(
            (
                member.job,
                ", ".join(outcome.group[member.job].after) or "-",
                toned(state, TONES.get(state, "plain")),
                f"{record.point} ({record.level})" if record and record.point else "-",
                _downtime(record) if record else "-",
                member.trouble or "",
            )
        )
    yield table(("job", "after", "state", "point~", "downtime~", "trouble~"), rows)
    yield heading("Turns")
    yield table(
        ("time", "turn", "result~"),
        [
            (moment(e.time), e.step, str(e.data.get("trouble") or e.data.get("state", "")))
            for e in outcome.entries
            if e.kind in ("call", "note")
        ],
    )
    for member in outcome.members:
        if member.record is not None:
            yield heading(member.job)
            yield from _single(member.record)
        if member.job in checked:
            yield from _checked(checked[member.job])


def _single(record: Record) -> Iterator[Html]:
    state = record.state.value
    yield facts(
        ("state", toned(state, TONES.get(state, "plain"))),
        ("source", source_now(state, record.facts)),
        ("reason", str(record.facts.get("reason", ""))),
        (point_label(state), f"{record.point} ({record.level})" if record.point else ""),
        ("downtime", _downtime(record)),
        ("of which", ", ".join(f"{n} {duration(s)}" for n, s in record.parts_s)),
    )
    if record.parts_s:
        yield bars(record.parts_s)
    rows = []
    for entry in record.entries:
        if entry.kind == "intent":
            continue
        what = str(entry.event) if entry.event is not None else f"{entry.kind} {entry.step}".strip()
        data = ", ".join(f"{k}: {_plain(v)}" for k, v in entry.data.items())
        failed = str(entry.data.get("result", "")).startswith("failed")
        rows.append(
            (moment(entry.time), str(entry.epoch), what, toned(data, "bad" if failed else "plain"))
        )
    yield table(("time", "process", "what", "result and facts~"), rows)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _downtime(record: Record) -> str:
    if record.downtime_s is not None:
        return duration(record.downtime_s)
    if record.source_off is not None and record.facts.get("answered") is False:
        return "not over: the guest gave no heartbeat within the timeout"
    return "not measured"
