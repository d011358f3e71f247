"""Compares a failover's record with vCenter's own tasks and events, and reports the differences.

    journal     call "PowerOn replica"  {"tasks": {"destination": ["task-31", "task-32"]}}
    vCenter     task-32  VirtualMachine.powerOn  replica  success         <- in both
                task-40  VirtualMachine.powerOn  source   success  admin  <- unknown
                VmPoweredOffEvent  source  (no task: HA, or the guest)    <- unknown

vCenter keeps tasks and events for weeks, as configured; a single ESXi host keeps tasks for minutes
only. Where the tasks of a call are gone, its events stand for them. Where the events are gone as
well, the task is reported as missing.

A guest shutdown has no task of its own in the API. Where vCenter shows one, it is matched by its
name. An effect that a process had begun when it was killed has an intent and no task key: its task
is reported as interrupted. Times are by this machine's clock; vCenter's times are converted to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vreplica.failover.failback import FailbackPlan
from vreplica.failover.machine.context import SHUT_DOWN
from vreplica.failover.machine.journal import Entry
from vreplica.failover.machine.record import Record
from vreplica.failover.machine.states import FailoverEvent
from vreplica.sync.job import Job
from vreplica.sync.known_vms import find_known_replica, find_source
from vreplica.vsphere.model import EventRecord, TaskRecord, VmRef
from vreplica.vsphere.session import Session, connect

SLACK: Final = timedelta(seconds=5)
"""Added before and after a failover's time, when its tasks are read: clocks differ."""

ON, OFF, ASKED, CHANGED = "on", "off", "asked to shut down", "reconfigured"

EVENTS: Final = {
    "VmPoweredOnEvent": ON,
    "DrsVmPoweredOnEvent": ON,
    "VmRestartedOnAlternateHostEvent": ON,
    "VmPoweredOffEvent": OFF,
    "VmSuspendedEvent": OFF,
    "VmGuestShutdownEvent": ASKED,
    "VmReconfiguredEvent": CHANGED,
}
"""The events that are compared. Snapshots have no events."""

CAUSES: Final = {
    "poweron": (ON,),
    "poweroff": (OFF,),
    "suspend": (OFF,),
    "standby": (OFF,),
    "shutdown": (ASKED, OFF),
    "revert": (ON, OFF),
}
"""A part of a task's name -> the events that such a task explains."""

OURS: Final = {"PowerOn": ON, "PowerOff": OFF, SHUT_DOWN.partition(" ")[0]: ASKED}
"""The first word of a call -> the kind of its events. Any other call: reconfigured."""

ROLE: Final = {"source": "source", "destination": "replica"}
"""Side -> the last word of the calls that change the power of its VM."""

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference between the record and vCenter.

    `kind`: `unknown` (vCenter has it, the record does not), `interrupted` (a process of this
    failover was killed while it did it), `missing` (the record has it, vCenter does not), `failed`
    (done by the record, an error by vCenter).
    """

    kind: str
    side: str
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result. `agreed`: tasks in both; `by_events`: calls of which only events are left."""

    agreed: int
    findings: tuple[Finding, ...]
    not_asked: tuple[str, ...] = ()
    """The sides that were not read, with the reason."""
    by_events: int = 0

    @property
    def equal(self) -> bool:
        return not any(f.kind in ("unknown", "failed") for f in self.findings)

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.agreed + other.agreed,
            self.findings + other.findings,
            self.not_asked + other.not_asked,
            self.by_events + other.by_events,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            "agreed": self.agreed,
            "by_events": self.by_events,
            "findings": [{"kind": f.kind, "side": f.side, "text": f.text} for f in self.findings],
            "not_asked": list(self.not_asked),
        }


def compare(job: Job, record: Record) -> Comparison:
    """Reads both vCenters and compares. A source declared lost is not contacted."""
    if (plan := FailbackPlan.of_journal(record.entries[0].data)) is not None:
        job = plan.reverse_job(job)
    found = Comparison(0, ())
    for side, endpoint in (("source", job.source), ("destination", job.destination)):
        if side == "source" and any(e.data.get("source_lost") for e in record.entries):
            found += Comparison(0, (), ("source: declared lost",))
            continue
        span = (record.began, record.ended or datetime.now(UTC))
        with connect(endpoint) as session:
            vm = find_source(session, job) if side == "source" else _replica(session, job)
            tasks, events = _read_vcenter(session, vm, span)
        found += match(record.entries, side, tasks, events, span)
    return found


def _replica(session: Session, job: Job) -> VmRef:
    return find_known_replica(session, job) or session.find_vm(job.placement.name)


def _read_vcenter(
    session: Session, vm: VmRef, span: Span
) -> tuple[list[TaskRecord], list[EventRecord]]:
    """vCenter's tasks and events of a time span, with times by this machine's clock."""
    ahead = session.refresh() - datetime.now(UTC)

    def here(time: datetime | None) -> datetime | None:
        return time - ahead if time is not None else None

    begin, end = span[0] + ahead - SLACK, span[1] + ahead + SLACK
    tasks = [
        replace(t, queued=t.queued - ahead, started=here(t.started), completed=here(t.completed))
        for t in session.tasks_between(vm, begin, end)
    ]
    events = session.events_between(vm, begin, end, tuple(EVENTS))
    return tasks, [replace(e, time=e.time - ahead) for e in events]


