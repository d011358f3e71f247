"""Carries what every step of one run needs, from the first read to the last removal.

A step reports what it does and passes the fence: `context.step(...)`. A write passes the fence
once more, right before it. The fence raises where this process may not go on: another process of
this machine has taken the run over, or another writer has claimed the replica. So whatever decides
who owns a run has one place to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter

from vreplica.delta.control import Control
from vreplica.delta.copy.stats import Clock
from vreplica.errors import VReplicaError
from vreplica.points import Level
from vreplica.sync.claim.claim import ClaimKind
from vreplica.sync.claim.held_claim import Claimant, HeldClaim
from vreplica.sync.errors import Cancelled, ClaimLost
from vreplica.sync.events import Listener, ReplicationEvent, Step, Warn
from vreplica.sync.failover_run import FailoverRun
from vreplica.sync.job import Job
from vreplica.sync.run_record import Resumable
from vreplica.sync.sites import Sites

Fence = Callable[[], None]


def never_fenced() -> None:
    """The fence of a run that no other process can take over."""


@dataclass(slots=True)
class RunContext:
    """One run of one job."""

    job: Job
    sites: Sites
    run_id: str
    """Id of the run, and of the recovery point that it makes."""
    control: Control
    listener: Listener
    check_owner: Fence = never_fenced
    """Raises where this run was taken over on this machine."""
    failover_run: FailoverRun | None = None
    """None: an ordinary run."""
    warnings: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    """What an earlier run had left behind, in words; the run's report has it."""
    take_over: bool = False
    """Claim the replica also where its owner may be alive: the operator said so."""
    held: HeldClaim | None = None
    """The claim of the replica, from the moment that this run has it."""
    replica: str = ""
    """Identity of the replica that is claimed."""
    replica_before: str | None = None
    """Identity of the replica that the job had before; None where that is not remembered."""
    leaf_marked: bool = False
    """The replica's leaf has the mark of this run."""
    replica_changed: bool = False
    """Disks or hardware of the replica may not be those of its latest point any more."""
    source_snapshot: str | None = None
    """moref of the source's snapshot that this run took."""
    disks_written: bool = False
    """The replica's disks are being written, and the next run could resume that."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    disks_clock: Clock = field(default_factory=Clock)
    """Time spent on the disks."""
    _started_s: float = field(default_factory=perf_counter)
    _earlier_overhead_s: float = 0.0

    # -- what is reported ----------------------------------------------------------------------

    def report(self, event: ReplicationEvent) -> None:
        """Passes an event to the listener. A step passes the fence after that."""
        if isinstance(event, Warn):
            self.warnings.append(event.text)
        self.listener(event)
        if isinstance(event, Step):
            self.fence()

    def step(self, name: str, text: str) -> None:
        self.report(Step(name, text))

    def warn(self, text: str) -> None:
        self.report(Warn(text))

    # -- what can end it -----------------------------------------------------------------------

    def fence(self) -> None:
        """Called before every step, read and write; raises where this process may not go on."""
        self.check_owner()
        if self.held is not None:
            self.held.raise_if_lost()

    def lost_claim(self) -> ClaimLost | None:
        """Reads whether another writer has the replica by now. None: it does not, or who knows."""
        try:
            if self.held is not None:
                self.held.check(place=False)
        except ClaimLost as error:
            return error
        except VReplicaError:
            pass
        return None

    def forget_claim(self) -> None:
        """Drops the claim with the replica that had it."""
        if self.held is not None:
            self.held.forget()
        self.held = None

    @property
    def claim(self) -> HeldClaim:
        """The claim of the replica. Every change of the replica asks for it."""
        assert self.held is not None, "a replica is claimed before it is changed"
        return self.held

    def check_cancelled(self) -> None:
        """Raise Cancelled where the run was cancelled."""
        if self.control.cancelled:
            raise Cancelled

    # -- what it knows -------------------------------------------------------------------------

    @property
    def known_level(self) -> Level | None:
        """The level of a source that is off, where a failover saw how it went down."""
        return self.failover_run.known_level if self.failover_run is not None else None

    @property
    def claimant(self) -> Claimant:
        """This run, or the failover that it is a part of, as a writer of the replica."""
        failover = self.failover_run
        return Claimant(
            job=self.job.name,
            owner=failover.failover if failover is not None else self.run_id,
            kind=ClaimKind.FAILOVER if failover is not None else ClaimKind.RUN,
            run=self.run_id,
            take_over=self.take_over,
            journal=failover.journal if failover is not None else "",
            must_hold=failover is not None and failover.must_hold,
        )

    @property
    def marks(self) -> Mapping[str, str]:
        """Entries of extraConfig that a failover sets with every claim."""
        return self.failover_run.marks if self.failover_run is not None else {}

    def resume(self, resumed: Resumable) -> None:
        """Makes this run continue an earlier one, under the id of that one."""
        self.run_id = resumed.record.run
        self._earlier_overhead_s = resumed.record.overhead_s
        self.recovered.append(f"resumed {resumed.text}")

    @property
    def seconds(self) -> float:
        return perf_counter() - self._started_s

    @property
    def overhead_s(self) -> float:
        """Time beside the disks up to now, over all parts of a run that was resumed."""
        return self._earlier_overhead_s + self.seconds - self.disks_clock.seconds
