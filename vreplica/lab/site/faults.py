"""Fault rules of calls: which call on which object fails, when, and how.

    rule = FaultRule(method="CreateSnapshot*", object="web*", action="fault",
                     fault="ApplicationQuiesceFault", count=2)

    action       what happens
    fault        the named vSphere fault is raised: in the call, or with where="task" in the task
    delay        the call (or task) continues after delay_s
    hang         it continues when the rule is removed or the site stops
    drop         the connection is reset before anything was done
    lost-reply   the work is done, then the connection is reset
    session      the session ends, with NotAuthenticated
    host         the host of the VM is disconnected, with HostNotConnected
    restart      vCenter restarts: connections, sessions and the call are lost
    locked       consolidation meets a locked file: snapshots go, consolidationNeeded stays

A rule strikes `count` times (None: always) after `skip` calls that match, each time with
`probability`. The same seed gives the same strikes. Rules and their counts are in state.db: a lab
that is killed continues with them.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from vreplica.lab.api.vmodl import MethodFault, fault, support, vim, vmodl, wsdl_type
from vreplica.lab.chance import Chance
from vreplica.lab.context import SiteContext

Action = Literal[
    "fault", "delay", "hang", "drop", "lost-reply", "session", "host", "restart", "locked"
]
_POLL_S = 0.02


class DropConnection(Exception):
    """Ends the connection without an answer."""


@dataclass(frozen=True)
class FaultRule:
    """A rule. `method` and `object` (a name or an id) are patterns as in a shell.

    It is stored in state.db by these names.
    """

    method: str = "*"
    object: str | None = None
    action: Action = "fault"
    where: Literal["call", "task"] = "call"
    fault: str = "SystemError"
    message: str = ""
    count: int | None = 1
    skip: int = 0
    probability: float = 1.0
    delay_s: float = 0.0

    @classmethod
    def make(cls, **values: Any) -> FaultRule:
        """Raises ValueError for a field, an action or a fault that does not exist."""
        known = {f.name for f in fields(cls)}
        unknown = set(values) - known
        if unknown:
            raise ValueError(f"no such field: {', '.join(unknown)}; known: {', '.join(known)}")
        rule = cls(**values)
        if rule.action not in get_args(Action):
            raise ValueError(f"no such action: {rule.action}; known: {get_args(Action)}")
        rule.fault_type()
        return rule

    def fault_type(self) -> Any:
        try:
            kind = wsdl_type(self.fault)
        except KeyError:
            raise ValueError(f"vSphere has no fault {self.fault}") from None
        if not issubclass(kind, MethodFault):
            raise ValueError(f"{self.fault} is not a fault")
        return kind

    def make_fault(self) -> Any:
        """The fault, with neutral values for the fields that it requires."""
        kind = self.fault_type()
        made = fault(kind, self.message or f"{self.fault} on demand")
        for info in made._GetPropertyList():
            if info.type is str and getattr(made, info.name) == "" and info.name != "msg":
                setattr(made, info.name, "on demand")
            if issubclass(info.type, support.Enum) and not info.flags & support.F_OPTIONAL:
                setattr(made, info.name, info.type.values[0])
        return made


class FaultRules:
    """The rules of one site, with their counts. Thread-safe."""

    def __init__(self, site: SiteContext, seed: int = 0) -> None:
        self.site = site
        self._lock = threading.Lock()
        self._rules: dict[int, tuple[FaultRule, list[int]]] = {}
        self._next = 1
        self._chance = Chance(seed)

    def add(self, rule: FaultRule) -> int:
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._rules[number] = (rule, [0, 0])
        self._save()
        return number

    def seed(self, seed: int) -> None:
        with self._lock:
            self._chance = Chance(seed)
        self._save()

    def _save(self) -> None:
        with self._lock:
            rules = [[n, asdict(rule), list(counts)] for n, (rule, counts) in self._rules.items()]
            kept = {"next": self._next, "chance": self._chance.saved_state(), "rules": rules}
        self.site.save_values(faults=kept)

    def restore(self, kept: dict[str, Any]) -> None:
        """Continues with what `_save` stored."""
        if kept:
            self._next, self._chance = kept["next"], Chance(*kept["chance"])
            self._rules = {n: (FaultRule(**rule), counts) for n, rule, counts in kept["rules"]}

    def clear(self, number: int | None = None) -> None:
        """Removes one rule, or all. Calls that hang by them continue."""
        with self._lock:
            if number is None:
                self._rules.clear()
            elif self._rules.pop(number, None) is None:
                raise ValueError(f"there is no rule {number}")
        self._save()

    def describe(self) -> list[dict[str, Any]]:
        """The rules with `id`, `seen` (calls that matched) and `struck` (calls that failed)."""
        with self._lock:
            return [
                {"id": n, **asdict(rule), "seen": counts[0], "struck": counts[1]}
                for n, (rule, counts) in self._rules.items()
            ]

    # -- hooks ------------------------------------------------------------------------------

    def before_call(self, call: Any, request: Any) -> None:
        """Called before the method runs."""
        found = self._match(request.method.name, request.this, "call", after=False)
        if found is not None:
            number, rule = found
            self._apply(number, rule, call, request.this)

    def after_call(self, call: Any, request: Any) -> None:
        """Called after the method, before the answer leaves."""
        if self._match(request.method.name, request.this, "call", after=True):
            raise DropConnection

    def before_task(self, task: Any) -> None:
        """Called in the thread of a task, before its work."""
        self._wait(self.site.settings.task_delay_s)
        found = self._match(task.method, task.entity, "task", after=False)
        if found is not None:
            number, rule = found
            self._apply(number, rule, self.site.current, task.entity)

    def before_consolidation(self, vm: Any) -> None:
        """Called before links are merged."""
        found = self._match("consolidate", vm, "locked", after=False)
        if found:
            path = next(iter(vm.links), "")
            raise fault(
                vim.fault.FileLocked,
                f"Unable to access file {path} since it is locked",
                file=path,
            )

    # -- choosing and acting ----------------------------------------------------------------

    def _match(self, method: str, item: Any, where: str, *, after: bool) -> Any:
        if not self._rules:
            return None
        met, found = self._choose(method, item, where, after=after)
        if met:
            # Stored before it takes effect: a rule with one strike strikes once, despite a kill.
            self._save()
        return found

    def _choose(self, method: str, item: Any, where: str, *, after: bool) -> tuple[bool, Any]:
        """(whether a count changed, the rule that strikes or None)."""
        met = False
        names = [getattr(item, "_moId", ""), str(getattr(item, "name", "") or "")]
        owner = getattr(item, "vm", None)
        if isinstance(item, vim.vm.Snapshot):
            names += [owner.name, owner._moId]  # type: ignore[union-attr]
        with self._lock:
            for number, (rule, counts) in self._rules.items():
                if rule.action == "locked":
                    if where != "locked":
                        continue
                elif (
                    where != rule.where
                    or after != (rule.action == "lost-reply")
                    or not fnmatch.fnmatchcase(method, rule.method)
                ):
                    continue
                if rule.object and not any(fnmatch.fnmatchcase(n, rule.object) for n in names):
                    continue
                counts[0] += 1
                met = True
                if counts[0] <= rule.skip or (rule.count is not None and counts[1] >= rule.count):
                    continue
                if rule.probability < 1 and self._chance.draw() >= rule.probability:
                    continue
                counts[1] += 1
                return True, (number, rule)
        return met, None

    def _apply(self, number: int, rule: FaultRule, call: Any, item: Any) -> None:
        if rule.delay_s:
            self._wait(rule.delay_s)
        if rule.action == "hang":
            while number in self._rules and not self.site.stopping:
                time.sleep(_POLL_S)
        elif rule.action == "fault":
            raise rule.make_fault()
        elif rule.action == "drop":
            raise DropConnection
        elif rule.action == "session":
            if call.session is not None:
                self.site.sessions.close(call.session.key)
            raise call.not_authenticated()
        elif rule.action == "host":
            vm = item.vm if isinstance(item, vim.vm.Snapshot) else item
            host = getattr(vm, "host", None) or self.site.hosts()[0]
            host.change_connection(False)
            raise fault(vmodl.fault.HostNotConnected, "The host is not connected")
        elif rule.action == "restart":
            threading.Thread(target=self.site.restart, daemon=True).start()
            raise DropConnection

    def _wait(self, seconds: float) -> None:
        """Waits, at most until the site stops."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.site.stopping:
            time.sleep(min(left, _POLL_S))