def match(
    entries: Sequence[Entry],
    side: str,
    tasks: Sequence[TaskRecord],
    events: Sequence[EventRecord] = (),
    span: Span | None = None,
) -> Comparison:
    """Matches the record's calls with vCenter's tasks and events.

    `span`: the failover's time. A task outside it counts only where the record has it; any other
    belongs to a run just before.
    """
    ours: dict[str, Entry] = {
        key: entry for entry in entries for key in entry.data.get("tasks", {}).get(side, ())
    }
    asked = [e for e in entries if e.kind == "intent" and e.step == SHUT_DOWN and side == "source"]
    killed = list(_killed(entries))
    found: list[Finding] = []
    agreed = 0

    def inside(time: datetime) -> bool:
        return span is None or span[0] <= time <= span[1]

    for task in tasks:
        entry = ours.pop(task.key, None)
        if entry is not None:
            agreed += 1
            if task.state == "error" and not _failed(entry):
                text = f"{entry.step}: done by the record, {_describe_task(task)}"
                found.append(Finding("failed", side, text))
        elif asked and "shutdownguest" in task.operation.lower():
            asked.pop(0)
            agreed += 1
        elif any(begin - SLACK <= task.queued <= end + SLACK for begin, end in killed):
            found.append(Finding("interrupted", side, _describe_task(task)))
        elif inside(task.queued):
            found.append(Finding("unknown", side, _describe_task(task)))
    calls = [call for call in _calls(entries) if call[0][1] == ROLE[side]]
    found += [
        Finding("unknown", side, _describe_event(event))
        for event in events
        if EVENTS[event.type] != CHANGED
        and inside(event.time)
        and not _explained(event, calls, tasks)
    ]
    shown = {key for key, entry in ours.items() if _has_event(events, entries, entry)}
    found += [
        Finding("missing", side, f"{entry.step}: task {key} is not in vCenter's history")
        for key, entry in ours.items()
        if key not in shown
    ]
    return Comparison(agreed, tuple(found), by_events=len(shown))


def _explained(event: EventRecord, calls: Sequence[Call], tasks: Sequence[TaskRecord]) -> bool:
    """True where one of the failover's calls, or a task of its own, explains the event."""
    kind = EVENTS[event.type]
    if any(kind in _effects(verb) and _during(event, span) for (verb, _), span in calls):
        return True
    return any(
        any(cause in task.operation.lower() and kind in of for cause, of in CAUSES.items())
        and _during(event, (task.queued, task.completed or event.time))
        for task in tasks
    )


def _effects(verb: str) -> tuple[str, ...]:
    """The kinds of events that a call leads to: a guest that was asked to shut down ends off."""
    kind = OURS[verb]
    return (ASKED, OFF) if kind == ASKED else (kind,)


def _has_event(events: Sequence[EventRecord], entries: Sequence[Entry], call: Entry) -> bool:
    """True where an event shows a call whose task vCenter does not keep any more."""
    began = [e for e in entries if e.kind == "intent" and e.step == call.step and e.n < call.n]
    kind = OURS.get(call.step.partition(" ")[0], CHANGED)
    span = (began[-1].time if began else call.time, call.time)
    return any(EVENTS[e.type] in (kind, CHANGED) and _during(e, span) for e in events)


def _during(event: EventRecord, span: Span) -> bool:
    return span[0] - SLACK <= event.time <= span[1] + SLACK


Call = tuple[tuple[str, str], Span]
"""A call (`PowerOn`, `replica`), and its time from the intent to the end of what it led to."""


def _calls(entries: Sequence[Entry]) -> Iterator[Call]:
    """The calls that change a VM's power. A shutdown lasts until the source was seen off."""
    for entry in entries:
        verb, _, role = entry.step.partition(" ")
        if entry.kind != "intent" or verb not in OURS:
            continue
        after = [e for e in entries if e.n > entry.n]
        if entry.step == SHUT_DOWN:
            over = [e.time for e in after if e.event is FailoverEvent.SOURCE_SEEN_OFF]
        else:
            over = [e.time for e in after if e.step == entry.step or e.epoch > entry.epoch]
        yield (verb, role), (entry.time, over[0] if over else datetime.now(UTC))


def _killed(entries: Sequence[Entry]) -> Iterator[tuple[datetime, datetime]]:
    """The times from an intent without a result to the first entry of the next process."""
    for entry in entries:
        if entry.kind != "intent":
            continue
        after = [e for e in entries if e.n > entry.n]
        if any(e.epoch == entry.epoch and e.kind == "call" and e.step == entry.step for e in after):
            continue
        nexts = [e.time for e in after if e.epoch > entry.epoch]
        yield entry.time, nexts[0] if nexts else datetime.now(UTC)


def _failed(entry: Entry) -> bool:
    return str(entry.data.get("result", "")).startswith("failed")


def _describe_event(event: EventRecord) -> str:
    who = f" by {event.user}" if event.user else ""
    return f"{event.time:%Y-%m-%d %H:%M:%S}Z {event.type} of {event.vm}, without a task{who}"


def _describe_task(task: TaskRecord) -> str:
    ended = f", {task.error}" if task.error else ""
    who = f" by {task.user}" if task.user else ""
    at = f"{task.queued:%Y-%m-%d %H:%M:%S}Z"
    return f"{at} {task.operation} of {task.entity} ({task.key}){who}: {task.state}{ended}"
