"""The steps of a failover: which one a state calls for, and what each does.

A step looks first (has it happened already?), acts, and looks again; it returns the event that
it saw with the facts that go with it. So a step that is repeated after a crash finds its own
work done and changes nothing.

    READY          disable the job; a failback: freeze the original VM's last state
    DISABLED       final sync: point A, the insurance       No / off / lost: straight to source off
    INSURED        ask the guest to shut down               (Tools absent: the policy)
    SHUTTING_DOWN  wait until it is off                     (time over: the policy)
    SOURCE_OFF     settle the point: B by a final sync, A, or the one that was chosen
    SYNCED         fence: source off right now, replica on its point
    FENCED         prepare its guest's addresses, look once more, power the replica on
    BOOTING        wait for its heartbeat; addresses and host name by script
    COMMITTING     settle which way the job replicates
    UNDOING        replica off and back on its point, source on, job on
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import Choices, FinalSync, OnShutdownTimeout
from vreplica.failover.machine.errors import FailoverTakenOver, LevelTooLow, NoPointToBoot
from vreplica.failover.machine.guards import (
    put_on_point,
    source_must_be_off,
    source_must_have_stayed_off,
)
from vreplica.failover.machine.journal import Journal
from vreplica.failover.machine.ports import Sides
from vreplica.failover.machine.states import Event, State
from vreplica.points import Level, RecoveryPoint
from vreplica.points.retention import best

POWER_OFF: Final = "PowerOff source"
SHUT_DOWN: Final = "ShutdownGuest source"
POWER_ON: Final = "PowerOn replica"

DISCONNECT: Final = "disconnect source's network cards"

MAX_PASSES: Final = 5
"""While the source runs. Each makes a recovery point, and more do not help what does not shrink."""

SHRINKS: Final = 0.8
"""A pass that takes more than this share of the one before shows that the guest writes about as
fast as it is copied: another one would be no shorter."""

FIRST_POLL_S: Final = 0.25
POLL_S: Final = 2.0
"""Between two looks at a power state or heartbeat, growing from the first to the second: soon,
since it is downtime, and then cheap for vCenter."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step saw: the event to journal, with its facts."""

    event: Event
    facts: dict[str, Any] = field(default_factory=dict)


STILL_ON: Final = "on; its guest was asked to shut down, and may do so yet"

LOST: Final = Seen(Event.SOURCE_DECLARED_LOST, {"source": "declared lost by the operator"})


