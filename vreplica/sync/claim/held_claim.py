"""Takes a claim, holds it while a writer works, and gives it back.

A claim is set by ReconfigVM with the configuration's changeVersion, so that of two writers who
read the same state one gets ConfigurationChanged. CreateSnapshot and an open disk know no such
guard. So a process that was frozen can still write after another one has taken over; these
checks keep that apart:

    before a takeover ends     every leaf can be opened for writing: the old writer's are closed,
                               because a host gives a disk to one writer at a time
    after a leaf was opened    the claim is read: from here on nobody can take over unnoticed
    before the description     the claim, the current snapshot and the leaf's files are read; the
                               description is set for that changeVersion
    after the snapshot         the frozen description and the frozen claim are this writer's

What a writer still makes after it was taken over carries a claim that does not fit its point. It
is never listed as a point (sync/replica/state.py), and the next writer removes it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from vreplica.errors import VReplicaError
from vreplica.points.failover_mark import FailoverMark
from vreplica.points.vm_keys import CLAIM_KEY, FAILOVER_KEY
from vreplica.sync.claim.claim import RENEW_S, Claim, ClaimKind
from vreplica.sync.claim.in_failover import InFailover, in_failover
from vreplica.sync.claim.process import this_process
from vreplica.sync.errors import (
    ClaimLost,
    FailoverNotHere,
    ReplicaChangedMeanwhile,
    ReplicaClaimed,
    ReplicaInFailover,
)
from vreplica.vsphere.errors import ConfigurationChanged, OutcomeUnknown, VmNotFound
from vreplica.vsphere.model import SnapshotInfo, VmInfo, VmOptions, VmRef
from vreplica.vsphere.session import Session

_ATTEMPTS = 5
"""How often a guarded write is tried; others change a VM's configuration rarely."""

_held: set[str] = set()
"""Tokens of the claims that this process holds."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A writer that wants a replica. `run`: the run that it makes now."""

    job: str
    owner: str
    kind: ClaimKind
    run: str
    take_over: bool = False
    """The operator said so."""
    journal: str = ""
    """Of a failover: the journal that it acts for."""
    must_hold: bool = False
    """A failover that has claimed the replica before: without that claim it may not go on."""

    adopts: bool = False
    """It takes a failover over for its journal, whichever had it."""

    def owns(self, found: Claim) -> bool:
        """True for a claim of its own. A failover of an older version names no journal."""
        return found.owner == self.owner and found.journal in ("", self.journal)


def why_free(session: Session, found: Claim | None, claimant: Claimant) -> str | None:
    """Says why the claim may be taken: "" where nobody has it. None: it may not. No call."""
    if found is None or claimant.owns(found):
        return ""
    if found.process == this_process() and found.process and found.token not in _held:
        over = None if found.kind == ClaimKind.FAILOVER else "its run has ended"
    else:
        over = found.why_over(session.server_time())
    if over is None and claimant.take_over:
        return "the operator said so"
    return over


def require_free(session: Session, vm: VmInfo, claimant: Claimant) -> None:
    """Raises ReplicaClaimed where another writer has the replica. Sends nothing.

    Raises FailoverNotHere for a failover that has lost it.
    """
    found = Claim.of(vm.extra_config)
    require_held(vm.ref.name, vm.extra_config, claimant)
    if found is not None and why_free(session, found, claimant) is None:
        raise refusal(claimant.job, vm, found)


def require_held(vm: str, extra_config: Mapping[str, str], claimant: Claimant) -> None:
    """Raises FailoverNotHere where a failover that had the replica has it no more. Sends nothing.

    `vm`: name of the replica. `extra_config`: as it was just read.
    """
    if claimant.adopts:
        return
    found = Claim.of(extra_config)
    lost = found is None or not claimant.owns(found)
    adopted = found is not None and found.owner == claimant.owner
    ended = found is None and _ended_elsewhere(extra_config, claimant)
    if lost and (adopted or ended or claimant.must_hold):
        by = found.text if found is not None else "nobody: it was ended elsewhere, or reverted"
        raise FailoverNotHere(job=claimant.job, failover=claimant.owner, vm=vm, by=by)


def _ended_elsewhere(extra_config: Mapping[str, str], claimant: Claimant) -> bool:
    """True where another journal of this failover has ended it, and left its mark."""
    mark = FailoverMark.of(extra_config)
    mine = mark is not None and mark.id == claimant.owner and bool(claimant.journal)
    return mark is not None and mine and mark.journal != claimant.journal


def refusal(job: str, vm: VmInfo, found: Claim) -> ReplicaClaimed:
    """The error for a writer that may not have the replica now."""
    if found.kind == ClaimKind.FAILOVER:
        standing = in_failover(vm.extra_config)
        assert standing is not None, "it has the claim of a failover"
        return refusal_in_failover(job, vm, standing)
    return ReplicaClaimed(job=job, vm=vm.ref.name, claim=found.text)


