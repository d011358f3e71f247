"""Reads both sides of a job: the source VM, and the replica with its recovery points."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vreplica.sync.job import Job
from vreplica.sync.known_vms import find_source
from vreplica.sync.replica.state import ReplicaState, find_replica
from vreplica.sync.sites import Sites
from vreplica.vsphere.model import VmInfo


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
    return JobState(job, sites, source, replica)
