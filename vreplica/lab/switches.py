"""Distributed switches and their port groups, as far as placing a network card needs them."""

from __future__ import annotations

import uuid
from typing import Any

from vreplica.lab.entity import Entity
from vreplica.lab.managed import live, view
from vreplica.lab.vmodl import vim


class DistributedSwitch(Entity, vim.dvs.VmwareDistributedVirtualSwitch):
    uuid: Any
    portgroup: Any

    @view
    def summary(self) -> Any:
        return vim.DistributedVirtualSwitch.Summary(
            name=self.name,
            uuid=self.uuid,
            numPorts=128,
            portgroupName=[p.name for p in self.portgroup],
        )


class Portgroup(Entity, vim.dvs.DistributedVirtualPortgroup):
    """A network whose `key` a card's backing names; here it is the id."""

    switch: Any

    @view
    def key(self) -> Any:
        return self._moId

    @view
    def config(self) -> Any:
        return vim.dvs.DistributedVirtualPortgroup.ConfigInfo(
            key=self._moId,
            name=self.name,
            numPorts=128,
            distributedVirtualSwitch=self.switch,
            type="earlyBinding",
            autoExpand=True,
        )

    @view
    def summary(self) -> Any:
        return vim.Network.Summary(
            network=self, name=self.name, accessible=True, ipPoolName="", ipPoolId=0
        )

    @live
    def vm(self) -> Any:
        return [v for v in self._site.vms() if self in v.network]

    @live
    def host(self) -> Any:
        return list(self._site.cluster.host)


def build(site: Any, folder: Any, names: tuple[str, ...]) -> list[Any]:
    """One switch with a port group of each name; returns the port groups."""
    if not names:
        return []
    switch = DistributedSwitch(site, site.new_id("dvs"))
    switch.__dict__.update(
        name=f"{site.name}-dvs", parent=folder, uuid=str(uuid.uuid4()), portgroup=[]
    )
    site.add(switch)
    groups = []
    for name in names:
        group = Portgroup(site, site.new_id("dvportgroup"))
        group.__dict__.update(name=name, parent=folder, switch=switch)
        groups.append(site.add(group))
    switch.portgroup = groups
    folder.childEntity = [*folder.childEntity, switch, *groups]
    return groups