def check_in_no_failover(job: str, vm: VmInfo) -> None:
    """Raises ReplicaInFailover where the replica's marks name a failover. Sends nothing."""
    standing = in_failover(vm.extra_config)
    if standing is not None:
        raise refusal_in_failover(job, vm, standing)


def refusal_in_failover(job: str, vm: VmInfo, standing: InFailover) -> ReplicaInFailover:
    """The error for whoever may not have a replica that a failover has."""
    claim = standing.claim.text if standing.claim is not None else standing.failover
    return ReplicaInFailover(job=job, vm=vm.ref.name, claim=claim, standing=standing.in_words)


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim that was just taken, and the one that it was taken over from."""

    held: HeldClaim
    before: Claim | None
    """None: nobody had it."""
    why: str
    """Why `before` was over."""

    @property
    def text(self) -> str:
        assert self.before is not None, "asked for after a takeover"
        return f"took replica {self.held.vm.name} over from {self.before.text}: {self.why}"


def take_claim(
    session: Session, vm: VmInfo, claimant: Claimant, values: Mapping[str, str] | None = None
) -> Taken:
    """Claims the replica as it was read. `values`: further entries, set in the same step.

    Raises ReplicaClaimed; ConfigurationChanged where the replica was changed since it was read:
    then everything is to be read and decided anew.
    """
    require_free(session, vm, claimant)
    found = Claim.of(vm.extra_config)
    why = why_free(session, found, claimant) or ""
    claim = new_claim(session, claimant, found)
    held = HeldClaim(session, vm.ref, claimant.job, claim)
    try:
        session.set_extra_config(
            vm.ref, {**claim.option, **(values or {})}, change_version=vm.change_version
        )
    except OutcomeUnknown:
        # The reply was lost, and the change may be done.
        held.check()
    except BaseException:
        held.forget()
        raise
    other = found if found is not None and not claimant.owns(found) else None
    return Taken(held.keep(), other, why)


def claim_now(
    session: Session,
    vm: VmRef,
    claimant: Claimant,
    values: Mapping[str, str] | None = None,
) -> Taken:
    """Reads the replica and claims it, whatever else others change on it. Raises ReplicaClaimed."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(ConfigurationChanged):
            return take_claim(session, session.read_vm(vm), claimant, values)
    return take_claim(session, session.read_vm(vm), claimant, values)


def new_claim(session: Session, claimant: Claimant, before: Claim | None = None) -> Claim:
    """A claim for this process. It is nobody's before it stands on a replica."""
    return Claim.new(
        claimant.owner,
        claimant.kind,
        run=claimant.run,
        epoch=1 + (before.epoch if before is not None else 0),
        now=session.server_time(),
        journal=claimant.journal,
    )


