"""Reads both sides of a job as they are now, for `status --live`. Changes nothing.

A site that cannot be entered, or a VM that is not there, is said; the other side is read all the
same. What only vCenter remembers, because the VM's host does not answer, is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover.standing import Sides
from vreplica.points import RecoveryPoint
from vreplica.points.vm_keys import BOOTED, LEAF_KEY
from vreplica.sync.job import Job
from vreplica.sync.known_vms import find_known_replica, find_source
from vreplica.sync.replica.state import read_replica
from vreplica.sync.sites import SiteSessions
from vreplica.vsphere.model import VmInfo

ON: Final = "poweredOn"


@dataclass(frozen=True, slots=True)
class LiveSide:
    """A VM as its site shows it.

    `power`: None where it could not be read; `trouble` says why. `host_answers`: False where the
    power state is only what vCenter remembers.
    """

    site: str
    vm: str
    power: str | None = None
    host_answers: bool = False
    trouble: str | None = None

    @property
    def on(self) -> bool:
        return self.power == ON

    @property
    def off(self) -> bool:
        """Read as off, from a host that answers."""
        return self.power is not None and self.power != ON and self.host_answers

    def in_words(self) -> str:
        if self.power is None:
            return f"{self.vm} at {self.site}: not known: {self.trouble}"
        said = {"poweredOn": "on", "poweredOff": "off"}.get(self.power, self.power)
        remembered = "" if self.host_answers else ", as vCenter remembers: its host does not answer"
        return f"{self.vm} at {self.site}: {said}{remembered}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "vm": self.vm,
            "power": self.power,
            "host_answers": self.host_answers,
            "trouble": self.trouble,
        }


@dataclass(frozen=True, slots=True)
class LiveJob:
    """Both VMs of a job, and its newest point.

    `points_read`: False where the destination could not say which points there are. `booted_by`:
    the failover that has booted the replica, by the mark on it.
    """

    source: LiveSide
    replica: LiveSide
    points_read: bool = False
    newest: RecoveryPoint | None = None
    booted_by: str | None = None

    @property
    def both_on(self) -> bool:
        return self.source.on and self.replica.on

    @property
    def both(self) -> str:
        """Both VMs by name and site."""
        return " and ".join(f"{s.vm} at {s.site}" for s in (self.source, self.replica))

    def alarm(self) -> str:
        """The advice where both are on."""
        return (
            f"BOTH VMs are on: {self.both}. Users may work with either. Find out which one holds "
            "the newer work before you stop the other"
        )

    @property
    def site_on(self) -> str | None:
        """The one site where the VM is on; None: at both, at neither, or not known."""
        if self.source.on == self.replica.on:
            return None
        return self.source.site if self.source.on else self.replica.site

    @property
    def both_off(self) -> bool:
        return self.source.off and self.replica.off

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source.to_dict(),
            "replica": self.replica.to_dict(),
            "both_on": self.both_on,
            "booted_by": self.booted_by,
        }


def read_live(job: Job, sides: Sides, sessions: SiteSessions) -> LiveJob:
    """Reads both sides. Raises no error of a site."""
    source = _read_source(job, sides.source, sessions)
    replica, vm = _read_replica(job, sides.destination, sessions)
    booted = booted_by(vm) if vm is not None else None
    if vm is None:
        return LiveJob(source, replica)
    try:
        found = read_replica(sessions.session(job.destination), job, vm.ref)
    except VReplicaError:
        # It carries another job's mark: during a failback the points are of the reverse job.
        return LiveJob(source, replica, booted_by=booted)
    whole = not found.newer
    return LiveJob(source, replica, whole, found.latest if whole else None, booted)


def not_read(names: tuple[str, str], sides: Sides, error: VReplicaError) -> LiveJob:
    """A job of which neither side can be entered. `names`: of its source and its replica."""
    source, replica = names
    return LiveJob(
        LiveSide(sides.source, source, trouble=str(error)),
        LiveSide(sides.destination, replica, trouble=str(error)),
    )


def booted_by(vm: VmInfo) -> str | None:
    """The id of the failover that has booted a replica, by the mark on it."""
    leaf = vm.extra_config.get(LEAF_KEY, "")
    return leaf.removeprefix(BOOTED) if leaf.startswith(BOOTED) else None


def _read_source(job: Job, site: str, sessions: SiteSessions) -> LiveSide:
    try:
        session = sessions.session(job.source)
        vm = session.read_vm(find_source(session, job))
    except VReplicaError as error:
        return LiveSide(site, job.source_vm, trouble=str(error))
    return _side(site, vm)


def _read_replica(job: Job, site: str, sessions: SiteSessions) -> tuple[LiveSide, VmInfo | None]:
    name = job.placement.name
    try:
        session = sessions.session(job.destination)
        ref = find_known_replica(session, job) or session.look_up_vm(name)
        if ref is None:
            return LiveSide(site, name, trouble="there is no replica yet"), None
        vm = session.read_vm(ref)
    except VReplicaError as error:
        return LiveSide(site, name, trouble=str(error)), None
    return _side(site, vm), vm


def _side(site: str, vm: VmInfo) -> LiveSide:
    return LiveSide(site, vm.ref.name, vm.power_state, vm.connection_state == "connected")