@dataclass(slots=True)
class Work:
    """What every step has at hand."""

    id: str
    sides: Sides
    journal: Journal
    choices: Choices
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def do(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """One effect: refused to an old epoch, its intent on disk before, its result after."""
        with self.journal.fence():
            self.journal.write("intent", step=what, data={})
            try:
                result = call(*args)
            except Exception as error:
                self._result(what, f"failed: {error}")
                raise
            self._result(what, "done")
        return result

    def _result(self, what: str, result: str) -> None:
        """With the keys of vCenter's tasks, so that its own record can be held against ours."""
        tasks = {side: keys for side, keys in self.sides.tasks().items() if keys}
        data = {"result": result, **({"tasks": tasks} if tasks else {})}
        self.journal.write("call", step=what, data=data)

    def attempted(self, what: str) -> bool:
        """Was this effect ever begun, by whichever process?"""
        return any(e.kind == "intent" and e.step == what for e in self.journal.entries)

    @property
    def point_a(self) -> str:
        return f"{self.id}-a"

    @property
    def point_b(self) -> str:
        return f"{self.id}-b"

    def find_point(self, id_: str) -> RecoveryPoint | None:
        return next((p for p in self.sides.points() if p.id == id_), None)

    def sync(self, id_: str, known_level: Level | None) -> RecoveryPoint:
        """The point `id_`, made now unless the destination has it already."""
        made = self.find_point(id_)
        if made is None:
            self.journal.write("intent", step=f"sync {id_}", data={})
            try:
                made = self.sides.sync(id_, known_level, self.journal.check)
            except VReplicaError as error:
                if not isinstance(error, FailoverTakenOver):
                    self._result(f"sync {id_}", f"failed: {error}")
                raise
            self._result(f"sync {id_}", made.level.value)
        return made

    def wait_until(self, done: Callable[[], bool], seconds: float, text: str) -> bool:
        """Poll until `done` or the time is over; tells how long it still waits."""
        end, pause = self.clock() + seconds, FIRST_POLL_S
        while not done():
            self.journal.check()
            left = end - self.clock()
            if left <= 0:
                return False
            self.tell(f"{text}: {left:.0f} s left")
            self.sleep(min(pause, left))
            pause = min(pause * 1.5, POLL_S)
        return True

    def pause(self, text: str) -> None:
        """Before another look at something that nobody can put a time to."""
        self.journal.check()
        self.tell(text)
        self.sleep(POLL_S)


Step = Callable[[Work], Seen]


def disable(work: Work) -> Seen:
    work.do("disable job", work.sides.disable_job, work.id)
    if not work.sides.replica_is_frozen():
        work.do("freeze replica", work.sides.freeze_replica, work.id)
    return Seen(Event.JOB_DISABLED)


def insure(work: Work) -> Seen:
    """Point A while the source runs; or nothing to insure."""
    if work.choices.source_lost:
        return LOST
    if work.sides.source_is_off():
        return _seen_off(work)
    if work.choices.final_sync is FinalSync.NO:
        work.do(POWER_OFF, work.sides.power_off_source)
        return _seen_off(work)
    point = _passes(work)
    return Seen(Event.POINT_A_MADE, {"point_a": point.id, "level_a": point.level.value})


def _passes(work: Work) -> RecoveryPoint:
    """Point A, and more of its kind until one took no longer than the downtime may be.

    The final sync brings what changed since the last pass: about as much as changed during it,
    so about as long as it took, or less. Of several points the newest of the highest level is A.
    """
    limit = work.choices.max_downtime_s
    made: list[RecoveryPoint] = []
    took: float | None = None
    while len(made) < MAX_PASSES:
        number = len(made) + 1
        work.tell(f"pass {number}: a quiesced recovery point while the source runs")
        before, began = took, work.clock()
        made.append(work.sync(work.point_a if number == 1 else f"{work.point_a}{number}", None))
        took = work.clock() - began
        work.tell(f"pass {number} took {took:.0f} s: the final sync takes about that, or less")
        if limit is None or took <= limit:
            break
        if before is not None and took > before * SHRINKS:
            work.tell(f"the pass before took {before:.0f} s: more of them would be no shorter")
            break
    return max(made, key=lambda p: (p.level, made.index(p)))


def request_shutdown(work: Work) -> Seen:
    if work.choices.source_lost:
        return LOST
    while not work.sides.source_is_off():
        if work.sides.source_can_shut_down():
            work.do(SHUT_DOWN, work.sides.shut_down_source)
            return Seen(Event.SHUTDOWN_REQUESTED)
        reason = "VMware Tools are not running in the source's guest"
        if work.choices.on_shutdown_timeout is not OnShutdownTimeout.WAIT:
            return _by_policy(work, reason)
        work.pause(f"{reason}: waiting until they are, or until it is shut down at its console")
    return _seen_off(work)


def wait_for_shutdown(work: Work) -> Seen:
    if work.choices.source_lost:
        return LOST
    seconds = work.choices.shutdown_timeout_s
    while not work.wait_until(
        work.sides.source_is_off, seconds, "waiting for the guest's shutdown"
    ):
        if work.choices.on_shutdown_timeout is not OnShutdownTimeout.WAIT:
            return _by_policy(work, f"the guest did not shut down within {seconds:.0f} s")
        work.tell(f"still not off after {seconds:.0f} s; waiting on, as was chosen")
        if work.sides.source_can_shut_down() and not work.sides.source_is_off():
            work.do(SHUT_DOWN, work.sides.shut_down_source)
    return _seen_off(work)


def settle_point(work: Work) -> Seen:
    """Which recovery point boots; a final sync goes into a point of its own."""
    facts = work.journal.facts()
    if facts.get("use_a"):
        point = _named(work, facts.get("point_a", work.point_a))
    elif work.choices.final_sync is FinalSync.YES and not work.choices.source_lost:
        source_must_be_off(work)
        work.tell("final synchronisation of what changed since the last point")
        point = work.sync(work.point_b, Level(facts["off_level"]))
    else:
        points = work.sides.points()
        if not points:
            raise NoPointToBoot(wanted="any")
        point = _named(work, work.choices.point) if work.choices.point else best(points)
    if point.level < work.choices.require:
        raise LevelTooLow(point=point.id, level=point.level, required=work.choices.require)
    return Seen(Event.POINT_SETTLED, {"point": point.id, "level": point.level.value})


def check_fence(work: Work) -> Seen:
    """The source is off now, and the replica's disks are exactly the point."""
    source_must_have_stayed_off(work)
    put_on_point(work)
    if work.choices.disconnect_source_nics and not work.choices.source_lost:
        work.do(DISCONNECT, work.sides.connect_source, False)
    return Seen(Event.FENCE_CHECKED)


def start_replica(work: Work) -> Seen:
    source_must_have_stayed_off(work)
    if not work.attempted(POWER_ON):
        # It may be a while since the fence was checked: an error or a kill came between.
        put_on_point(work)
    if not work.sides.replica_is_on():
        for what, call in work.sides.preparations():
            work.do(what, call)
        source_must_be_off(work)
        work.do(POWER_ON, work.sides.power_on_replica)
    return Seen(Event.REPLICA_STARTED)


def wait_for_answer(work: Work) -> Seen:
    limit = work.choices.heartbeat_timeout_s
    answered = work.wait_until(work.sides.replica_answers, limit, "waiting for the replica's guest")
    facts: dict[str, Any] = {"answered": answered}
    for what, call in work.sides.finishings() if answered else ():
        try:
            work.do(what, call)
        except VReplicaError as error:
            # The replica runs, which is what counts now; the rest can be done by hand.
            facts["guest_trouble"] = f"{what}: {error}"
            work.tell(facts["guest_trouble"])
    return Seen(Event.REPLICA_ANSWERED, facts)


def settle(work: Work) -> Seen:
    facts = work.journal.facts()
    level = Level(facts.get("off_level", Level.CRASH.value))
    lost = work.choices.source_lost
    call = work.sides.settle_direction
    work.do("settle direction", call, work.id, facts["point"], level, lost)
    return Seen(Event.DIRECTION_SETTLED)


def put_back(work: Work) -> Seen:
    """Replica off and on its point again, source on, job on: in this order, never both on.

    A guest that was asked to shut down may still be at it; it is started again once it is off. A
    source that was off from the beginning stays off.
    """
    point = work.journal.facts().get("point")
    asked, still_on = starts_source(work) and work.attempted(SHUT_DOWN), False
    if asked and "off_level" not in work.journal.facts():
        limit = work.choices.shutdown_timeout_s
        still_on = not work.wait_until(
            work.sides.source_is_off, limit, "waiting for the guest's shutdown"
        )
    if work.sides.replica_is_on():
        work.do("PowerOff replica", work.sides.power_off_replica)
    if point is not None and work.sides.replica_stands_on() != point:
        work.do(f"RevertToSnapshot replica to {point}", work.sides.put_replica_on, point)
    if starts_source(work) and work.sides.source_is_off():
        if work.attempted(DISCONNECT):
            work.do("connect source's network cards", work.sides.connect_source, True)
        work.do("PowerOn source", work.sides.power_on_source)
    work.do("enable job", work.sides.enable_job, work.id)
    return Seen(Event.BOTH_PUT_BACK, {"source": STILL_ON} if still_on else {})


def starts_source(work: Work) -> bool:
    """Does an undo start the source again? Not one that is lost or was off from the beginning."""
    return not (work.choices.source_lost or work.journal.facts().get("was_off"))


STEPS: Final[dict[State, Step]] = {
    State.READY: disable,
    State.DISABLED: insure,
    State.INSURED: request_shutdown,
    State.SHUTTING_DOWN: wait_for_shutdown,
    State.SOURCE_OFF: settle_point,
    State.SYNCED: check_fence,
    State.FENCED: start_replica,
    State.BOOTING: wait_for_answer,
    State.COMMITTING: settle,
    State.UNDOING: put_back,
}
"""RUNNING waits for the operator: commit or undo."""


def give_up(work: Work, reason: str) -> Seen:
    """Before the source is off: switch the job on again, change nothing else."""
    work.do("enable job", work.sides.enable_job, work.id)
    return Seen(Event.GIVEN_UP, {"reason": reason})


def _by_policy(work: Work, reason: str) -> Seen:
    policy = work.choices.on_shutdown_timeout
    assert policy is not OnShutdownTimeout.WAIT, "who waits does not come here"
    if policy is OnShutdownTimeout.ABORT:
        return give_up(work, reason)
    work.tell(f"{reason}; powering the source off, as was chosen ({policy.value})")
    # It may have shut down between the last look and now; then nothing has to be pulled.
    if not work.sides.source_is_off():
        work.do(POWER_OFF, work.sides.power_off_source)
    return _seen_off(work)


def _seen_off(work: Work) -> Seen:
    """The source is off: how it came to that decides what its disks are worth.

    The journal knows, also after a crash: a pulled plug was intended before it was pulled. A
    source that was off without our doing may have had its plug pulled: that counts as crash.
    """
    since = work.sides.source_time()
    source_must_be_off(work)
    facts: dict[str, Any]
    if work.attempted(POWER_OFF):
        use_a = work.choices.on_shutdown_timeout is OnShutdownTimeout.USE_QUIESCED
        use_a = use_a and work.journal.state is not State.DISABLED
        facts = {"source": "powered off", "off_level": Level.CRASH.value, "use_a": use_a}
    elif work.attempted(SHUT_DOWN) and work.sides.source_was_pulled():
        facts = {"source": "powered off by others", "off_level": Level.CRASH.value, "use_a": False}
    elif work.attempted(SHUT_DOWN):
        level = Level.CLEAN_SHUTDOWN.value
        facts = {"source": "shut down by its guest", "off_level": level, "use_a": False}
    else:
        facts = {"source": "was off", "off_level": Level.CRASH.value, "use_a": False}
        if work.journal.state is State.DISABLED:
            facts["was_off"] = True
    return Seen(Event.SOURCE_SEEN_OFF, {**facts, "off_since": since.isoformat()})


def _named(work: Work, id_: str) -> RecoveryPoint:
    point = work.find_point(id_)
    if point is None:
        raise NoPointToBoot(wanted=id_)
    return point
