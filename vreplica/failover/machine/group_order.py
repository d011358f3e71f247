"""Orders the members of a group: three passes over all members, each with its order.

    insure      any order     quiesced point A of each member, while everything runs
    bring down  in reverse    members that need others go first: shutdown, final sync
    start       in order      after the members it needs answer, and after its delay

No replica starts before every source that can be brought down is off and synchronised. Until then
the group can be undone and nothing was lost. With `on_error = stop` the first error ends the pass.
With `continue` the other members continue, except those that need the member that failed.

The caller says what a member does in its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from vreplica.failover.machine.choices import OnError
from vreplica.stored import Count, build

GROUP_PREFIX: Final = "group:"
"""Stands before a group's name where a job's name is possible too. No job's name has a colon."""


def label_of(group: str) -> str:
    """A group's name as the operator types it: `group:shop`."""
    return f"{GROUP_PREFIX}{group}"


@dataclass(frozen=True, slots=True)
class Member:
    """A job of a group.

    `after`: the members that it needs. `delay_s`: its wait after they are ready. `heartbeat`: it is
    ready for others only when its guest answers.
    """

    name: str
    after: tuple[str, ...] = ()
    delay_s: float = 0.0
    heartbeat: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that fail over together. `parallel`: how many at once, where the order allows it."""

    name: str
    members: tuple[Member, ...]
    parallel: int = 4
    on_error: OnError = OnError.STOP

    @property
    def label(self) -> str:
        """As the operator types it: `group:shop`."""
        return label_of(self.name)

    def __getitem__(self, name: str) -> Member:
        return next(m for m in self.members if m.name == name)

    def __contains__(self, name: str) -> bool:
        return any(m.name == name for m in self.members)

    def only(self, names: Collection[str]) -> Group:
        """The group of these members only. The others count as ready."""
        members = tuple(
            replace(m, after=tuple(o for o in m.after if o in names))
            for m in self.members
            if m.name in names
        )
        return replace(self, members=members)

    @property
    def forwards(self) -> dict[str, tuple[str, ...]]:
        """Member -> the members that start before it."""
        return {m.name: m.after for m in self.members}

    @property
    def backwards(self) -> dict[str, tuple[str, ...]]:
        """Member -> the members that are brought down before it: those that need it."""
        return {
            m.name: tuple(o.name for o in self.members if m.name in o.after) for m in self.members
        }

    @property
    def apart(self) -> dict[str, tuple[str, ...]]:
        """Member -> none: any order."""
        return {m.name: () for m in self.members}

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "parallel": self.parallel,
            "on_error": self.on_error.value,
            "members": [
                {
                    "job": m.name,
                    "after": list(m.after),
                    "delay_s": m.delay_s,
                    "heartbeat": m.heartbeat,
                }
                for m in self.members
            ],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Raises Damaged."""
        found = build(_GroupLayout, value)
        members = tuple(Member(m.job, m.after, m.delay_s, m.heartbeat) for m in found.members)
        return cls(found.name, members, found.parallel, found.on_error)


@dataclass(frozen=True, slots=True)
class _MemberLayout:
    job: str
    after: tuple[str, ...]
    delay_s: float
    heartbeat: bool


@dataclass(frozen=True, slots=True)
class _GroupLayout:
    name: str
    parallel: Count
    on_error: OnError
    members: tuple[_MemberLayout, ...]


def cycle(after: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """Members that need each other in a ring, the first one again at the end; None: no ring."""
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> tuple[str, ...] | None:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done or name not in after:
            return None
        for other in after[name]:
            if found := walk(other, (*path, name)):
                return found
        done.add(name)
        return None

    for name in after:
        if found := walk(name, ()):
            return found
    return None


def waves(after: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The order as lists: the members of a list need only members of the lists before it."""
    left, gone, found = dict(after), set[str](), list[list[str]]()
    while left:
        now = [name for name, others in left.items() if set(others) <= gone]
        assert now, "the job file with a ring was refused"
        found.append(now)
        gone |= set(now)
        left = {name: others for name, others in left.items() if name not in gone}
    return found


@dataclass(slots=True)
class Pass:
    """A pass over members. `failed` and `left_out` say which had no good turn, and why."""

    after: Mapping[str, tuple[str, ...]]
    work: Callable[[str], None]
    parallel: int
    go_on: bool
    """Begin other members after an error."""
    needs: bool
    """Leave out members that come after one that failed."""
    delay_s: Mapping[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    failed: dict[str, Exception] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    """True once the pass was interrupted. Work under way may read it and stop."""
    _done: dict[str, float] = field(default_factory=dict)
    _began: float = 0.0

    def run(self) -> None:
        """Runs the pass. Returns when no member runs any more, also after an interrupt."""
        self._began = self.clock()
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="group") as pool:
            try:
                self._loop(pool)
            except BaseException:
                self.interrupted = True
                raise

    def _loop(self, pool: ThreadPoolExecutor) -> None:
        waiting = list(self.after)
        running: dict[Future[None], str] = {}
        while waiting or running:
            self._drop(waiting)
            ready, soonest = self._ready(waiting)
            for name in ready[: self.parallel - len(running)]:
                waiting.remove(name)
                running[pool.submit(self.work, name)] = name
            if running:
                ended, _ = wait(running, timeout=soonest, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._ended(running.pop(future), future)
            elif waiting and soonest is not None:
                self.sleep(soonest)

    def _ended(self, name: str, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._done[name] = self.clock()
        elif isinstance(error, Exception):
            self.failed[name] = error
        else:
            raise error

    def _drop(self, waiting: list[str]) -> None:
        """Removes the members that can have no turn any more."""
        for name in list(waiting):
            lost = [o for o in self.after[name] if o in self.failed or o in self.left_out]
            if self.failed and not self.go_on:
                self.left_out[name] = f"stopped after the error of {next(iter(self.failed))}"
            elif self.needs and lost:
                self.left_out[name] = f"it needs {', '.join(lost)}"
            else:
                continue
            waiting.remove(name)

    def _ready(self, waiting: list[str]) -> tuple[list[str], float | None]:
        """The members whose turn it is, and the seconds until the next delay is over."""
        ready, soonest = list[str](), None
        for name in waiting:
            others = [
                o for o in self.after[name] if o not in self.failed and o not in self.left_out
            ]
            if not all(o in self._done for o in others):
                continue
            last = max((self._done[o] for o in others), default=self._began)
            left = last + self.delay_s.get(name, 0.0) - self.clock()
            if left <= 0:
                ready.append(name)
            elif soonest is None or left < soonest:
                soonest = left
        return ready, soonest
