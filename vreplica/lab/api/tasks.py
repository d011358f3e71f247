"""Tasks: a method whose name ends in _Task answers at once and works in a thread.

The method is a plain function, which runs in the task as a whole, or a generator:

    def RevertToSnapshot_Task(self, host=None):
        ...                 runs in the call: its faults are the call's
        yield 0
        ...                 runs in the task: its faults are the task's; a yield is the progress
        return result

One task at a time changes a VM. A second one fails with TaskInProgress, as on ESXi.
"""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.lab.api.history import HistoryCollector, is_below
from vreplica.lab.api.managed import Managed, cached, live
from vreplica.lab.api.sessions import Call
from vreplica.lab.api.soap import Method, method_of
from vreplica.lab.api.vmodl import (
    NAMESPACE,
    MethodFault,
    fault,
    support,
    vim,
    vmodl,
    wsdl_name,
)
from vreplica.lab.context import SiteContext

log = logging.getLogger("vreplica.lab")

TASKS_KEPT = 1000
"""Finished tasks that a site keeps."""

TASKS_RECENT = 100
"""Tasks in TaskManager.recentTask."""


class Task(Managed, vim.Task):
    """A task. One that runs when the lab is killed has failed at the next start."""

    method: Any
    entity: Any
    state: Any
    user: Any
    progress: Any
    result: Any
    error: Any
    queued: Any
    started: Any
    completed: Any
    cancelled: Any

    def __init__(self, site: Any, moid: str) -> None:
        super().__init__(site, moid)
        self.__dict__.update(
            user="",
            progress=None,
            result=None,
            error=None,
            started=None,
            completed=None,
            cancelled=False,
        )

    @cached
    def info(self) -> Any:
        method = method_of(NAMESPACE, self.method)
        made = vim.TaskInfo(
            key=self._moId,
            task=self,
            name=getattr(method.owner, self.method),
            descriptionId=description_id(method),
            state=self.state,
            cancelled=bool(self.cancelled),
            cancelable=False,
            queueTime=self.queued,
            startTime=self.started,
            completeTime=self.completed,
            eventChainId=int(self._moId.rpartition("-")[2]),
            reason=vim.TaskReasonUser(userName=self.user or "root"),
        )
        if self.entity is not None:
            made.entity = self.entity
            made.entityName = getattr(self.entity, "name", None) or self.entity._moId
        if self.progress is not None and self.state == "running":
            made.progress = self.progress
        if self.state == "success" and self.result is not None:
            made.result = self.result
        if self.error is not None:
            made.error = self.error
        return made

    def loaded(self) -> None:
        if self.state in ("queued", "running"):
            error = fault(vmodl.fault.SystemError, "The server was restarted", reason="restart")
            self.set(state="error", error=error, completed=self._site.now())

    def CancelTask(self) -> None:
        if self.state in ("success", "error"):
            raise fault(vim.fault.InvalidState, "The task has already ended")
        raise fault(vmodl.fault.NotSupported, "The task cannot be cancelled")


class Tasks:
    """Starts the tasks of one site, and keeps the last ones."""

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self.all: list[Task] = []

    def restore(self) -> None:
        """Lists the tasks that were read from state.db."""
        found = [t for t in self.site.objects.values() if isinstance(t, Task)]
        self.all = sorted(found, key=lambda t: int(t._moId.rpartition("-")[2]))

    def record(self, method: str, entity: Any) -> Task:
        """Adds a queued task to the list."""
        site = self.site
        task = Task(site, site.new_id("task"))
        task.__dict__.update(
            method=method,
            entity=entity,
            state="queued",
            user=site.current.user,
            queued=site.now(),
        )
        with self._lock:
            self.all.append(task)
            surplus = [t for t in self.all[: max(0, len(self.all) - TASKS_KEPT)] if t.completed]
            self.all = [t for t in self.all if t not in surplus] if surplus else self.all
        for old in surplus:
            site.remove(old)
        site.add(task)
        site.task_manager.touch()
        if isinstance(entity, Managed):
            entity.touch()
        return task

    def record_finished(self, method: str, entity: Any, error: Any = None) -> Task:
        """Adds a task that has ended, for a call that is no task, such as ShutdownGuest."""
        task = self.record(method, entity)
        state = "error" if error is not None else "success"
        task.set(state=state, error=error, started=task.queued, completed=self.site.now())
        return task

    def start(self, method: Method, this: Any, function: Callable[..., Any], args: Any) -> Task:
        """Runs a method up to its first yield in this thread, and the rest in another one."""
        entity = this.task_entity() if hasattr(type(this), "task_entity") else this
        if not isinstance(entity, vim.ManagedEntity):
            # Clients cannot read a task whose entity is a manager.
            entity = self.site.datacenter
        steps: Any = None
        if inspect.isgeneratorfunction(function):
            steps = function(this, *args)
            try:
                next(steps)
            except StopIteration as stop:
                task = self.record(method.name, entity)
                task.set(
                    state="success",
                    result=stop.value,
                    started=self.site.now(),
                    completed=self.site.now(),
                )
                return task
        task = self.record(method.name, entity)
        call = self.site.current
        work = threading.Thread(
            target=self._run,
            args=(task, call, entity, steps, lambda: function(this, *args)),
            name=f"{task._moId} {method.name}",
        )
        with self._lock:
            self._threads.add(work)
        work.start()
        return task

    def _run(
        self, task: Task, call: Call, entity: Any, steps: Any, work: Callable[[], Any]
    ) -> None:
        site = self.site
        values: dict[str, Any] = {}
        try:
            with site.answering(call), site.orphan_files.operation():
                task.set(state="running", started=site.now(), progress=0)
                site.faults.before_task(task)
                begin = getattr(entity, "begin_task", None)
                if begin is not None:
                    begin(task)
                try:
                    result = self._run_steps(task, steps) if steps is not None else work()
                finally:
                    if begin is not None:
                        entity.end_task(task)
                values = {"state": "success", "result": result, "progress": 100}
        except MethodFault as error:
            error.msg = error.msg or wsdl_name(type(error))
            values = {"state": "error", "error": error}
        except VReplicaError as error:
            log.warning("%s: %s", task.method, error)
            text = f"A general system error occurred: {error}"
            values = {"state": "error", "error": fault(vmodl.fault.SystemError, text, reason=text)}
        except Exception as error:
            log.exception("%s failed", task.method)
            text = f"A general system error occurred: {type(error).__name__}: {error}"
            values = {"state": "error", "error": fault(vmodl.fault.SystemError, text, reason=text)}
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
        # The work of a task is stored before clients see that the task has ended.
        site.flush()
        task.set(**values, completed=site.now())
        if isinstance(entity, Managed):
            entity.touch()
        site.flush()

    def _run_steps(self, task: Task, steps: Any) -> Any:
        while True:
            try:
                task.progress = next(steps)
            except StopIteration as stop:
                return stop.value

    def join(self, timeout_s: float = 30.0) -> None:
        """Waits for the running tasks."""
        for thread in list(self._threads):
            thread.join(timeout_s)


