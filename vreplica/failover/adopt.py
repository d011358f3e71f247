"""Adopts a failover: continues on this machine what the replica's own marks tell.

    replica W   vreplica.failover, vreplica.claim, vreplica.leaf     the failover fo-...
    original V  vreplica.failover, vreplica.claim                    the failback fb-..., if any
         |
         v      claim of the replica, with a higher epoch and a journal of its own
    <job>/failovers/<id>/journal.jsonl

The journal is written beside its place, then the replica is claimed, then the journal is put into
place. A process that dies in between leaves a claim without a journal: adopting again continues.
The mover that had the failover before finds another journal in the claim, and can do nothing.

A replica that somebody started by hand is adopted as in service. Journals of this machine that
the replica does not tell of are over: they are set aside.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover import history
from vreplica.failover.begin_alone import begin_alone
from vreplica.failover.failback import FailbackPlan
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.context import POWER_ON, SHUT_DOWN, Reporter
from vreplica.failover.machine.errors import (
    AdoptedMeanwhile,
    MarkIsNewer,
    MarkTellsTooLittle,
    NothingToAdopt,
)
from vreplica.failover.machine.journal import Entry, load, next_number, state_of, write_whole
from vreplica.failover.machine.mark import JOURNAL, adopted, entries_of, mark_of
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED, FailoverEvent, FailoverState
from vreplica.points import RecoveryPoint
from vreplica.points.vm_keys import BOOTED, FAILOVER_KEY, JOB_KEY, LEAF_KEY
from vreplica.stored import Damaged
from vreplica.sync.claim.claim import Claim, ClaimKind
from vreplica.sync.claim.held_claim import Claimant, take_claim
from vreplica.sync.claim.in_failover import InFailover, in_failover
from vreplica.sync.claim.takeover import wait_until_closed
from vreplica.sync.errors import NoPoints
from vreplica.sync.job import Job
from vreplica.sync.job_dir import failovers_dir, job_lock
from vreplica.sync.job_switch import disable, disabled_by, enable
from vreplica.sync.known_vms import find_source, remember
from vreplica.sync.replica.foreign_changes import power_on_since_point
from vreplica.sync.replica.state import ReplicaState, base_of, find_replica, read_replica
from vreplica.vsphere.errors import ConfigurationChanged
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.session import Session, connect

E = FailoverEvent

_ATTEMPTS: Final = 5
"""Reads of the replica, each anew where others have changed its configuration."""

BY_HAND: Final = "started by hand"


KnownStates = Mapping[str, Mapping[str, str]]
"""Job -> id of a failover -> its state (a value of `FailoverState`), as a catalog has it."""
_NOTHING_KNOWN: Final[KnownStates] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """A failover or a failback that the marks tell of, with the journal that it gets here."""

    id: str
    vm: VmInfo
    """The VM that it starts: the replica, or the original VM of a failback."""
    claim: Claim | None
    """The claim as it was read; None: there is none."""
    entries: tuple[Entry, ...]
    by_hand: str | None = None
    """The person who started the replica, in words; None: a failover did."""
    here: bool = False
    """This machine has the journal that may act."""

    @property
    def state(self) -> FailoverState:
        return state_of(self.entries)

    @property
    def mover(self) -> str | None:
        """The mover that has it; None: nobody is known."""
        is_failover = self.claim is not None and self.claim.kind == ClaimKind.FAILOVER
        return self.claim.host if is_failover and self.claim is not None else None


@dataclass(frozen=True, slots=True)
class Adoptable:
    """The failovers that `adopt` would continue on this machine, as both sides were just read.

    `found`: a failover, and after it the failback that takes it back; empty where nothing is under
    way and only journals are set aside. `stale`: ids of journals of this machine that are over.
    `source`: None where it cannot be read; `source_trouble` says why.
    """

    job: str
    found: tuple[Found, ...]
    stale: tuple[str, ...]
    replica: VmInfo
    source: VmInfo | None
    source_trouble: str | None

    @property
    def current(self) -> Found | None:
        """The one that has not ended, else the committed one."""
        return self.found[-1] if self.found else None

    @property
    def both_on(self) -> bool:
        source_on = self.source is not None and self.source.power_state == "poweredOn"
        return source_on and self.replica.power_state == "poweredOn"

    @property
    def here(self) -> bool:
        """This machine has all of it already."""
        return bool(self.found) and all(one.here for one in self.found)

    @property
    def seen(self) -> dict[str, str]:
        """The claims that an operator has confirmed: failover, or `by hand` -> token."""
        return {
            BY_HAND if one.by_hand is not None else one.id: one.claim.token if one.claim else ""
            for one in self.found
        }

    def to_dict(self) -> dict[str, Any]:
        one = self.current
        return {
            "job": self.job,
            "failover": one.id if one is not None else None,
            "state": one.state.value if one is not None else None,
            "mover": one.mover if one is not None else None,
            "by_hand": one.by_hand if one is not None else None,
            "here": self.here,
            "replica": self.replica.power_state,
            "source": self.source.power_state if self.source is not None else None,
            "source_trouble": self.source_trouble,
            "both_on": self.both_on,
            "set_aside": list(self.stale),
        }


@dataclass(frozen=True, slots=True)
class Adopted:
    """The outcome: what was found, and the failover as this machine has it now."""

    found: Adoptable
    outcome: Outcome | None

    def to_dict(self) -> dict[str, Any]:
        facts = self.outcome.facts if self.outcome is not None else {}
        return {**self.found.to_dict(), "facts": facts}


# -- looking --------------------------------------------------------------------------------


def read_adoptable(job: Job, known: KnownStates = _NOTHING_KNOWN) -> Adoptable:
    """Reads both sides. Changes nothing.

    `known`: what a catalog has, for marks of older versions, which do not tell the state. Raises
    NothingToAdopt, MarkIsNewer, MarkTellsTooLittle, NoPoints.
    """
    with connect(job.destination) as session:
        replica = _find_replica(session, job)
        found = [one] if (one := _of_replica(session, job, replica, known)) else []
    source, trouble = _read_source(job)
    if source is not None and (back := _of_original(job, source)) is not None:
        found.append(back)
    ids = {one.id for one in found}
    over = [o for o in history.outcomes(job) if o.id not in ids and _has_replica(job, o)]
    # Whether a failback is over is known by its original alone.
    stale = tuple(o.id for o in over if source is not None or not o.id.startswith("fb-"))
    if not found and not stale:
        raise NothingToAdopt(job=job.name, vm=replica.vm.ref.name, power=replica.vm.power_state)
    both = tuple(_with_own_journal(job, one) for one in found)
    return Adoptable(job.name, both, stale, replica.vm, source, trouble)


def _find_replica(session: Session, job: Job) -> ReplicaState:
    """By its name, else by its mark: this machine may never have seen it."""
    replica = find_replica(session, job)
    if replica is None:
        marked = [read_replica(session, job, v) for v in session.find_marked({JOB_KEY: job.name})]
        in_hands = [r for r in marked if in_failover(r.vm.extra_config) is not None]
        replica = in_hands[0] if len(in_hands) == 1 else None
    if replica is None:
        raise NoPoints(job=job.name)
    return replica


def _read_source(job: Job) -> tuple[VmInfo | None, str | None]:
    try:
        with connect(job.source) as session:
            vm = session.read_vm(find_source(session, job))
    except VReplicaError as error:
        return None, str(error)
    if vm.connection_state != "connected":
        return None, f"its host does not answer ({vm.connection_state})"
    return vm, None


def _of_replica(
    session: Session, job: Job, replica: ReplicaState, known: KnownStates
) -> Found | None:
    """The failover that has the replica, or somebody who started it by hand; None: neither."""
    vm, claim = replica.vm, Claim.of(replica.vm.extra_config)
    standing = in_failover(vm.extra_config)
    if standing is not None:
        return Found(standing.failover, vm, claim, _entries(job, replica, standing, known))
    event = power_on_since_point(session, replica) if replica.latest is not None else None
    if vm.power_state == "poweredOff" and (event is None or not replica.clean):
        return None
    who = f"by {event.user or 'somebody'} at {event.time:%Y-%m-%d %H:%M:%S} UTC" if event else ""
    began = event.time if event is not None else datetime.now(UTC)
    entries = _in_service(replica, began, f"{BY_HAND} {who}".rstrip())
    return Found(history.new_failover_id(), vm, claim, entries, by_hand=who or "by somebody")


def _entries(
    job: Job, replica: ReplicaState, standing: InFailover, known: KnownStates
) -> tuple[Entry, ...]:
    """The journal of a failover by its mark, or by what an older version has marked."""
    if standing.newer:
        raise MarkIsNewer(job=job.name, failover=standing.failover)
    if standing.mark is not None:
        with suppress(Damaged):
            return tuple(entries_of(standing.mark))
    began = standing.began or datetime.now(UTC)
    if not standing.booted:
        return _half_way(began)
    entries = _in_service(replica, began, "not known here: marked by an older version")
    if known.get(job.name, {}).get(standing.failover) == FailoverState.COMMITTED.value:
        more = (_Event(E.COMMIT_ASKED), _Event(E.DIRECTION_SETTLED))
        return _journal(began, [*entries, *more])
    return entries


def _of_original(job: Job, source: VmInfo) -> Found | None:
    """The failback that has the original VM; None: none has."""
    claim = Claim.of(source.extra_config)
    standing = in_failover(source.extra_config)
    if claim is None or claim.kind != ClaimKind.FAILOVER or standing is None:
        return None
    if not standing.failover.startswith("fb-"):
        return None
    if standing.newer:
        raise MarkIsNewer(job=job.name, failover=standing.failover)
    with suppress(Damaged):
        if standing.mark is not None:
            entries = tuple(entries_of(standing.mark))
            if FailbackPlan.of_journal(entries[0].data) is not None:
                return Found(standing.failover, source, claim, entries)
    raise MarkTellsTooLittle(job=job.name, failover=standing.failover, mover=claim.host)


def _has_replica(job: Job, outcome: Outcome) -> bool:
    """True for a failover that has the replica still, as the journals of this machine say."""
    there = history.failed_over(job)
    return outcome.state not in ENDED or (there is not None and outcome.id == there.id)


def _with_own_journal(job: Job, one: Found) -> Found:
    """With the journal of this machine, where that one may act: it is never behind the mark."""
    entries = load(failovers_dir(job) / one.id)
    if not entries:
        return one
    # Claims of older versions, and their journals, name none.
    claimed = one.claim.journal if one.claim is not None else ""
    if str(entries[0].data.get(JOURNAL, "")) != claimed:
        return one
    return replace(one, here=True, entries=tuple(entries))


# -- journals of what older versions, and persons, have left ------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    event: FailoverEvent
    facts: dict[str, Any] | None = None


def _journal(began: datetime, steps: Sequence[Entry | _Event | str]) -> tuple[Entry, ...]:
    """A journal of these events and, as texts, intents; all at one time."""
    made = list[Entry]()
    for step in steps:
        if isinstance(step, Entry):
            made.append(replace(step, n=len(made)))
        elif isinstance(step, str):
            made.append(Entry(len(made), 1, began, "intent", step))
        else:
            data = dict(step.facts or {})
            made.append(Entry(len(made), 1, began, "event", "", step.event, data))
    return tuple(made)


def _begin(began: datetime) -> Entry:
    return Entry(0, 1, began, "begin", data=FailoverChoices().to_dict())


def _in_service(replica: ReplicaState, began: datetime, source: str) -> tuple[Entry, ...]:
    """A failover whose replica is in service, from the point beneath its disks."""
    base = base_of(replica)
    point = next((p for p in replica.points if p.id == base), None)
    if point is None:
        raise NoPoints(job=replica.vm.extra_config.get(JOB_KEY, ""))
    return _journal(
        began,
        [
            _begin(began),
            _Event(E.JOB_DISABLED),
            _Event(E.SOURCE_DECLARED_LOST, {"source": source}),
            _Event(E.POINT_SETTLED, _facts_of(point)),
            _Event(E.FENCE_CHECKED),
            POWER_ON,
            _Event(E.REPLICA_STARTED),
            _Event(E.REPLICA_ANSWERED, {"answered": None}),
        ],
    )


def _facts_of(point: RecoveryPoint) -> dict[str, Any]:
    return {"point": point.id, "level": point.level.value, "taken": point.taken.isoformat()}


def _half_way(began: datetime) -> tuple[Entry, ...]:
    """A failover whose replica was not started yet: its source may have been asked already."""
    return _journal(
        began,
        [
            _begin(began),
            _Event(E.JOB_DISABLED),
            _Event(E.INSURANCE_SKIPPED),
            SHUT_DOWN,
            _Event(E.SHUTDOWN_REQUESTED),
        ],
    )


def check_seen(found: Adoptable, expected: Mapping[str, str]) -> None:
    """Raises AdoptedMeanwhile where it is not what an operator has confirmed (`Adoptable.seen`)."""
    if found.seen == expected or found.here:
        return
    by = found.current.claim.text if found.current and found.current.claim else "nobody any more"
    raise AdoptedMeanwhile(job=found.job, failover=", ".join(expected) or "none", by=by)


# -- adopting -------------------------------------------------------------------------------


def adopt(job: Job, seen: Adoptable, report: Reporter) -> Adopted:
    """Adopts what was seen: claims it for this machine, and writes its journals.

    Raises AdoptedMeanwhile where another mover has claimed it since, JobBusy, and
    ReplicaStillOpen where the disks of a replica that is off are open still.
    """
    with job_lock(job), begin_alone(job):
        for one in seen.found:
            if not one.here:
                _take(job, seen, one, report)
        for id_ in seen.stale:
            _set_aside(job, id_)
            report(f"{id_} is over: its journal of this machine was set aside")
        _switch(job, seen)
        current = seen.current
        outcome = outcome_of(failovers_dir(job) / current.id) if current is not None else None
    if seen.both_on:
        report(
            "ALARM: both VMs are on, source and replica: find out who started the other one, save "
            "what it holds, and shut it down"
        )
    return Adopted(seen, outcome)


def _take(job: Job, seen: Adoptable, one: Found, report: Reporter) -> None:
    place, now = failovers_dir(job) / one.id, datetime.now(UTC)
    by = {"from": one.mover, "by": _who(), "time": now.isoformat()}
    number = next_number(failovers_dir(job))
    entries = adopted(one.entries, number=number, by=by, at=now)
    made = job.job_dir / f"adopting-{one.id}"
    write_whole(made, entries)
    _claim(job, seen, one, entries, report)
    if place.exists():
        _set_aside(job, one.id)
    made.rename(place)


def _claim(
    job: Job, seen: Adoptable, one: Found, entries: Sequence[Entry], report: Reporter
) -> None:
    back = one.vm is not seen.replica
    plan = FailbackPlan.of_journal(entries[0].data) if back else None
    own = plan.reverse_job(job) if plan is not None else job
    mark = mark_of(one.id, entries)
    claimant = Claimant(
        job=own.name,
        owner=one.id,
        kind=ClaimKind.FAILOVER,
        run=one.id,
        take_over=one.by_hand is None,
        journal=mark.journal,
        adopts=True,
    )
    values = {FAILOVER_KEY: mark.text}
    if one.by_hand is not None:
        values[LEAF_KEY] = f"{BOOTED}{one.id}"
    with connect(own.destination) as session:
        for attempt in range(_ATTEMPTS):
            vm = session.read_vm(one.vm.ref)
            found = Claim.of(vm.extra_config)
            if (found and found.token) != (one.claim and one.claim.token):
                by = found.text if found is not None else "nobody any more"
                raise AdoptedMeanwhile(job=job.name, failover=one.id, by=by)
            try:
                taken = take_claim(session, vm, claimant, values)
                break
            except ConfigurationChanged:
                if attempt == _ATTEMPTS - 1:
                    raise
        taken.held.forget()
        if taken.before is not None:
            report(f"adopted {one.id} from {taken.before.text}")
            if vm.power_state == "poweredOff":
                wait_until_closed(own, session, vm, taken)
    if not back:
        remember(job, replica=vm)


def _switch(job: Job, seen: Adoptable) -> None:
    """Switches the job off for what was adopted, and on where nothing is under way."""
    holder = disabled_by(job)
    ids = {one.id for one in seen.found}
    if holder is not None and holder not in ids:
        enable(job, holder)
    for one in seen.found:
        plan = FailbackPlan.of_journal(one.entries[0].data)
        if plan is not None:
            reverse = plan.reverse_job(job)
            with job_lock(reverse):
                disable(reverse, one.id)
        elif one.state not in (FailoverState.UNDONE, FailoverState.ABORTED):
            disable(job, one.id, committed=one.state is FailoverState.COMMITTED)


def _set_aside(job: Job, id_: str) -> None:
    folder = failovers_dir(job) / id_
    for place in _places_aside(job, id_):
        if not place.exists():
            folder.rename(place)
            return


def _places_aside(job: Job, id_: str) -> Iterator[Path]:
    yield job.job_dir / f"set-aside-{id_}"
    n = 2
    while True:
        yield job.job_dir / f"set-aside-{id_}-{n}"
        n += 1


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"
    return f"{user} on {socket.gethostname()}"
