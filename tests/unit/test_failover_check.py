"""The record of a failover against vCenter's: what agrees, and each way in which it may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vreplica.failover.journal import Entry
from vreplica.jobs.check import Finding, match
from vreplica.vsphere import TaskRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(n: int, kind: str, step: str, epoch: int = 1, **data: object) -> Entry:
    return Entry(n, epoch, at(n * 60), kind, step, None, dict(data))


def task(
    key: str, second: int, operation: str = "VirtualMachine.powerOn", error: str = ""
) -> TaskRecord:
    state = "error" if error else "success"
    when = at(second)
    return TaskRecord(
        key, operation, "web", "vm-1", state, "ann", when, when, when, None, error or None
    )


def kinds(found: list[Finding]) -> list[str]:
    return [f.kind for f in found]


DONE = [
    entry(0, "begin", ""),
    entry(1, "intent", "PowerOn replica"),
    entry(2, "call", "PowerOn replica", result="done", tasks={"destination": ["task-1"]}),
]


def test_what_both_have_agrees() -> None:
    assert match(DONE, "destination", [task("task-1", 90)]) == (1, [])


def test_the_same_key_at_the_other_site_is_another_task() -> None:
    agreed, found = match(DONE, "source", [task("task-1", 90)])
    assert (agreed, kinds(found)) == (0, ["unknown"])
    assert "ann" in found[0].text


def test_what_only_vcenter_has_is_told_with_who_did_it() -> None:
    agreed, found = match(DONE, "destination", [task("task-1", 90), task("task-9", 100)])
    assert (agreed, kinds(found)) == (1, ["unknown"])
    assert "task-9" in found[0].text


def test_what_only_the_record_has_is_told() -> None:
    assert kinds(match(DONE, "destination", [])[1]) == ["missing"]


def test_a_task_that_failed_after_all_is_told() -> None:
    agreed, found = match(DONE, "destination", [task("task-1", 90, error="NoDiskSpace: full")])
    assert (agreed, kinds(found)) == (1, ["failed"])
    assert "NoDiskSpace" in found[0].text


def test_a_guest_shutdown_is_matched_by_its_name_and_once() -> None:
    asked = [entry(0, "begin", ""), entry(1, "intent", "ShutdownGuest source")]
    asked.append(entry(2, "call", "ShutdownGuest source", result="done"))
    two = [task(f"task-{n}", 60 + n, "VirtualMachine.shutdownGuest") for n in range(2)]
    agreed, found = match(asked, "source", two)
    assert (agreed, kinds(found)) == (1, ["unknown"])


def test_what_a_killed_process_had_begun_is_told_as_that() -> None:
    killed = [*DONE[:2], entry(3, "event", "", epoch=2)]
    agreed, found = match(killed, "destination", [task("task-1", 61), task("task-2", 400)])
    assert (agreed, kinds(found)) == (0, ["interrupted", "unknown"])


def test_what_was_done_just_before_the_failover_is_none_of_it() -> None:
    span = (at(30), at(200))
    tasks = [task("task-0", 29), task("task-1", 90), task("task-9", 201)]
    assert match(DONE, "destination", tasks, span) == (1, [])
