"""Networks, and the switches with their port groups, as far as a network card needs them.

A host's own network is a port group of vSwitch0, which has an uplink, or of vSwitch1, which has
none: `config.network` of the host shows which networks are isolated. The uplinks of a distributed
switch are not modelled.
"""

from __future__ import annotations

import uuid
from typing import Any

from vreplica.lab.api.managed import cached, live
from vreplica.lab.api.managed_entity import ManagedEntity
from vreplica.lab.api.vmodl import vim

_dvs: Any = vim.dvs.VmwareDistributedVirtualSwitch


class Network(ManagedEntity, vim.Network):
    """A network. Without an uplink it is isolated: no DHCP server answers."""

    uplink: bool = True

    @cached
    def summary(self) -> Any:
        return vim.Network.Summary(
            network=self, name=self.name, accessible=True, ipPoolName="", ipPoolId=0
        )

    @live
    def vm(self) -> Any:
        return [v for v in self._site.vms() if self in v.network]

    @live
    def host(self) -> Any:
        return [h for h in self._site.hosts() if self in h.network]


class DistributedSwitch(ManagedEntity, vim.dvs.VmwareDistributedVirtualSwitch):
    uuid: Any
    portgroup: Any

    @cached
    def summary(self) -> Any:
        return vim.DistributedVirtualSwitch.Summary(
            name=self.name,
            uuid=self.uuid,
            numPorts=128,
            portgroupName=[p.name for p in self.portgroup],
        )

    @cached
    def config(self) -> Any:
        """As that of a new switch in a vCenter, without uplinks."""
        product = vim.dvs.ProductSpec(
            name="DVS", vendor="VMware, Inc.", version="8.0.3", forwardingClass="etherswitch"
        )
        return _dvs.ConfigInfo(
            uuid=self.uuid,
            name=self.name,
            numStandalonePorts=0,
            numPorts=128,
            maxPorts=(1 << 31) - 1,
            uplinkPortPolicy=vim.DistributedVirtualSwitch.NameArrayUplinkPortPolicy(
                uplinkPortName=["Uplink 1"]
            ),
            defaultPortConfig=_port_config(),
            productInfo=product,
            policy=vim.DistributedVirtualSwitch.SwitchPolicy(),
            configVersion="1",
            contact=vim.DistributedVirtualSwitch.ContactInfo(),
            createTime=self._site.started,
            networkResourceManagementEnabled=True,
            maxMtu=1500,
            linkDiscoveryProtocolConfig=vim.host.LinkDiscoveryProtocolConfig(
                protocol="cdp", operation="listen"
            ),
            ipfixConfig=_dvs.IpfixConfig(
                activeFlowTimeout=60, idleFlowTimeout=15, samplingRate=4096, internalFlowsOnly=False
            ),
            lacpApiVersion="multipleLag",
            multicastFilteringMode="snooping",
        )


def _port_config() -> Any:
    """The policies of a port, as vCenter sets them where nobody chooses."""

    def policy(kind: Any, **values: Any) -> Any:
        return kind(inherited=False, **values)

    return _dvs.VmwarePortConfigPolicy(
        blocked=policy(vim.BoolPolicy, value=False),
        vlan=policy(_dvs.VlanIdSpec, vlanId=0),
        macManagementPolicy=policy(
            _dvs.MacManagementPolicy,
            allowPromiscuous=False,
            macChanges=False,
            forgedTransmits=False,
            macLearningPolicy=policy(_dvs.MacLearningPolicy, enabled=False),
        ),
        uplinkTeamingPolicy=policy(
            _dvs.UplinkPortTeamingPolicy,
            policy=policy(vim.StringPolicy, value="loadbalance_srcid"),
            reversePolicy=policy(vim.BoolPolicy, value=True),
            notifySwitches=policy(vim.BoolPolicy, value=True),
            rollingOrder=policy(vim.BoolPolicy, value=False),
            uplinkPortOrder=policy(_dvs.UplinkPortOrderPolicy, activeUplinkPort=["Uplink 1"]),
        ),
    )


class Portgroup(Network, vim.dvs.DistributedVirtualPortgroup):
    """A distributed port group. Network cards name it by its `key`, here its id."""

    switch: Any

    @cached
    def key(self) -> Any:
        return self._moId

    @cached
    def config(self) -> Any:
        return vim.dvs.DistributedVirtualPortgroup.ConfigInfo(
            key=self._moId,
            name=self.name,
            numPorts=128,
            distributedVirtualSwitch=self.switch,
            type="earlyBinding",
            autoExpand=True,
            defaultPortConfig=_port_config(),
            policy=_dvs.VMwarePortgroupPolicy(
                blockOverrideAllowed=True,
                livePortMovingAllowed=False,
                portConfigResetAtDisconnect=True,
            ),
        )


def build_switch(
    site: Any, folder: Any, switch_name: str, names: tuple[str, ...], isolated: set[str]
) -> list[Any]:
    """Makes a distributed switch with a port group for each name. Returns the port groups."""
    if not names:
        return []
    switch = DistributedSwitch(site, site.new_id("dvs"))
    switch.__dict__.update(name=switch_name, parent=folder, uuid=str(uuid.uuid4()), portgroup=[])
    site.add(switch)
    groups = []
    for name in names:
        group = Portgroup(site, site.new_id("dvportgroup"))
        group.__dict__.update(name=name, parent=folder, switch=switch, uplink=name not in isolated)
        groups.append(site.add(group))
    switch.portgroup = groups
    folder.childEntity = [*folder.childEntity, switch, *groups]
    return groups


def host_network(name: str, networks: Any) -> Any:
    """HostSystem.config.network: the port groups of the switches with and without an uplink."""
    host: Any = vim.host
    own_name, _, domain = name.partition(".")
    plain = [n for n in networks if not isinstance(n, Portgroup)]
    policy = host.NetworkPolicy()
    switches, groups = [], []
    for name, uplink in (("vSwitch0", True), ("vSwitch1", False)):
        own = [n for n in plain if n.uplink == uplink]
        switches.append(
            host.VirtualSwitch(
                name=name,
                key=f"key-vim.host.VirtualSwitch-{name}",
                numPorts=128,
                numPortsAvailable=128 - len(own),
                mtu=1500,
                portgroup=[f"key-vim.host.PortGroup-{n.name}" for n in own],
                pnic=["key-vim.host.PhysicalNic-vmnic0"] if uplink else [],
                spec=host.VirtualSwitch.Specification(numPorts=128, policy=policy),
            )
        )
        groups += [
            host.PortGroup(
                key=f"key-vim.host.PortGroup-{n.name}",
                vswitch=switches[-1].key,
                computedPolicy=policy,
                spec=host.PortGroup.Specification(
                    name=n.name, vlanId=0, vswitchName=name, policy=policy
                ),
            )
            for n in own
        ]
    card = host.PhysicalNic(
        key="key-vim.host.PhysicalNic-vmnic0",
        device="vmnic0",
        pci="0000:02:00.0",
        spec=host.PhysicalNic.Specification(),
        wakeOnLanSupported=False,
        mac="00:50:56:00:00:01",
    )
    return host.NetworkInfo(
        vswitch=switches,
        portgroup=groups,
        pnic=[card],
        dnsConfig=host.DnsConfig(dhcp=False, hostName=own_name, domainName=domain),
    )
