"""Shows the failovers of a job as text. Pure: values in, renderables out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli.render.text import (
    BAD,
    GOOD,
    HEAD,
    duration,
    facts,
    grid,
    indented,
    moment,
    points,
)
from vreplica.failover.machine.progress import sides_of
from vreplica.failover.standing import Sides, Standing, in_words
from vreplica.units import human_size

if TYPE_CHECKING:
    from vreplica.failover.crosscheck import Comparison
    from vreplica.failover.estimate import Estimate
    from vreplica.failover.machine.journal import Entry
    from vreplica.failover.machine.record import Outcome, Record
    from vreplica.failover.machine.states import FailoverState
    from vreplica.failover.preview import Preview
    from vreplica.points import RecoveryPoint

STANDS: Final = {
    "running": "in service, not committed",
    "committed": "in service, committed",
    "undone": "undone",
    "aborted": "given up",
}
"""The states in which a failover has ended or waits for the operator."""
NEXT: Final = {
    "running": "commit it (vreplica-sync commit JOB) or undo it (vreplica-sync undo JOB)",
    "aborted": "the guest was not asked to shut down; the source runs on, the job is on again",
    "committed": "the job stays off; vreplica-sync failback JOB brings the VM back",
    "undone": "the replica is back on its point, and the job is on again",
}
IN_SERVICE: Final = frozenset({"booting", "running", "committing", "committed"})
"""States in which the replica runs from the point that was chosen."""
STOPPED: Final = "resume it (vreplica-sync failover resume JOB) or undo it (vreplica-sync undo JOB)"


def preview(known: Preview, max_downtime_s: float | None = None) -> Iterator[RenderableType]:
    way = "failback" if known.back else "failover"
    yield Text.assemble((known.job, HEAD), f": {way} to ", known.replica_said)
    if known.source is None:
        source = f"{known.source_said}, cannot be read: {known.source_trouble}"
    else:
        tools = "running" if known.source.tools_running else known.source.tools_status
        source = f"{known.source_said}, {known.source.power_state}, Tools {tools}"
    boots = _boots(known)
    if known.insured_level is not None and not known.can_shut_down:
        yes = (
            f"point A while it runs ({known.insured_level}); then as --on-shutdown-timeout says, "
            "since the guest cannot be asked to shut down"
        )
    elif known.insured_level is not None:
        yes = (
            f"point A while it runs ({known.insured_level}), guest shutdown, final sync "
            f"(clean-shutdown), {known.replica.name} on"
        )
    elif known.source is not None:
        yes = "final sync of a source that is off already (crash: how it went down is not known)"
    else:
        yes = f"not possible: {known.source_vm} cannot be read; only --source-lost can start "
        yes += known.replica.name
    refused = [f"refused now: {problem}" for problem in known.refused]
    yield facts(
        ("in service" if known.back else "source", [source]),
        (
            "original" if known.back else "replica",
            [f"{known.replica_said}, {known.replica.power_state}"],
        ),
        ("planned", refused or [yes]),
        (_way(known), [_hard(known, boots), *other_choices(known)]),
        ("downtime", list(_downtime(known, max_downtime_s))),
        ("steps, planned", [f"{n}. {step}" for n, step in enumerate(known.steps_yes(), 1)]),
        (
            f"steps, {_way(known)}",
            [f"{n}. {step}" for n, step in enumerate(known.steps_no(), 1)],
        ),
        ("guest", known.customization),
        ("remarks", known.remarks),
    )
    if known.points or not known.back:
        yield from points(known.job, known.points)


def _way(known: Preview) -> str:
    """The way without a final sync: where the source cannot be read, only the site can be lost."""
    return "emergency" if known.source is not None else "site lost"


def _hard(known: Preview, boots: str) -> str:
    """Says what happens to the source without a final sync, and which point boots."""
    if known.source is None:
        return f"--source-lost: does not touch the source, {boots}"
    if known.source.power_state != "poweredOn":
        return f"{known.source.name} is off already; {boots}"
    return f"powers {known.source.name} OFF (hard), {boots}"


def _boots(known: Preview) -> str:
    """The point that boots without a final sync, in words, and what is lost with it."""
    if known.boots_none is not None:
        return f"boots nothing: {known.boots_none}"
    if known.boots is None:
        name = known.source_vm
        return f"boots {known.replica.name} as it is: what {name} wrote in service is lost"
    lost = duration(known.age_s(known.boots))
    return f"boots {_aged(known, known.boots)}: loses what was written in these {lost}"


def other_choices(known: Preview) -> list[str]:
    """The other points that can boot, each with what is lost or saved by it."""
    if known.boots is None:
        return []
    named = "--final-sync no --point" if known.source is not None else "--point"
    mine_s, told = known.age_s(known.boots), []
    for point in known.others:
        apart_s = known.age_s(point) - mine_s
        more = f"loses {duration(abs(apart_s))} {'more' if apart_s > 0 else 'less'}"
        told.append(f"or {_aged(known, point)}, {more}: {named} {point.id}")
    return told


def _aged(known: Preview, point: RecoveryPoint) -> str:
    age = duration(known.age_s(point))
    return f"{point.id} ({point.level}, {moment(point.time)}, {age} old)"


def _downtime(known: Preview, limit_s: float | None) -> Iterator[str]:
    """The estimated downtime, and the measurements that it is based on."""
    from vreplica.failover.estimate import rate_in_words

    guess, measured = known.estimate, known.estimate.measured
    final, whole, passes = (
        guess.final_s(limit_s),
        guess.downtime_s(limit_s),
        guess.passes(limit_s),
    )
    start = duration(measured.start_s) if measured.start_s is not None else "not known"
    if known.source is not None:
        told = duration(final) if final is not None else "not known before a pass was made"
        about = f"about {duration(whole)} once the source is off: " if whole is not None else ""
        yield f"planned: {about}final sync {told}, start of the replica {start}"
    yield f"{_way(known)}: start of the replica {start}"
    if guess.running and measured.shutdown_s is not None:
        yield f"before that the guest's shutdown: {duration(measured.shutdown_s)} last time"
    if passes:
        took = ", then ".join(duration(p) for p in passes)
        reached = ""
        if limit_s is not None:
            under = passes[-1] <= limit_s
            reached = f": {'under' if under else 'not down to'} {duration(limit_s)}"
        yield f"while {known.source_vm} runs: {took}{reached}"
    yield f"by: {rate_in_words(known.points)}{_speeds(guess)}"
    yield (
        f"by: shutdown and start as in {', '.join(measured.of)}"
        if measured.of
        else "by: no failover of this job has come so far, so its start is not known"
    )


def _speeds(guess: Estimate) -> str:
    said = (
        f", copied at {human_size(int(guess.copy_bytes_per_s))} a second"
        if guess.copy_bytes_per_s
        else ""
    )
    if guess.overhead_s is not None:
        said += f", {duration(guess.overhead_s)} a run beside that"
    if guess.age_s is not None:
        said += f"; the newest point is {duration(guess.age_s)} old"
    return said


def outcome(job: str, done: Outcome) -> Iterator[RenderableType]:
    yield _headline(job, done.id, done.state, done.facts)
    facts_of = done.facts if done.state.value in IN_SERVICE else {}
    booted = _booted(facts_of, done.age_s) if "point" in facts_of else ""
    silent = "no heartbeat within the timeout" if facts_of.get("answered") is False else ""
    yield facts(
        (_source_label(done.facts), [source_now(done.state.value, done.facts)]),
        ("reason", [str(done.facts.get("reason", ""))]),
        ("kept", [kept(done.facts)]),
        ("runs", [_runs(facts_of)]),
        ("booted", [booted]),
        ("downtime", [duration(done.downtime_s) if done.downtime_s and facts_of else ""]),
        ("guest", [silent, str(facts_of.get("guest_trouble", ""))]),
        ("replication", [_replication(done)]),
        ("next", [_next(job, done.id, done.state)]),
    )


def _source_label(facts: Mapping[str, Any]) -> str:
    """The source by its name: of a failback it is the VM that was in service."""
    names = facts.get("sides")
    return str(names["source"]["vm"]) if names is not None else "source"


def _runs(facts: Mapping[str, Any]) -> str:
    """The VM in service: its name, site, host, networks and addresses."""
    sides, found = sides_of(facts), facts.get("runs", {})
    if sides is None or not facts:
        return ""
    said = [sides[1]]
    if found.get("host"):
        said.append(f"host {found['host']}")
    for name in ("network", "address"):
        values = found.get({"network": "networks", "address": "addresses"}[name], ())
        said.append(f"{name} {', '.join(values)}" if values else f"no {name} known")
    return ", ".join(said)


def _replication(done: Outcome) -> str:
    """The state of the job's replication after it."""
    if done.job_on:
        return "on again"
    if done.committed:
        return "off, until a failback"
    return "off, until commit or undo"