class HeldClaim:
    """The claim of one replica, held by this process. Several threads may use it.

    It is renewed in the background until `release` or `forget`.
    """

    def __init__(self, session: Session, vm: VmRef, job: str, claim: Claim) -> None:
        self.vm, self.job, self.claim = vm, job, claim
        self._session = session
        self._version: str | None = None
        self._stands: tuple[str | None, Mapping[int, str]] | None = None
        self._lost: VReplicaError | None = None
        self._reverted_to: tuple[Claim | None] | None = None
        """The claim that a revert of ours brings back, until this one is set again."""
        self._lock = threading.RLock()
        self._ended = threading.Event()
        _held.add(claim.token)

    def keep(self) -> HeldClaim:
        """Renews the claim in the background from now on."""
        threading.Thread(target=self._keep, name="vreplica-claim", daemon=True).start()
        return self

    # -- checks -----------------------------------------------------------------------------

    def stands_on(self, vm: VmInfo) -> None:
        """From now on every check holds the replica to the snapshot and disk files of `vm`."""
        self._stands = (vm.current_snapshot, {d.key: d.path for d in vm.disks})

    def raise_if_lost(self) -> None:
        """Raises ClaimLost where a check has found that another writer took over. No call."""
        if self._lost is not None:
            raise self._lost

    def check(self, *, place: bool = True) -> VmOptions:
        """Reads the replica. Raises ClaimLost, ReplicaChangedMeanwhile.

        `place`: look at the snapshot and the disk files too, once `stands_on` has told them.
        """
        with self._lock:
            self.raise_if_lost()
            options = self._session.read_options(self.vm)
            # A version is worth nothing before all is checked.
            self._version = None
            self._require_own(options.extra_config)
            if place and self._stands is not None:
                self._check_place(options.current_snapshot, options.disks)
            self._version = options.change_version
            return options

    def observe(self, replica: VmOptions | VmInfo) -> None:
        """Takes note of what was just read of the replica. Raises ClaimLost."""
        with self._lock:
            self._require_own(replica.extra_config)
            self._version = replica.change_version

    def _require_own(self, extra_config: Mapping[str, str]) -> None:
        found = Claim.of(extra_config)
        if (found,) == self._reverted_to:
            return
        if found is None or found.token != self.claim.token:
            self._raise_lost(found)

    def _raise_lost(self, found: Claim | None) -> None:
        by = found.text if found is not None else "nobody: its mark was removed"
        self._lost = ClaimLost(job=self.job, vm=self.vm.name, run=self.claim.run, by=by)
        raise self._lost

    def check_snapshot(self, snapshot: SnapshotInfo) -> None:
        """Holds a snapshot that was just made to this claim. Raises ReplicaChangedMeanwhile."""
        found = Claim.of(snapshot.extra_config)
        if found is None or found.token != self.claim.token:
            self._raise_changed("another writer has changed its marks")
        self._check_place(snapshot.parent, {d.key: d.path for d in snapshot.disks})

    def _check_place(self, current: str | None, disks: Mapping[int, str]) -> None:
        assert self._stands is not None, "known once the replica was prepared"
        base, files = self._stands
        if current != base:
            self._raise_changed("somebody took, removed or reverted to a snapshot of it")
        if dict(disks) != dict(files):
            self._raise_changed("its disks are other files now")

    def _raise_changed(self, what: str) -> None:
        raise ReplicaChangedMeanwhile(job=self.job, vm=self.vm.name, what=what)

    # -- writes -----------------------------------------------------------------------------

    def write(self, values: Mapping[str, str], *, place: bool = True) -> None:
        """Sets entries of the replica's extraConfig while the claim stands.

        Raises ClaimLost, ReplicaChangedMeanwhile, and what the site raises.
        """
        with self._lock:
            for attempt in range(_ATTEMPTS):
                version, self._version = self._version, None
                if version is None:
                    version, self._version = self.check(place=place).change_version, None
                own = self.claim.option if self._reverted_to is not None else {}
                try:
                    self._session.set_extra_config(
                        self.vm, {**own, **values}, change_version=version
                    )
                    return
                except ConfigurationChanged:
                    if attempt == _ATTEMPTS - 1:
                        raise

    @contextmanager
    def reverting(self, frozen: Mapping[str, str]) -> Iterator[None]:
        """Round a revert to a snapshot with this extraConfig, and the write after it.

        The revert brings the snapshot's older claim back, and the write sets this one again. Where
        that breaks off inside, the older one is still nobody's: this writer has the replica.
        """
        with self._lock:
            self._version = None
            self._reverted_to = (Claim.of(frozen),)
        yield
        self._reverted_to = None

    def give_back(self, before: Claim) -> None:
        """Puts the claim back that this one was taken over from; its owner still works."""
        self.forget()
        self.write(before.option, place=False)

    def renew(self) -> None:
        """Says at the destination that this writer is alive. Raises ClaimLost."""
        with self._lock:
            renewed = self.claim.renew(self._session.server_time())
            self.write(renewed.option, place=False)
            self.claim = renewed

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                self.renew()
            except ClaimLost:
                return
            except Exception:  # noqa: S112
                # A site that is away now may be there at the next time; safety is not here.
                continue

    # -- the end ----------------------------------------------------------------------------

    def release(self, values: Mapping[str, str] | None = None) -> None:
        """Gives the replica back. `values`: entries set in the same step.

        Does nothing where another writer has it by now. Raises what the site raises.
        """
        self.forget()
        with suppress(ClaimLost):
            self.raise_if_lost()
            self.write({CLAIM_KEY: "", **(values or {})}, place=False)

    def forget(self) -> None:
        """Ends the background work; the claim on the replica stays as it is. Sends nothing."""
        self._ended.set()
        _held.discard(self.claim.token)


def release_of_failover(session: Session, replica: str, claimant: Claimant, mark: str = "") -> None:
    """Gives back what a failover has claimed, at its end.

    `replica`: name or id of the VM. `mark`: the failover's mark from then on. Does nothing where
    there is no such VM, or the claim of another writer by now. Raises FailoverNotHere where
    another mover has adopted the failover.
    """
    for attempt in range(_ATTEMPTS):
        try:
            vm = session.read_vm(session.find_vm(replica))
        except VmNotFound:
            return
        require_held(vm.ref.name, vm.extra_config, replace(claimant, must_hold=False))
        found = Claim.of(vm.extra_config)
        if found is None or not claimant.owns(found):
            return
        values = {CLAIM_KEY: "", FAILOVER_KEY: mark}
        try:
            session.set_extra_config(vm.ref, values, change_version=vm.change_version)
            return
        except ConfigurationChanged:
            if attempt == _ATTEMPTS - 1:
                raise