class TaskHistoryCollector(HistoryCollector, vim.TaskHistoryCollector):
    def matching(self) -> list[Any]:
        return [t.info for t in self._site.tasks.all if task_matches(t, self.filter)]

    @live
    def latestPage(self) -> Any:
        return self.latest

    def ReadNextTasks(self, maxCount: int) -> Any:
        return self.next_items(maxCount)

    def ReadPreviousTasks(self, maxCount: int) -> Any:
        return self.previous_items(maxCount)


def task_matches(task: Any, wanted: Any) -> bool:
    """Whether a task passes a TaskFilterSpec."""
    if wanted.entity is not None:
        entity = task.entity
        same = entity is not None and entity._moId == wanted.entity.entity._moId
        if not same and (
            wanted.entity.recursion == "self"
            or entity is None
            or not is_below(entity, wanted.entity.entity)
        ):
            return False
    if wanted.state and task.state not in wanted.state:
        return False
    if wanted.time is not None:
        when = {
            "queuedTime": task.queued,
            "startedTime": task.started,
            "completedTime": task.completed,
        }[wanted.time.timeType]
        begin, end = wanted.time.beginTime, wanted.time.endTime
        if when is None or (begin and when < begin) or (end and when > end):
            return False
    if wanted.userName is not None and wanted.userName.userList:
        return task.user in wanted.userName.userList
    return True


class TaskManager(Managed, vim.TaskManager):
    maxCollector = 32

    def CreateCollectorForTasks(self, filter: Any) -> Any:  # noqa: A002  its name on the wire
        made = TaskHistoryCollector(self._site, f"session[{self._site.new_id('taskhistory')}]")
        objects = self._site.current.objects
        made.__dict__.update(filter=filter, _objects=objects)
        objects[made._moId] = made
        return made

    @cached
    def recentTask(self) -> Any:
        return list(self._site.tasks.all[-TASKS_RECENT:])

    @cached
    def description(self) -> Any:
        """The texts for the keys in TaskInfo. A method's label is its name in words."""
        owners = (vim.VirtualMachine, vim.vm.Snapshot, vim.Folder, vim.HostSystem)
        names = sorted({n for o in owners for n in dir(o) if n.endswith("_Task")})
        methods = [method_of(NAMESPACE, n) for n in names]
        return vim.TaskDescription(
            methodInfo=[_element(description_id(m), _words(m.name)) for m in methods],
            state=[_element(s, s) for s in ("queued", "running", "success", "error")],
            reason=[vim.TypeDescription(key=vim.TaskReasonUser, label="user", summary="user")],
        )


def description_id(method: Any) -> str:
    """`VirtualMachine.createSnapshot` of CreateSnapshot_Task."""
    python_name = getattr(method.owner, method.name).info.name
    return f"{wsdl_name(method.owner)}.{support.Uncapitalize(python_name)}"


def _element(key: str, label: str) -> Any:
    return vim.ElementDescription(key=key, label=label, summary=label)


def _words(name: str) -> str:
    """`CreateSnapshot_Task` -> `Create snapshot`."""
    parts = re.findall("[A-Z]+(?![a-z])|[A-Z][a-z0-9]+", name.removesuffix("_Task"))
    return " ".join([*parts[:1], *(p if p.isupper() else p.lower() for p in parts[1:])])