def point_label(state: str) -> str:
    """The name of the point: before the boot and after an undo it is only the chosen one."""
    return "booted" if state in IN_SERVICE else "point"


def _booted(facts: Mapping[str, Any], age_s: float | None) -> str:
    """The point that was booted, from when its data is, and the newer ones that were not."""
    taken = facts.get("taken")
    since = f", data from {moment(datetime.fromisoformat(taken))}" if taken else ""
    if age_s is not None:
        since += f", {duration(age_s)} old when it was chosen"
    newer = [p["point"] for p in facts.get("others", ()) if taken and p["taken"] > taken]
    left = f"; newer, not booted: {', '.join(newer)}" if newer else ""
    return f"{facts['point']} ({facts['level']}{since}){left}"


def kept(facts: Mapping[str, Any]) -> str:
    """Says how much of what was written in service an undo has kept."""
    written = facts.get("written_bytes")
    if "kept" not in facts:
        return "nothing was written in service" if written == 0 else ""
    size = human_size(written) if written is not None else "a size that is not known"
    return f"{size} written in service, as side branch {facts['kept']} ({facts['kept_level']})"


def source_now(state: str, facts: Mapping[str, Any]) -> str:
    """The source as the failover left it."""
    return str(facts.get("source_now" if state == "undone" else "source", ""))


