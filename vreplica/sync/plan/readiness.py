"""Tries everything that a job needs, without a change: `plan`, and what it takes for granted.

    both sites   certificate, login                      a problem here hides what is behind it
    source       the VM, privileges, everything that plan finds
    destination  datastore, host, folder, networks, privileges
    hosts        ticket and login to port 902 (NFC), or whether the port answers

Who asks has often just written the job file, so nothing stops at the first problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from vreplica.errors import VReplicaError
from vreplica.nfc.authd import probe
from vreplica.sync.errors import SiteNotTried
from vreplica.sync.job import Job, Transport
from vreplica.sync.job_state import JobState
from vreplica.sync.known_vms import find_source
from vreplica.sync.plan.plan import clock_warnings, make_plan
from vreplica.sync.replica.shape import replica_spec
from vreplica.sync.replica.state import ReplicaState, find_replica
from vreplica.sync.sites import Sites, SiteSessions
from vreplica.sync.transport.disks import choose_transport
from vreplica.vsphere.model import Endpoint, MissingPrivileges, VmInfo
from vreplica.vsphere.session import Session

T = TypeVar("T")


class FindingKind(Enum):
    """The meaning of a finding: in order, worth knowing, or in the way of a run."""

    GOOD = "good"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the check."""

    area: str
    """source, destination, run, port 902"""
    kind: FindingKind
    text: str
    remedy: str = ""
    said_before: bool = False
    """A problem of a site that an earlier job of the same command has met, too."""


@dataclass(frozen=True, slots=True)
class ReadinessReport:
    """All results of the check."""

    job: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.kind is FindingKind.PROBLEM)

    @property
    def only_said_before(self) -> bool:
        """True where nothing but problems of sites that were said before is in the way."""
        return bool(self.problems) and all(f.said_before for f in self.problems)

    def to_dict(self) -> dict[str, Any]:
        rows = [
            {"area": f.area, "verdict": f.kind.value, "text": f.text, "remedy": f.remedy}
            for f in self.findings
        ]
        return {"job": self.job, "good": not self.problems, "findings": rows}


def check_readiness(job: Job, sessions: SiteSessions | None = None) -> ReadinessReport:
    """Tries everything. Raises nothing that a site, a host or the job file can cause.

    `sessions`: those of other jobs, shared. Where a look at a site is under way, it is used.
    """
    with ExitStack() as stack:
        return _ReadinessCheck(job, sessions or stack.enter_context(SiteSessions()), stack).run()


class _ReadinessCheck:
    """One check of one job, with its findings."""

    def __init__(self, job: Job, sessions: SiteSessions, stack: ExitStack) -> None:
        self._job, self._sessions, self._stack = job, sessions, stack
        self._found: list[Finding] = []

    def run(self) -> ReadinessReport:
        job = self._job
        source = self._log_in("source", job.source)
        same = job.source == job.destination
        destination = source if same else self._log_in("destination", job.destination)
        vm = source and self._try("source", lambda: source.read_vm(find_source(source, job)))
        if source and vm:
            self._good("source", f"VM {vm.ref.name}, {len(vm.disks)} disks, {vm.power_state}")
            lacks = self._try("source", lambda: source.missing_privileges(vm))
            self._privileges("source", lacks, job.source)
        replica: ReplicaState | None = None
        if source and destination and vm:
            sites = Sites(source, destination, ExitStack())
            replica = self._try("destination", lambda: find_replica(destination, job, made_from=vm))
            if replica is None:
                self._place(destination, vm)
            self._try("run", lambda: self._plan(sites, vm, replica))
        if vm and choose_transport(job)[0] is Transport.VDDK:
            hosts = [vm.host, replica.vm.host if replica else None]
            self._ports(h for h in dict.fromkeys(hosts) if h)
        return ReadinessReport(job.name, tuple(self._found))

    # -- what is tried ------------------------------------------------------------------------

    def _log_in(self, area: str, endpoint: Endpoint) -> Session | None:
        session = self._try(area, lambda: self._sessions.session(endpoint))
        if session:
            self._stack.enter_context(session.one_look())
            about = session.about
            who = f"{endpoint.host}: {about.name}, logged in as {endpoint.user}"
            self._good(area, who)
        return session

    def _plan(self, sites: Sites, vm: VmInfo, replica: ReplicaState | None) -> None:
        state = JobState(self._job, sites, vm, replica)
        plan = make_plan(state)
        known = [f"{f.text}. {f.remedy}" for f in self._found]
        for problem in (p for p in plan.problems if p not in known):
            self._found.append(Finding("run", FindingKind.PROBLEM, problem))
        for warning in plan.warnings:
            self._found.append(Finding("run", FindingKind.NOTE, warning))
        for clock in clock_warnings(state):
            self._found.append(Finding("run", FindingKind.NOTE, clock))
        for missing in plan.not_carried:
            text = f"the replica does not get the {missing}"
            self._found.append(Finding("source", FindingKind.NOTE, text))
        modes = ", ".join(f"{d.label}: {d.mode.value}" for d in plan.disks)
        self._good("run", f"transport {plan.transport}")
        if not plan.problems:
            self._good("run", f"{plan.expected_level}-consistent; {modes}")

    def _place(self, destination: Session, vm: VmInfo) -> None:
        """Tries the place where the replica will be created, since there is none yet."""
        job, to = self._job, self._job.placement
        spec = replica_spec(job, vm, "")
        place = self._try("destination", lambda: destination.placement_of(spec))
        if place:
            store = place.datastore.name
            self._good("destination", f"{to.name} can be created on {place.host}, {store}")
            self._privileges("destination", place.lacks, job.destination)
            self._ports([place.host])

    def _privileges(
        self, area: str, lacks: tuple[MissingPrivileges, ...] | None, endpoint: Endpoint
    ) -> None:
        if lacks is None:
            return
        for lack in lacks:
            text = f"{endpoint.user} lacks on {lack.what}: {', '.join(lack.privileges)}"
            text += f" (only for {lack.only_for})" if lack.only_for else ""
            kind = FindingKind.NOTE if lack.only_for else FindingKind.PROBLEM
            remedy = "Add them to the account's role there; docs/vsphere.md says what each is for."
            self._found.append(Finding(area, kind, text, remedy))
        if not lacks:
            self._good(area, f"{endpoint.user} has the privileges that are needed")

    def _ports(self, hosts: Iterable[str]) -> None:
        """Tries the hosts' port. Only a note: the ticket may name the host by another address."""
        port = self._job.nfc.port
        for host in hosts:
            area = f"port {port}"
            try:
                probe(host, port)
            except VReplicaError as error:
                remedy = f"Make sure that this machine reaches TCP port {port} of {host}."
                self._found.append(Finding(area, FindingKind.NOTE, error.message, remedy))
            else:
                self._good(area, f"{host} answers")

    # -- what was found -----------------------------------------------------------------------

    def _good(self, area: str, text: str) -> None:
        self._found.append(Finding(area, FindingKind.GOOD, text))

    def _try(self, area: str, ask: Callable[[], T]) -> T | None:
        """Returns the answer; an error becomes a problem."""
        try:
            return ask()
        except VReplicaError as error:
            before = isinstance(error, SiteNotTried)
            found = Finding(area, FindingKind.PROBLEM, error.message, error.advice(), before)
            self._found.append(found)
            return None
