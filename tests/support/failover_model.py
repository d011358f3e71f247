"""Both sites of a failover, in memory, for a process that can be killed at any of its calls.

The model's state outlives the process that drives it. `Killed` stands for kill -9: it is raised
right before or right after a call has had its effect. A new run resumes from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from vreplica.failover.machine.errors import (
    GuestRulesDoNotFit,
    NoRoomToKeep,
    SourceNotReached,
)
from vreplica.failover.machine.mark import Holding
from vreplica.failover.machine.ports import NamedVm, Written
from vreplica.points import Level, RecoveryPoint
from vreplica.points.failover_mark import FailoverMark
from vreplica.points.side_branch import SideBranch
from vreplica.sync.errors import FailoverNotHere, PreflightFailed, ReplicaInFailover

START = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """kill -9: nothing in the code under test may catch it."""


@dataclass
class Kill:
    """Counts the places where a process can die (two or more a call), and kills it at one."""

    at: int | None = None
    passed: int = 0

    def edge(self) -> None:
        number, self.passed = self.passed, self.passed + 1
        if number == self.at:
            raise Killed


def point(id_: str, level: Level, number: int) -> RecoveryPoint:
    return RecoveryPoint(
        id_, "job", "uuid", "vm", START + timedelta(hours=number), level, level, ()
    )


Marks = tuple[FailoverMark | None, tuple[str, str] | None]


@dataclass
class Model:
    """Source, replica and job of one failover; it satisfies the machine's ports."""

    name: str = ""
    """With a name, each call is noted as `NAME: CALL`: the members of a group share `calls`."""
    source_on: bool = True
    replica_on: bool = False
    job_on: bool = True
    tools: bool = True
    shuts_down_after: int | None = 2
    """Looks at the power state until the guest is down; None: it hangs."""
    heartbeat: bool = True
    quiesced: Level = Level.APPLICATION
    chain: list[RecoveryPoint] = field(default_factory=lambda: [point("old", Level.APPLICATION, 0)])
    leaf: str | None = "old"
    shutting_down: int | None = None
    calls: list[str] = field(default_factory=list)
    kill: Kill = field(default_factory=Kill)
    on_fence: Callable[[], None] | None = None
    frozen: bool = True
    """False: a failback, whose replica holds the original VM's last state in no point yet."""
    settled: str | None = None
    pulled: bool = False
    source_connected: bool = True
    starts: int = 0
    """How often the source was started since the beginning: the model's time."""
    written: str = ""
    """What was written to the replica since it was started."""
    back: bool = False
    """A failback: its commit gives the replica, the original VM, back."""
    writes: str = "w"
    """What its guest writes at each start."""
    sides: list[tuple[SideBranch, str]] = field(default_factory=list)
    """The side branches, each with what was written in it."""
    room: bool = True
    rules_fit: bool = True
    tracking: bool = True
    away: bool = False
    """The source's site does not answer."""
    sync_problem: str | None = None
    """Why a sync would be refused."""
    replica_tools: bool = True
    replica_shuts_down_after: int | None = 2
    mark: FailoverMark | None = None
    """The failover's mark on the replica."""
    claim: tuple[str, str] | None = None
    """Failover and journal that have claimed the replica."""
    frozen_marks: dict[str, Marks] = field(default_factory=dict)
    """Mark and claim that each point has frozen: a revert brings them back."""
    holding: Holding | None = None
    """What the process that drives the model holds."""
    touched: bool = False
    """Others changed what the replica held, and that is to be discarded."""

    @contextmanager
    def turned(self) -> Iterator[Model]:
        """Inside, the replica is the source of a failover, and the source is what it starts."""
        waiting, self.shutting_down = self.shutting_down, self._replica_shutting_down
        self._replica_shutting_down = waiting
        self.source_on, self.replica_on = self.replica_on, self.source_on
        self.mark, self._other_mark = self._other_mark, self.mark
        self.claim, self._other_claim = self._other_claim, self.claim
        self.back = not self.back
        try:
            yield self
        finally:
            self.mark, self._other_mark = self._other_mark, self.mark
            self.claim, self._other_claim = self._other_claim, self.claim
            self.back = not self.back
            waiting, self.shutting_down = self.shutting_down, self._replica_shutting_down
            self._replica_shutting_down = waiting
            self.source_on, self.replica_on = self.replica_on, self.source_on

    _replica_shutting_down: int | None = None
    _other_mark: FailoverMark | None = None
    _other_claim: tuple[str, str] | None = None

    def _edge(self) -> None:
        assert not (self.source_on and self.replica_on), f"both VMs are on: {self.name}"
        self.kill.edge()

    def _note(self, call: str) -> None:
        self.calls.append(f"{self.name}: {call}" if self.name else call)

    def _effect(self, call: str, act: Callable[[], None]) -> None:
        self._edge()
        act()
        self._note(call)
        self._edge()

    def tasks(self) -> dict[str, list[str]]:
        return {}

    @property
    def target(self) -> str:
        return self.name or "JOB"

    def names(self) -> tuple[NamedVm, NamedVm]:
        return NamedVm("vm", "main"), NamedVm("vm-replica", "dr")

    # -- the replica's own mark -------------------------------------------------------------

    def check_free(self) -> None:
        if self.claim is not None:
            raise ReplicaInFailover("job", "replica", "", standing=f"has {self.claim}")

    def hold(self, holding: Holding) -> None:
        self.holding = holding

    def check_held(self) -> None:
        assert self.holding is not None
        own, mark = (self.holding.mark.id, self.holding.mark.journal), self.mark
        if self.claim == own:
            return
        over = self.claim is None and mark is not None and mark.id == own[0]
        ended = over and mark is not None and mark.journal != own[1]
        adopted = self.claim is not None and self.claim[0] == own[0]
        if self.holding.stands or ended or adopted:
            raise FailoverNotHere("job", own[0], "replica", str(self.claim))
        if self.claim is not None:
            raise ReplicaInFailover("job", "replica", "", standing=f"has {self.claim}")

    def _claim(self) -> None:
        """Compares and sets, with what the driving process holds."""
        self.check_held()
        assert self.holding is not None
        self.mark = self.holding.mark
        self.claim = self.mark.id, self.mark.journal

    @property
    def adoptable(self) -> bool:
        """A failover has the replica, as its marks say."""
        return self.claim is not None and self.mark is not None

    def mark_replica(self) -> None:
        self._edge()
        self._claim()
        self._edge()

    def stays_claimed(self) -> bool:
        return not self.back

    # -- the job ----------------------------------------------------------------------------

    def disable_job(self, failover: str) -> None:
        self._edge()
        self._claim()
        self._effect("disable", lambda: setattr(self, "job_on", False))

    def enable_job(self, failover: str) -> None:
        self._edge()
        assert self.holding is not None
        self.check_held()
        self.mark, self.claim = self.holding.mark.over, None
        self._effect("enable", lambda: setattr(self, "job_on", True))

    def points(self) -> tuple[RecoveryPoint, ...]:
        return tuple(self.chain)

    def sync(self, id_: str, known_level: Level | None, fence: Callable[[], None]) -> RecoveryPoint:
        assert not self.job_on, "a sync beside a job that is on"
        assert self.frozen, "a sync over a state that no point keeps"
        assert not self.replica_on, "a sync into a running replica"
        self._edge()
        self._claim()
        self.leaf = None
        fence()
        if self.on_fence:
            self.on_fence()
            fence()
        self._edge()
        level = self.quiesced if self.source_on else known_level
        assert level is not None
        self.check_held()
        made = point(id_, level, len(self.chain))
        self.chain.append(made)
        self.frozen_marks[id_] = self.mark, self.claim
        self.leaf = id_
        self._note(f"sync {id_}")
        self._edge()
        return made

    def replica_state_is_kept(self) -> bool:
        return self.frozen

    def keep_replica_state(self, failover: str) -> None:
        self._claim()

        def act() -> None:
            self.chain.append(point(f"{failover}-0", Level.CLEAN_SHUTDOWN, len(self.chain)))
            self.leaf, self.frozen = f"{failover}-0", True

        self._effect("freeze", act)

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        assert booted in [p.id for p in self.chain]
        if self.back:
            self.claim = self._other_claim = None
        self._effect("settle", lambda: setattr(self, "settled", failover))

    # -- the source -------------------------------------------------------------------------

    def check_source_is_reached(self) -> None:
        if self.away:
            raise SourceNotReached("vm", "main", "no answer")

    def check_can_sync(self) -> None:
        if self.sync_problem is not None:
            raise PreflightFailed(job="job", problems=(self.sync_problem,))

    def source_is_off(self) -> bool:
        if self.shutting_down is not None and self.source_on:
            self.shutting_down -= 1
            self.source_on = self.shutting_down > 0
        return not self.source_on

    def check_source_can_run(self) -> None:
        self.source_is_off()

    def source_time(self) -> datetime:
        return START + timedelta(hours=self.starts)

    def source_started_since(self, time: datetime) -> datetime | None:
        return self.source_time() if self.source_time() > time else None

    def source_can_shut_down(self) -> bool:
        return self.tools

    def shut_down_source(self) -> None:
        def act() -> None:
            if self.shutting_down is None:
                self.shutting_down = self.shuts_down_after

        self._effect("ShutdownGuest", act)

    def source_was_powered_off(self) -> bool:
        return self.pulled

    def power_off_source(self) -> None:
        self._effect("PowerOff source", lambda: setattr(self, "source_on", False))

    def power_on_source(self) -> None:
        self._effect(
            "PowerOn source", lambda: self.__dict__.update(source_on=True, shutting_down=None)
        )

    def started_by_others(self) -> None:
        self.source_on, self.shutting_down = True, None
        self.starts += 1

    def connect_source(self, connect: bool) -> None:
        assert not self.source_on
        call = "connect source" if connect else "disconnect source"
        self._effect(call, lambda: setattr(self, "source_connected", connect))

    # -- the replica ------------------------------------------------------------------------

    def check_guest_rules(self) -> None:
        if not self.rules_fit:
            raise GuestRulesDoNotFit(job="job", reason="2 rules, 1 card")

    def replica_is_on(self) -> bool:
        if self._replica_shutting_down is not None and self.replica_on:
            self._replica_shutting_down -= 1
            self.replica_on = self._replica_shutting_down > 0
        return self.replica_on

    def replica_stands_on(self) -> str | None:
        return self.leaf

    def replica_is_changed(self) -> bool:
        return self.touched

    def put_replica_on(self, id_: str) -> None:
        assert not self.replica_on
        assert id_ in [*(p.id for p in self.chain), *(b.id for b, _ in self.sides)]
        self._claim()
        mark, claim = self.frozen_marks.get(id_, (None, None))
        clean = {"leaf": id_, "touched": False, "written": "", "mark": mark, "claim": claim}
        self._effect(f"revert to {id_}", lambda: self.__dict__.update(clean))
        # The claim that came back is an old one: it is set again.
        assert self.holding is not None
        self.mark = self.holding.mark
        self.claim = self.mark.id, self.mark.journal
        self._edge()

    def before_power_on(self) -> tuple[()]:
        return ()

    def power_on_replica(self) -> None:
        def act() -> None:
            self.replica_on, self.leaf, self._replica_shutting_down = True, None, None
            self.written += self.writes

        self._claim()
        self._effect("PowerOn replica", act)

    def after_heartbeat(self) -> tuple[()]:
        return ()

    def where_replica_runs(self) -> dict[str, Any]:
        return {"host": "esx1", "addresses": ["10.2.0.5"], "networks": ["dr net"]}

    def power_off_replica(self) -> None:
        self._effect("PowerOff replica", lambda: setattr(self, "replica_on", False))

    # -- what was written in service --------------------------------------------------------

    def replica_can_shut_down(self) -> bool:
        return self.replica_tools

    def shut_down_replica(self) -> None:
        def act() -> None:
            if self._replica_shutting_down is None:
                self._replica_shutting_down = self.replica_shuts_down_after

        self._effect("ShutdownGuest replica", act)

    def power_on_replica_again(self) -> None:
        def act() -> None:
            self.replica_on, self._replica_shutting_down = True, None

        self._effect("PowerOn replica again", act)

    def side_branches(self) -> tuple[SideBranch, ...]:
        return tuple(branch for branch, _ in self.sides)

    def check_room_to_keep(self) -> None:
        if not self.room:
            raise NoRoomToKeep(reason="the datastore is full")

    def written_in_service(self) -> int | None:
        assert not self.replica_on, "tracking answers for a VM that is off"
        return len(self.written) if self.tracking else None

    def written_so_far(self) -> Written:
        return Written(len(self.written) if self.tracking else None, exact=not self.replica_on)

    def keep_side_branch(self, id_: str, level: Level, written_bytes: int | None) -> None:
        def act() -> None:
            assert not self.replica_on
            base = self.chain[-1].id
            found = SideBranch(id_, "job", self.name, base, level, START, written_bytes)
            self.sides.append((found, self.written))

        self._effect(f"keep {id_}", act)

    def replica_answers(self) -> bool:
        return self.replica_on and self.heartbeat
