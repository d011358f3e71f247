"""Reads the server's own records: tasks and events, which ours are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from vreplica.errors import VReplicaError
from vreplica.vsphere.connection.collector import from_the_start, next_page, read
from vreplica.vsphere.connection.faults import fault_text
from vreplica.vsphere.connection.vmomi import moref, utc, vim, vmodl, wire_name
from vreplica.vsphere.errors import BadReply
from vreplica.vsphere.model import EventRecord, TaskRecord, VmRef
from vreplica.vsphere.names import unescape

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

PAGE: Final = 100
MOST_RECORDS: Final = 100_000
"""Of one VM in one interval; vCenter keeps tasks and events for 30 days by default."""


def recent_tasks(link: ServerLink, vm: VmRef | None = None) -> tuple[TaskRecord, ...]:
    """Reads the recent tasks (about ten minutes) of one VM or of all, oldest first."""
    if vm is None:
        root, step = link.content.taskManager, (vim.TaskManager, "recentTask")
    else:
        root = link.managed(vim.VirtualMachine, vm.moref)
        step = (vim.VirtualMachine, "recentTask")
    found = read(
        link,
        "reading recent tasks",
        [root],
        {vim.Task: ("info",)},
        [step],
        vm=vm.name if vm else None,
    )
    records = [_task(f.get("info")) for f in found if f.get("info") is not None]
    return tuple(sorted(records, key=lambda r: (r.queued, r.key)))


def tasks_between(
    link: ServerLink, vm: VmRef, begin: datetime, end: datetime
) -> tuple[TaskRecord, ...]:
    """Reads the tasks of a VM that were queued between two times, oldest first.

    They come from the history, and from the recent tasks, since the history lags behind.
    """
    operation = "reading the history of tasks"
    spec = vim.TaskFilterSpec(
        entity=vim.TaskFilterSpec.ByEntity(
            entity=link.managed(vim.VirtualMachine, vm.moref), recursion="self"
        ),
        time=vim.TaskFilterSpec.ByTime(timeType="queuedTime", beginTime=begin, endTime=end),
    )
    manager = link.content.taskManager
    try:
        create = manager.CreateCollectorForTasks
        infos = _pages(link, vm, operation, create=create, spec=spec, read_next="ReadNextTasks")
        found = {info.key: _task(info) for info in infos}
    except vmodl.fault.NotSupported:
        # A single ESXi host has only its recent tasks.
        found = {}
    for record in recent_tasks(link, vm):
        if begin <= record.queued <= end:
            found.setdefault(record.key, record)
    return tuple(sorted(found.values(), key=lambda r: (r.queued, r.key)))


def _pages(
    link: ServerLink, vm: VmRef, operation: str, *, create: Any, spec: Any, read_next: str
) -> list[Any]:
    """Reads all that a history collector finds, oldest first. Raises NotSupported unmapped."""
    unmapped = (vmodl.fault.NotSupported,)

    def attempt() -> list[Any]:
        collector = link.call(operation, create, spec, vm=vm.name, unmapped=unmapped)
        found: list[Any] = []
        try:
            link.ask(operation, collector.RewindCollector, vm=vm.name, expects_answer=False)
            following = getattr(collector, read_next)
            while page := next_page(link, operation, following, PAGE, vm.name):
                found += page
                if len(found) > MOST_RECORDS:
                    reason = f"it has more than {MOST_RECORDS} records of one VM"
                    raise BadReply(link.endpoint.host, operation, reason).at(vm=vm.name)
        finally:
            # The collector ends with the session in any case.
            with suppress(VReplicaError):
                link.call(operation, collector.DestroyCollector, vm=vm.name, expects_answer=False)
        return found

    return from_the_start(attempt)


def _task(info: Any) -> TaskRecord:
    error = info.error
    return TaskRecord(
        key=info.key,
        operation=info.descriptionId,
        entity=unescape(info.entityName or ""),
        entity_moref=moref(info.entity) if info.entity is not None else None,
        state=str(info.state),
        user=getattr(info.reason, "userName", None),
        queued=utc(info.queueTime),
        started=utc(info.startTime) if info.startTime else None,
        completed=utc(info.completeTime) if info.completeTime else None,
        progress=info.progress,
        error=f"{wire_name(error)}: {fault_text(error)}" if error is not None else None,
    )


def events(
    link: ServerLink, vm: VmRef | None = None, since: datetime | None = None
) -> tuple[EventRecord, ...]:
    """Reads the events of one VM or of all, since a time (with zone) or all that are kept."""
    spec = vim.event.EventFilterSpec()
    if vm is not None:
        spec.entity = vim.event.EventFilterSpec.ByEntity(
            entity=link.managed(vim.VirtualMachine, vm.moref), recursion="self"
        )
    if since is not None:
        spec.time = vim.event.EventFilterSpec.ByTime(beginTime=since)
    manager = link.content.eventManager
    name = vm.name if vm else None
    found = link.ask("reading events", manager.QueryEvents, spec, vm=name, expects_answer=False)
    return _in_order(found or [])


def events_between(
    link: ServerLink, vm: VmRef, begin: datetime, end: datetime, types: Sequence[str]
) -> tuple[EventRecord, ...]:
    """Reads a VM's events of these types between two times, as far back as they are kept.

    Returns none where the server has no event collectors.
    """
    spec = vim.event.EventFilterSpec(
        entity=vim.event.EventFilterSpec.ByEntity(
            entity=link.managed(vim.VirtualMachine, vm.moref), recursion="self"
        ),
        time=vim.event.EventFilterSpec.ByTime(beginTime=begin, endTime=end),
        eventTypeId=list(types),
    )
    create = link.content.eventManager.CreateCollectorForEvents
    operation = "reading the history of events"
    try:
        found = _pages(link, vm, operation, create=create, spec=spec, read_next="ReadNextEvents")
    except vmodl.fault.NotSupported:
        return ()
    return _in_order(found)


def _in_order(found: Iterable[Any]) -> tuple[EventRecord, ...]:
    records = [
        EventRecord(
            key=event.key,
            type=wire_name(event),
            time=utc(event.createdTime),
            user=event.userName or "",
            vm=unescape(event.vm.name) if event.vm is not None else None,
            message=event.fullFormattedMessage or "",
        )
        for event in found
    ]
    return tuple(sorted(records, key=lambda r: (r.time, r.key)))
