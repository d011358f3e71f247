"""Describes the state of a job from what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from vreplica.failover import standing
from vreplica.failover.live import LiveJob
from vreplica.failover.standing import Sides, Standing
from vreplica.scheduling.planner import ConcurrencyLimits, plan_round, point_age
from vreplica.scheduling.schedule import JobRecord, Rpo, ScheduleRule, next_due, next_opening
from vreplica.service.job_status import JobStatus
from vreplica.service.known_state import JobFolder, Known, by_time, with_any_rule
from vreplica.sync.by_hand import HandEntry

NO_SERVICE: Final = "no service is running"
NO_SCHEDULE: Final = "no schedule (run by hand)"
NOT_KNOWN: Final = "no recovery point is known here; the destination was not asked"
NO_POINT: Final = "there is no recovery point yet"
_SETTLED: Final = frozenset({"running", "committed", standing.BOOTED, "unknown"})
"""States of a failover that waits for nobody but the operator."""
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def describe_job(
    name: str,
    rule: ScheduleRule | None,
    known: Known,
    folder: JobFolder,
    sides: Sides,
    live: LiveJob | None = None,
) -> JobStatus:
    """`live`: both sides as they were just read; it wins over what is only known."""
    (any_rule,) = with_any_rule({name: rule}).values()
    # Of a job that the catalog does not know, nobody has asked the destination.
    record = known.records.get(name) or JobRecord(name, any_rule, known.now, asked=False)
    hand = _later(known.by_hand.get(name), folder.by_hand)
    record = _with_point(record, hand)
    if live is not None and live.points_read:
        taken = live.newest.taken if live.newest is not None else None
        record = replace(record, point_time=taken, asked=True)
    failed = _failed_by_hand(record, hand)
    error = failed.error if failed else known.errors.get(name)
    one = describe(known.now, record, error, at_work=known.at_work, by_hand=failed is not None)
    point = known.newest.get(name, (None, None))
    if hand is not None and hand.result.get("taken") and record.point_time == _taken(hand):
        point = (hand.result.get("point"), hand.result.get("level"))
    seen = known.seen.get(name)
    if live is not None and live.points_read:
        newest, seen = live.newest, known.now
        point = (newest.id, newest.level.value) if newest is not None else (None, None)
    one = replace(
        one,
        flagged=known.flagged.get(name),
        seen=seen,
        point=point[0],
        level=point[1],
        failed_at=failed.ended if failed else record.last_end if one.error else None,
        source=sides.source,
        destination=sides.destination,
    )
    if rule is None:
        one = _without_schedule(one, record)
    if folder.pid is not None and one.state in ("idle", "failing"):
        here = f"process {folder.pid} of this machine is working on it"
        one = replace(one, state="running", next_at=None, why=here)
    one = _with_failover(one, known, folder, sides)
    return as_read(one, live) if live is not None else one


def as_read(one: JobStatus, live: LiveJob) -> JobStatus:
    """With the VM where it was read to be on."""
    one = replace(one, live=live)
    if live.both_on:
        return replace(one, vm_at=None, vm_off=False)
    if live.site_on is not None:
        return replace(one, vm_at=live.site_on, vm_off=False)
    if live.both_off:
        return replace(one, vm_at=None, vm_off=True)
    said = live.replica if one.vm_at == one.destination else live.source
    return one if said.power is not None and said.host_answers else replace(one, vm_at=None)


def _without_schedule(one: JobStatus, record: JobRecord) -> JobStatus:
    state = "idle" if one.state == "paused" else one.state
    why = NO_SCHEDULE
    if one.error is not None:
        why = f"last run failed: {one.error.splitlines()[0]}; {why}"
    if record.running:
        why = one.why
    quiet: dict[str, Any] = {"scheduled": False, "target": None, "alarm": None, "next_at": None}
    return replace(one, state=state, why=why, **quiet)


def _later(*entries: HandEntry | None) -> HandEntry | None:
    there = [entry for entry in entries if entry is not None]
    return max(there, key=lambda entry: entry.began, default=None)


def _taken(hand: HandEntry) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(hand.result["taken"]))
    except (KeyError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _with_point(record: JobRecord, hand: HandEntry | None) -> JobRecord:
    """With the point of a run by hand, where the catalog knows no newer one."""
    taken = _taken(hand) if hand is not None and hand.state == "done" else None
    if taken is None or taken <= (record.point_time or _LONG_AGO):
        return record
    return replace(record, point_time=taken, failures=0, asked=True)


def _failed_by_hand(record: JobRecord, hand: HandEntry | None) -> HandEntry | None:
    """The run by hand, where it failed and no run was made since."""
    if hand is None or hand.state != "failed":
        return None
    since = max(record.last_end or _LONG_AGO, record.point_time or _LONG_AGO)
    return hand if hand.ended > since else None


def _with_failover(one: JobStatus, known: Known, folder: JobFolder, sides: Sides) -> JobStatus:
    """With the failover that is under way or moved the VM, and the site where the VM is."""
    if folder.trouble is not None:
        return replace(one, state="disabled", why=folder.trouble, next_at=None)
    disabled, request = known.disabled.get(one.job), known.requests.get(one.job)
    # A row of an enabled job was written before a failback, or an undo, that is not in the catalog.
    rows = known.failovers.get(one.job, ()) if disabled is not None else ()
    found = list(_merged(rows, folder.failovers))
    here = standing.current(found)
    if disabled is not None and not any(f.id == disabled for f in found):
        # The catalog knows no more than that it began.
        here = here or Standing(disabled, "unknown")
    open_request = _open_request(request)
    if open_request is None and (here is None or (here.ended and here.back)):
        # Of a job of which nothing is known here, a failover may not be known either.
        return replace(one, vm_at=sides.source if one.asked or found else None)
    at = standing.site_of(here, sides)
    id_, state = (here.id, here.state) if here is not None else (disabled, None)
    if open_request is not None and open_request.order["do"] in ("begin", "back"):
        asked = next((f for f in found if f.id == open_request.id), None)
        id_, state = open_request.id, asked.state if asked is not None else None
    if state == "unknown":
        at, state = None, None
    words = f"failover {id_}"
    if id_ is not None and state is not None:
        words = standing.in_words(Standing(id_, state), sides)
    job_state, why = _in_words(words, open_request, here)
    return replace(
        one,
        state=job_state,
        why=why,
        next_at=None,
        alarm=None,
        vm_at=at,
        vm_off=here is not None and here.state in standing.OFF_AT_BOTH,
        failover={
            "id": id_,
            "state": state,
            "request": open_request.state if open_request is not None else None,
            "mover": (open_request.mover or None) if open_request is not None else None,
        },
    )


def _open_request(request: Any) -> Any:
    """The request where it has not ended, or its mover is gone."""
    open_states = ("asked", "queued", "running", "lost")
    return request if request is not None and request.state in open_states else None


def _merged(catalog: Iterable[Standing], here: Iterable[Standing]) -> Iterable[Standing]:
    """Oldest first. What this machine has is the truth; the catalog's order is by the ids."""
    ours = {one.id: one for one in here}
    last = ""
    keyed = [(by_time(one), one) for one in catalog if one.id not in ours]
    for one in ours.values():
        last = max(last, by_time(one))  # the journals' order holds, whatever the clock said
        keyed.append((last, one))
    return [one for _, one in sorted(keyed, key=lambda pair: pair[0])]


