"""What a run of each job occupies: hosts and datastores of both ends, as they are now.

job --> source VM  --> host:SITE/esx1   datastore:SITE/ds1 ...
    `-> replica VM --> host:DR/esx7     datastore:DR/store1
        (not there yet: where it will be put)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vreplica.sync.job import Job
from vreplica.vsphere.model import HostInfo, VmLocation


@dataclass(frozen=True)
class SiteNow:
    """One site, read once."""

    name: str
    vms: tuple[VmLocation, ...]
    hosts: tuple[HostInfo, ...]

    def find(self, wanted: str) -> VmLocation | None:
        """By moref, instance UUID, name, or the last part of an inventory path."""
        return self._by_key.get(wanted) or self._by_key.get(wanted.rpartition("/")[2])

    @cached_property
    def _by_key(self) -> dict[str | None, VmLocation]:
        """The first VM of each name that one may go by."""
        found: dict[str | None, VmLocation] = {}
        for vm in self.vms:
            for key in (vm.vm.moref, vm.instance_uuid, vm.vm.name):
                found.setdefault(key, vm)
        return found

    def holds(self, where: VmLocation) -> tuple[str, ...]:
        host = (f"host:{self.name}/{where.host}",) if where.host else ()
        return (*host, *(f"datastore:{self.name}/{d}" for d in where.datastores))


def holds(job: Job, source: SiteNow, destination: SiteNow) -> tuple[str, ...]:
    """Everything that a run of `job` occupies; nothing for a VM that is not there."""
    vm = source.find(job.source_vm)
    replica = destination.find(job.placement.name)
    there = destination.holds(replica) if replica else _planned(job, destination)
    return tuple(dict.fromkeys((*(source.holds(vm) if vm else ()), *there)))


def _planned(job: Job, site: SiteNow) -> tuple[str, ...]:
    """Where the replica is going to be: the host that the job names, or the only one."""
    names = [h.name for h in site.hosts if job.placement.datastore in h.datastores]
    host = job.placement.host or (names[0] if len(names) == 1 else None)
    taken = (f"host:{site.name}/{host}",) if host else ()
    return (*taken, f"datastore:{site.name}/{job.placement.datastore}")


def all_holds(
    jobs: Mapping[str, tuple[Job, str, str]], sites: Mapping[str, SiteNow]
) -> dict[str, tuple[str, ...]]:
    """For each job (with the names of its two sites) whose sites could be read."""
    return {
        name: holds(job, sites[a], sites[b])
        for name, (job, a, b) in jobs.items()
        if a in sites and b in sites
    }
