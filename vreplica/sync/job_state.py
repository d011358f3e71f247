"""Reads both sides of a job: the source VM, and the replica with its recovery points."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from vreplica.sync.job import Job
from vreplica.sync.known_vms import find_source
from vreplica.sync.replica.state import ReplicaState, find_replica
from vreplica.sync.sites import Sites
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.session import Session


@dataclass(frozen=True, slots=True)
class JobState:
    """A job and both its sides, as they were read."""

    job: Job
    sites: Sites
    source: VmInfo
    replica: ReplicaState | None
    """None: there is no replica yet."""

    def with_sides(self, source: VmInfo, replica: ReplicaState | None) -> JobState:
        """The same job after either side was read again."""
        return replace(self, source=source, replica=replica)


def read_job_state(job: Job, sites: Sites) -> JobState:
    """Reads both sides. Raises VmNotFound for the source, and as `find_replica`."""
    source = sites.source.read_vm(find_source(sites.source, job))
    replica = find_replica(sites.destination, job, made_from=source)
    if replica is not None:
        job = _with_network_ids(job, sites.destination, replica)
    return JobState(job, sites, source, replica)


def _with_network_ids(job: Job, destination: Session, replica: ReplicaState) -> Job:
    """The job with the moref of each network that it names by path, as a card of the replica says.

    Names stay: the preflight looks at those that a card is not on yet. So does what is not found.
    """
    networks = dict(job.placement.networks)
    for here, there in networks.items():
        if "/" in there or there.endswith(")"):
            with suppress(PlacementNotFound, PlacementAmbiguous):
                networks[here] = destination.network_of_host(replica.vm.ref, there).moref
    return replace(job, placement=replace(job.placement, networks=networks))