def _in_words(words: str, request: Any, here: Standing | None) -> tuple[str, str]:
    """State of the job, and the reason."""
    match request.state if request is not None else None:
        case "asked" | "queued":
            return "failing over", f"{words}; requested, waits for the run under way"
        case "running":
            return "failing over", f"{words}, on mover {request.mover}"
        case "lost":
            gone = f"mover {request.mover} is gone, start it again to go on"
            return "disabled", f"{words}; {gone}"
    under_way = here is not None and here.state not in _SETTLED
    return "failing over" if under_way else "disabled", words


def describe(
    now: datetime,
    job: JobRecord,
    error: str | None = None,
    *,
    at_work: bool = True,
    by_hand: bool = False,
) -> JobStatus:
    """The state of a job without failovers.

    `error`: of its last run, where that failed; `by_hand`: a command carried it out. `at_work`: a
    service is running.
    """
    alarms = plan_round(now, [job], ConcurrencyLimits()).alarms if job.asked or at_work else ()
    due = next_due(now, job)
    opens = next_opening(max(now, due.at), job.rule)
    if job.running:
        state, next_at, why = "running", None, "a run is under way"
    elif job.paused:
        state, next_at = "paused", None
        why = f"`vreplica-sync schedule resume {job.name}` plans it again"
    else:
        state = "failing" if job.failures or by_hand else "idle"
        next_at = opens if at_work else None
        why = _why(job, opens, error, at_work=at_work, by_hand=by_hand)
        waits = opens is not None and opens > max(now, due.at)
        if at_work and waits and not job.failures:
            why += "; waits for its window"
    age = point_age(now, job)
    ahead = job.point_time is not None and age is None
    if ahead:
        why = f"the newest point's time lies ahead of this mover's clock; {why}"
    return JobStatus(
        job=job.name,
        state=state,
        age=age,
        target=job.rule.target,
        alarm=str(alarms[0].kind) if alarms else None,
        next_at=next_at,
        why=why,
        failures=job.failures or int(by_hand),
        error=error if job.failures or by_hand else None,
        point_ahead=ahead,
        asked=job.asked,
    )


def _why(
    job: JobRecord, opens: datetime | None, error: str | None, *, at_work: bool, by_hand: bool
) -> str:
    """The reason of the next run, which begins at `opens`; or why there is none."""
    failed = ""
    if job.failures or by_hand:
        many = "last run" if job.failures <= 1 else f"last {job.failures} runs"
        said = f": {error.splitlines()[0]}" if error else ""
        failed = f"{many} failed{said}; "
    if not at_work:
        return f"{failed}{NO_SERVICE}"
    if opens is None:
        return f"{failed}no window opens within a week"
    if job.failures:
        return f"{failed}retry at {opens:%H:%M}Z"
    if isinstance(job.rule.when, Rpo) and job.point_time is None:
        return f"{failed}{NO_POINT if job.asked else NOT_KNOWN}"
    return f"{failed}{job.rule}"
