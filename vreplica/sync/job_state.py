"""Reads both sides of a job: the source VM, and the replica with its recovery points."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vreplica.sync.job import Job
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
    """Reads both sides. Raises VmNotFound for the source, and NotOurReplica."""
    source = sites.source.read_vm(sites.source.find_vm(job.source_vm))
    return JobState(job, sites, source, find_replica(sites.destination, job))
