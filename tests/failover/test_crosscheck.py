"""The record of a failover against vCenter's: what agrees, and each way in which it may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vreplica.failover.crosscheck import Comparison, match
from vreplica.failover.machine.journal import Entry
from vreplica.failover.machine.states import FailoverEvent
from vreplica.vsphere.model import EventRecord, TaskRecord

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


def event(type_: str, second: int) -> EventRecord:
    return EventRecord(second, type_, at(second), "ann", "web", type_)


def seen(compared: Comparison) -> tuple[int, list[str]]:
    return compared.agreed, [f.kind for f in compared.findings]


DONE = [
    entry(0, "begin", ""),
    entry(1, "intent", "PowerOn replica"),
    entry(2, "call", "PowerOn replica", result="done", tasks={"destination": ["task-1"]}),
]


def test_what_both_have_agrees() -> None:
    assert match(DONE, "destination", [task("task-1", 90)]) == Comparison(1, ())


def test_the_same_key_at_the_other_site_is_another_task() -> None:
    compared = match(DONE, "source", [task("task-1", 90)])
    assert seen(compared) == (0, ["unknown"])
    assert "ann" in compared.findings[0].text


def test_what_only_vcenter_has_is_told_with_who_did_it() -> None:
    compared = match(DONE, "destination", [task("task-1", 90), task("task-9", 100)])
    assert seen(compared) == (1, ["unknown"])
    assert "task-9" in compared.findings[0].text


def test_what_only_the_record_has_is_told() -> None:
    assert seen(match(DONE, "destination", [])) == (0, ["missing"])


def test_a_task_that_failed_after_all_is_told() -> None:
    compared = match(DONE, "destination", [task("task-1", 90, error="NoDiskSpace: full")])
    assert seen(compared) == (1, ["failed"])
    assert "NoDiskSpace" in compared.findings[0].text


def test_a_guest_shutdown_is_matched_by_its_name_and_once() -> None:
    asked = [entry(0, "begin", ""), entry(1, "intent", "ShutdownGuest source")]
    asked.append(entry(2, "call", "ShutdownGuest source", result="done"))
    two = [task(f"task-{n}", 60 + n, "VirtualMachine.shutdownGuest") for n in range(2)]
    assert seen(match(asked, "source", two)) == (1, ["unknown"])


def test_what_a_killed_process_had_begun_is_told_as_that() -> None:
    killed = [*DONE[:2], entry(3, "event", "", epoch=2)]
    compared = match(killed, "destination", [task("task-1", 61), task("task-2", 400)])
    assert seen(compared) == (0, ["interrupted", "unknown"])


def test_what_was_done_just_before_the_failover_is_none_of_it() -> None:
    span = (at(30), at(200))
    tasks = [task("task-0", 29), task("task-1", 90), task("task-9", 201)]
    assert match(DONE, "destination", tasks, span=span) == Comparison(1, ())


# -- events -----------------------------------------------------------------------------------

DOWN = [
    entry(0, "begin", ""),
    entry(1, "intent", "ShutdownGuest source"),
    entry(2, "call", "ShutdownGuest source", result="done"),
    Entry(10, 1, at(600), "event", "", FailoverEvent.SOURCE_SEEN_OFF, {}),
]


def test_events_of_our_own_calls_agree() -> None:
    on = [event("VmPoweredOnEvent", 110)]
    assert seen(match(DONE, "destination", [task("task-1", 90)], on)) == (1, [])
    down = [event("VmGuestShutdownEvent", 61), event("VmPoweredOffEvent", 595)]
    assert seen(match(DOWN, "source", [], down)) == (0, [])


def test_a_change_of_power_without_a_task_is_told() -> None:
    """HA restarts a VM, or its guest shuts down by itself: no task says so."""
    for kind in ("VmRestartedOnAlternateHostEvent", "VmPoweredOnEvent", "VmSuspendedEvent"):
        compared = match(DOWN, "source", [], [event(kind, 400)])
        off = kind == "VmSuspendedEvent"
        assert seen(compared) == (0, [] if off else ["unknown"]), "off is what was asked for"
    late = match(DOWN, "source", [], [event("VmPoweredOffEvent", 700)])
    assert seen(late) == (0, ["unknown"])
    assert "VmPoweredOffEvent" in late.findings[0].text
    assert seen(match(DONE, "source", [], [event("VmPoweredOnEvent", 110)]))[1] == ["unknown"]


def test_events_of_tasks_are_judged_by_their_task() -> None:
    admin = task("task-9", 400, "VirtualMachine.powerOn")
    compared = match(DOWN, "source", [admin], [event("VmPoweredOnEvent", 401)])
    assert seen(compared) == (0, ["unknown"]), "once"
    other = task("task-9", 400, "VirtualMachine.createSnapshot")
    both = match(DOWN, "source", [other], [event("VmPoweredOnEvent", 401)])
    assert seen(both) == (0, ["unknown", "unknown"])


def test_an_event_stands_for_a_task_that_vcenter_does_not_keep_any_more() -> None:
    compared = match(DONE, "destination", [], [event("VmPoweredOnEvent", 110)])
    assert (compared.by_events, seen(compared)) == (1, (0, []))
    other = match(DONE, "destination", [], [event("VmPoweredOnEvent", 900)])
    assert (other.by_events, seen(other)) == (0, (0, ["unknown", "missing"]))