def _next(job: str, id_: str, state: FailoverState) -> str:
    if _kind(id_) == "failback" and state.value == "committed":
        return "nothing: the VM runs on its original and the job replicates forward again"
    return NEXT.get(state.value, STOPPED).replace("JOB", job)


def _headline(
    job: str, id_: str, state: FailoverState, facts: Mapping[str, Any] | None = None
) -> Text:
    """`facts`: with the names of both sides, where its journal has them."""
    if facts is not None and (names := facts.get("sides")) is not None:
        back = _kind(id_) == "failback"
        here, there = names["source"]["site"], names["replica"]["site"]
        sides = Sides(there, here) if back else Sides(here, there)
        return Text.assemble((job, HEAD), ": ", (in_words(Standing(id_, state.value), sides), HEAD))
    stands = STANDS.get(state.value, f"in state {state.value}")
    return Text.assemble((job, HEAD), f": {_kind(id_)} {id_} is ", (stands, HEAD))


def _kind(id_: str) -> str:
    return "failback" if id_.startswith("fb-") else "failover"


def history(job: str, found: Sequence[Outcome]) -> Iterator[RenderableType]:
    if not found:
        yield Text.assemble((job, HEAD), ": no failover yet")
        return
    table = grid("failover", "state", "point?", "level~")
    for each in found:
        table.add_row(
            each.id,
            str(each.state),
            str(each.facts.get("point", "-")),
            str(each.facts.get("level", "-")),
        )
    yield indented(table)


def record(done: Record, checked: Comparison | None = None) -> Iterator[RenderableType]:
    yield _headline(done.job, done.id, done.state, done.facts)
    down = f"{duration(done.downtime_s)} (source off to heartbeat)" if done.downtime_s else ""
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in done.parts_s)
    booted = f"{done.point} ({done.level})" if done.point else ""
    yield facts(
        (point_label(done.state.value), [booted]),
        ("downtime", [down]),
        ("of which", [parts]),
        ("next", [_next(done.job, done.id, done.state)]),
    )
    table = grid("time", "epoch>?", "what~", "data~")
    for entry in done.entries:
        what = str(entry.event) if entry.event is not None else f"{entry.kind} {entry.step}".strip()
        data = ", ".join(f"{k}={v}" for k, v in entry.data.items() if k != "tasks")
        table.add_row(moment(entry.time), str(entry.epoch), what, data)
    yield indented(table)
    if checked is not None:
        yield from comparison(checked)


def comparison(checked: Comparison, of: str = "") -> Iterator[RenderableType]:
    """vCenter's own record beside the journal. `of`: the member, where it is of a group."""
    verdict = ("agrees", GOOD) if checked.equal else ("differs", BAD)
    events = f", {checked.by_events} only in its events" if checked.by_events else ""
    both = f": {checked.agreed} tasks in both{events}"
    whose = f"{of}: vCenter's own record " if of else "vCenter's own record "
    yield Text.assemble(whose, verdict, both)
    rows = [f"{f.kind}, {f.side}: {f.text}" for f in checked.findings]
    yield facts(("findings", rows), ("not asked", checked.not_asked))


def entry_dict(entry: Entry) -> dict[str, Any]:
    return {
        "n": entry.n,
        "epoch": entry.epoch,
        "time": entry.time.isoformat(),
        "kind": entry.kind,
        "step": entry.step,
        "event": entry.event.value if entry.event is not None else None,
        "data": entry.data,
    }
