"""A failover's record held against vCenter's own: what either knows and the other does not.

    journal     call "PowerOn replica"  {"tasks": {"destination": ["task-31", "task-32"]}}
    vCenter     task-32  VirtualMachine.powerOn  replica  success         <- the same
                task-40  VirtualMachine.powerOn  source   success  admin  <- not ours: told

vCenter keeps tasks for weeks; a key of ours that it does not know any more is told, too. A guest
shutdown has no task of its own in the API, where vCenter shows one it is matched by its name. What
a process had begun when it was killed has an intent and no key: such a task is told as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vreplica.failover.journal import Entry
from vreplica.failover.record import Record
from vreplica.failover.steps import SHUT_DOWN
from vreplica.jobs.failback import Back
from vreplica.sync import Job
from vreplica.vsphere import Session, TaskRecord, VmRef, connect

SLACK: Final = timedelta(seconds=5)
"""Around the time of a failover, in which its own tasks are looked for: clocks differ."""

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: unknown (vCenter did what the record does not have), interrupted (by a process of
    this failover that was killed at it), missing (vCenter does not have what the record has),
    failed (the record says done, vCenter says error)."""

    kind: str
    side: str
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`agreed`: how many tasks both have."""

    agreed: int
    findings: tuple[Finding, ...]
    not_asked: tuple[str, ...]
    """Sides that were not asked, with the reason."""

    @property
    def equal(self) -> bool:
        return not any(f.kind in ("unknown", "failed") for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            "agreed": self.agreed,
            "findings": [{"kind": f.kind, "side": f.side, "text": f.text} for f in self.findings],
            "not_asked": list(self.not_asked),
        }


def compare(job: Job, record: Record) -> Comparison:
    """Ask both vCenters. Raises what connecting raises, except for a source declared lost."""
    if (back := Back.of_journal(record.entries[0].data)) is not None:
        job = back.job(job)
    agreed, findings = 0, list[Finding]()
    not_asked = list[str]()
    for side, endpoint, name in (
        ("source", job.source, job.source_vm),
        ("destination", job.destination, job.placement.name),
    ):
        if side == "source" and record.entries[0].data.get("source_lost"):
            not_asked.append("source: declared lost")
            continue
        with connect(endpoint) as session:
            theirs, span = _theirs(session, session.find_vm(name), record)
        count, found = match(record.entries, side, theirs, span)
        agreed += count
        findings += found
    return Comparison(agreed, tuple(findings), tuple(not_asked))


def _theirs(session: Session, vm: VmRef, record: Record) -> tuple[tuple[TaskRecord, ...], Span]:
    """vCenter's tasks in the time of the failover, and that time, by vCenter's clock."""
    ahead = session.refresh() - datetime.now(UTC)
    end = record.ended if record.ended is not None else datetime.now(UTC)
    span = (record.began + ahead, end + ahead)
    return session.tasks_between(vm, span[0] - SLACK, span[1] + SLACK), span


def match(
    entries: Sequence[Entry], side: str, theirs: Sequence[TaskRecord], span: Span | None = None
) -> tuple[int, list[Finding]]:
    """How many tasks agree, and what does not. Pure. span: tasks outside are only ours or none
    of the failover's: a run just before it."""
    ours: dict[str, Entry] = {
        key: entry for entry in entries for key in entry.data.get("tasks", {}).get(side, ())
    }
    asked = [e for e in entries if e.kind == "intent" and e.step == SHUT_DOWN and side == "source"]
    killed = list(_killed(entries))
    found: list[Finding] = []
    agreed = 0
    for task in theirs:
        entry = ours.pop(task.key, None)
        if entry is not None:
            agreed += 1
            if task.state == "error" and not _failed(entry):
                text = f"{entry.step}: done by the record, {_said(task)}"
                found.append(Finding("failed", side, text))
        elif asked and "shutdownguest" in task.operation.lower():
            asked.pop(0)
            agreed += 1
        elif any(begin - SLACK <= task.queued <= end + SLACK for begin, end in killed):
            found.append(Finding("interrupted", side, _said(task)))
        elif span is None or span[0] <= task.queued <= span[1]:
            found.append(Finding("unknown", side, _said(task)))
    found += [
        Finding("missing", side, f"{entry.step}: task {key} is not in vCenter's history")
        for key, entry in ours.items()
    ]
    return agreed, found


def _killed(entries: Sequence[Entry]) -> Iterator[tuple[datetime, datetime]]:
    """From an intent without a result to the next process's first entry."""
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


def _said(task: TaskRecord) -> str:
    ended = f", {task.error}" if task.error else ""
    who = f" by {task.user}" if task.user else ""
    at = f"{task.queued:%Y-%m-%d %H:%M:%S}Z"
    return f"{at} {task.operation} of {task.entity} ({task.key}){who}: {task.state}{ended}"
