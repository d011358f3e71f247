"""Finds the resources that a run of each job occupies: hosts and datastores of both ends.

job --> source VM  --> host:SITE/esx1   datastore:SITE/ds1 ...
    `-> replica VM --> host:DR/esx7     datastore:DR/store1
        (does not exist yet: where it will be created)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from vreplica.sync.job import Job
from vreplica.sync.known_vms import replica_uuid, source_uuid
from vreplica.vsphere.model import HostInfo, VmLocation
from vreplica.vsphere.names import unescape

ON: Final = "poweredOn"


@dataclass(frozen=True)
class SiteInventory:
    """The VMs and hosts of one site, as they were read at one moment."""

    name: str
    vms: tuple[VmLocation, ...]
    hosts: tuple[HostInfo, ...]

    def find(self, wanted: str) -> VmLocation | None:
        """The VM of this moref, instance UUID or name; of an inventory path, by its last part."""
        plain = unescape(wanted)
        return self._by_key.get(plain) or self._by_key.get(plain.rpartition("/")[2])

    def find_only(self, wanted: str) -> VmLocation | None:
        """As `find`; None where several VMs have that name."""
        found = self.find(wanted)
        if found is None or wanted in (found.vm.moref, found.instance_uuid):
            return found
        return found if self._names[found.vm.name] == 1 else None

    @cached_property
    def _names(self) -> Counter[str]:
        return Counter(vm.vm.name for vm in self.vms)

    @cached_property
    def _by_key(self) -> dict[str | None, VmLocation]:
        """The first VM for each moref, instance UUID and name."""
        found: dict[str | None, VmLocation] = {}
        for vm in self.vms:
            for key in (vm.vm.moref, vm.instance_uuid, vm.vm.name):
                found.setdefault(key, vm)
        return found

    def resources(self, vm: VmLocation) -> tuple[str, ...]:
        """The host and the datastores of a VM."""
        host = (f"host:{self.name}/{vm.host}",) if vm.host else ()
        return (*host, *(f"datastore:{self.name}/{d}" for d in vm.datastores))


def resources_of_run(
    job: Job, source: SiteInventory, destination: SiteInventory
) -> tuple[str, ...]:
    """The resources of both ends. A source VM that does not exist adds none."""
    vm = source.find(source_uuid(job) or "") or source.find(job.source_vm)
    replica = destination.find(replica_uuid(job) or "") or destination.find(job.placement.name)
    there = destination.resources(replica) if replica else _planned(job, destination)
    return tuple(dict.fromkeys((*(source.resources(vm) if vm else ()), *there)))


def resources_of_runs(
    jobs: Mapping[str, tuple[Job, str, str]], sites: Mapping[str, SiteInventory]
) -> dict[str, tuple[str, ...]]:
    """The resources by job, of the jobs whose two sites could be read.

    `jobs`: each job with the names of its source and destination site.
    """
    return {
        name: resources_of_run(job, sites[source], sites[destination])
        for name, (job, source, destination) in jobs.items()
        if source in sites and destination in sites
    }


def both_on(
    jobs: Mapping[str, tuple[Job, str, str]], sites: Mapping[str, SiteInventory]
) -> dict[str, str | None]:
    """The jobs whose two sites could be read: both VMs by name where both are on, else None."""
    found: dict[str, str | None] = {}
    for name, (job, here, there) in jobs.items():
        if here in sites and there in sites:
            source = sites[here].find_only(source_uuid(job) or job.source_vm)
            replica = sites[there].find_only(replica_uuid(job) or job.placement.name)
            on = [vm for vm in (source, replica) if vm is not None and vm.power_state == ON]
            same = here == there and source == replica
            text = f"{on[0].vm.name} at {here}, {on[1].vm.name} at {there}" if len(on) > 1 else None
            found[name] = None if same else text
    return found


def _planned(job: Job, site: SiteInventory) -> tuple[str, ...]:
    """The place of a replica that does not exist: the host that the job names, or the only one."""
    names = [h.name for h in site.hosts if job.placement.datastore in h.datastores]
    host = job.placement.host or (names[0] if len(names) == 1 else None)
    occupied = (f"host:{site.name}/{host}",) if host else ()
    return (*occupied, f"datastore:{site.name}/{job.placement.datastore}")
