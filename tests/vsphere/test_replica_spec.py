"""The ConfigSpec of a replica: the guest's hardware stays, nothing is connected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pyVmomi import VmomiSupport, vim
from pyVmomi.SoapAdapter import SerializeToStr

from tests.support.vms import make_disk, make_vm
from vreplica.units import GIB, TIB
from vreplica.vsphere.inventory.devices import (
    CONTROLLERS,
    controller_class,
    controllers_of,
    disks_of,
    nics_of,
)
from vreplica.vsphere.inventory.placement import PlacementObjects
from vreplica.vsphere.model import Controller, KeepIdentity, Nic, ReplicaSpec, VmDisk, VmInfo
from vreplica.vsphere.operations.cbt import tracking_obstacle
from vreplica.vsphere.operations.create_replica import config_spec, differences

device = vim.vm.device


def disk(key: int, controller: Controller, unit: int, capacity: int = GIB, **more: Any) -> VmDisk:
    values = {
        "label": f"Hard disk {key}",
        "capacity_bytes": capacity,
        "path": f"[src] web/web_{key}.vmdk",
        "thin": False,
        "controller_key": controller.key,
        "controller_type": controller.type,
        "bus_number": controller.bus_number,
        "unit_number": unit,
        "change_id": "u/1",
    }
    return make_disk(key, **{**values, **more})


PVSCSI = Controller(1000, "pvscsi", 0)
LSI = Controller(1001, "lsilogic-sas", 1, "virtualSharing")
SATA = Controller(15000, "sata", 0)
NVME = Controller(31000, "nvme", 0)
IDE = Controller(200, "ide", 0)
MAC = "00:50:56:aa:bb:cc"


def source(**more: Any) -> VmInfo:
    values: dict[str, Any] = {
        "instance_uuid": "5000-instance",
        "bios_uuid": "4200-bios",
        "vmx_path": "[src] web/web.vmx",
        "guest_id": "windows2022srvNext_64Guest",
        "guest_family": "windows",
        "power_state": "poweredOn",
        "tools_running": True,
        "tools_status": "running",
        "hw_version": "vmx-19",
        "cpus": 8,
        "cores_per_socket": 4,
        "memory_mib": 16384,
        "firmware": "efi",
        "secure_boot": True,
        "disks": (
            disk(2000, PVSCSI, 0),
            disk(2017, LSI, 1, 62 * TIB),
            disk(16000, SATA, 3, thin=True),
            disk(32000, NVME, 0, 3 * GIB + 512),
            disk(3000, IDE, 0),
        ),
        "controllers": (IDE, PVSCSI, LSI, SATA, NVME),
        "nics": (
            Nic(
                4000, "Network adapter 1", "vmxnet3", "00:50:56:aa:bb:cc", "VM Network", True, True
            ),
            Nic(4001, "Network adapter 2", "e1000e", None, "DMZ", True, True),
        ),
        "host": "esx1",
        "datastores": ("src",),
        "extra_config": {"disk.enableUUID": "TRUE", "svga.present": "TRUE", "guestinfo.x": "y"},
        "memory_hot_add": True,
        "vbs": True,
    }
    return make_vm(**{**values, **more})


def place(**more: Any) -> PlacementObjects:
    network = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="DR net")
    values = {
        "store": None,
        "folder": None,
        "pool": None,
        "host": None,
        "compute": None,
        "backings": {4000: network, 4001: network},
    }
    return PlacementObjects(**{**values, **more})


def spec(**more: Any) -> ReplicaSpec:
    return ReplicaSpec(**{"name": "web01-replica", "source": source(), "datastore": "dr 1", **more})


def added(config: Any, kind: type) -> list[Any]:
    return [c.device for c in config.deviceChange if isinstance(c.device, kind)]


def test_the_machine_is_the_sources() -> None:
    config = config_spec(spec(annotation="kept by vreplica"), place(), "dr 1")
    assert config.name == "web01-replica"
    assert config.version == "vmx-19"
    assert config.guestId == "windows2022srvNext_64Guest"
    assert (config.numCPUs, config.numCoresPerSocket, config.memoryMB) == (8, 4, 16384)
    assert (config.memoryHotAddEnabled, config.cpuHotAddEnabled) == (True, False)
    assert config.firmware == "efi"
    assert config.bootOptions.efiSecureBootEnabled is True
    assert config.flags.vbsEnabled is True
    assert config.files.vmPathName == "[dr 1]"
    assert config.uuid == "4200-bios"
    assert config.instanceUuid is None
    assert config.annotation == "kept by vreplica"


def test_controllers_keep_type_bus_and_key_and_share_nothing() -> None:
    config = config_spec(spec(), place(), "dr 1")
    made = {c.key: c for c in added(config, device.VirtualController)}
    assert sorted(made) == [1000, 1001, 15000, 31000]
    for wanted in (PVSCSI, LSI, SATA, NVME):
        assert type(made[wanted.key]) is controller_class(wanted.type)
        assert made[wanted.key].busNumber == wanted.bus_number
    assert made[1001].sharedBus == "noSharing"


def test_disks_keep_key_place_and_capacity_and_are_thin() -> None:
    config = config_spec(spec(), place(), "dr 1")
    made = {d.key: d for d in added(config, device.VirtualDisk)}
    assert sorted(made) == [2000, 2017, 3000, 16000, 32000]
    for wanted in source().disks:
        there = made[wanted.key]
        assert there.capacityInBytes == wanted.capacity_bytes
        assert there.controllerKey == wanted.controller_key
        assert there.unitNumber == wanted.unit_number
        assert there.backing.thinProvisioned is True
        assert there.backing.fileName == "[dr 1]"
        assert there.backing.diskMode == "persistent"
    assert made[32000].capacityInKB == 3 * GIB // 1024 + 1
    files = [c for c in config.deviceChange if c.fileOperation is not None]
    assert {f.device.key for f in files} == set(made)
    assert {f.fileOperation for f in files} == {"create"}


def test_disks_can_follow_the_sources_provisioning_and_be_left_out() -> None:
    thick = source(disks=(disk(2000, PVSCSI, 0, eagerly_scrub=True), disk(2001, PVSCSI, 1)))
    config = config_spec(
        spec(source=thick, thin=None, exclude_disks=frozenset({2001})), place(), "dr 1"
    )
    (made,) = added(config, device.VirtualDisk)
    assert (made.key, made.backing.thinProvisioned, made.backing.eagerlyScrub) == (
        2000,
        False,
        True,
    )


def test_network_cards_are_there_and_disconnected() -> None:
    config = config_spec(spec(), place(), "dr 1")
    first, second = added(config, device.VirtualEthernetCard)
    assert type(first) is device.VirtualVmxnet3
    assert type(second) is device.VirtualE1000e
    for nic in (first, second):
        assert nic.connectable.connected is False
        assert nic.connectable.startConnected is False
        assert nic.backing.deviceName == "DR net"
        assert nic.macAddress is None
        assert nic.addressType == "generated"
    kept = config_spec(spec(keep=KeepIdentity(mac=True)), place(), "dr 1")
    nic = added(kept, device.VirtualEthernetCard)[0]
    assert (nic.addressType, nic.macAddress) == ("assigned", MAC)


@pytest.mark.parametrize(
    ("mac", "kind"),
    [
        ("00:50:56:3f:00:01", "manual"),
        ("00:50:56:80:00:01", "assigned"),
        ("00:50:56:bf:00:01", "assigned"),
        ("00:0C:29:00:00:01", "generated"),
        ("52:54:00:00:00:01", "manual"),
    ],
)
def test_a_kept_address_has_the_type_with_which_a_host_takes_it(mac: str, kind: str) -> None:
    wanted = spec(keep=KeepIdentity(mac=True))
    cards = tuple(replace(n, mac=mac) for n in wanted.source.nics)
    wanted = replace(wanted, source=replace(wanted.source, nics=cards))
    nic = added(config_spec(wanted, place(), "dr 1"), device.VirtualEthernetCard)[0]
    assert (nic.addressType, nic.macAddress) == (kind, mac)


def test_a_card_without_a_network_is_left_out_only_by_the_placement() -> None:
    config = config_spec(spec(), place(backings={}), "dr 1")
    assert added(config, device.VirtualEthernetCard) == []


def test_options_are_carried_only_where_quiescing_needs_them() -> None:
    config = config_spec(spec(extra_config={"vreplica.job": "web"}), place(), "dr 1")
    assert {o.key: o.value for o in config.extraConfig} == {
        "disk.enableUUID": "TRUE",
        "vreplica.job": "web",
    }


def test_every_spec_serializes_as_the_wire_wants_it() -> None:
    text = SerializeToStr(
        config_spec(spec(), place(), "dr 1"), version=VmomiSupport.newestVersions.Get("vim")
    )
    assert "ParaVirtualSCSIController" in text
    assert "<capacityInBytes>" + str(62 * TIB) in text


def test_what_was_made_is_compared_with_what_was_asked_for() -> None:
    made = source()
    assert differences(spec(), made) == ""
    moved = replace(made, disks=(replace(made.disks[0], unit_number=5), *made.disks[1:]))
    assert "Hard disk 2000 is not at pvscsi 0:0" in differences(spec(), moved)
    renumbered = replace(made, disks=(replace(made.disks[0], key=2016), *made.disks[1:]))
    assert "device key 2016 instead of 2000" in differences(spec(), renumbered)
    smaller = replace(made, disks=(replace(made.disks[0], capacity_bytes=512), *made.disks[1:]))
    assert f"512 bytes instead of {GIB}" in differences(spec(), smaller)
    assert "was not asked for" in differences(spec(exclude_disks=frozenset({2000})), made)


# -- and the way back: devices read -----------------------------------------------------------


def flat(name: str, **more: Any) -> Any:
    backing = device.VirtualDisk.FlatVer2BackingInfo
    return backing(fileName=name, **{"diskMode": "persistent", **more})


def test_devices_are_read_with_their_place_and_chain() -> None:
    label = vim.Description(label="Hard disk 1", summary="1 GB")
    base = flat("[ds] web/web.vmdk")
    backing = flat(
        "[ds] web/web-000001.vmdk",
        uuid="6000",
        changeId="52 de/3",
        thinProvisioned=True,
        parent=base,
    )
    devices = [
        device.ParaVirtualSCSIController(key=1002, busNumber=2, sharedBus="physicalSharing"),
        device.VirtualDisk(
            key=2033, controllerKey=1002, unitNumber=1, capacityInKB=4, backing=backing,
            deviceInfo=label, diskObjectId="12-2033",
        ),
        device.VirtualCdrom(key=3002, controllerKey=200, unitNumber=0),
    ]  # fmt: skip
    (found,) = disks_of(devices)
    assert found.position == ("pvscsi", 2, 1)
    assert (found.capacity_bytes, found.uuid, found.change_id) == (4096, "6000", "52 de/3")
    assert (found.thin, found.mode, found.sharing) == (True, "persistent", "sharingNone")
    assert found.parents == ("[ds] web/web.vmdk",)
    assert found.shared_bus == "physicalSharing"
    assert (found.label, found.disk_object_id) == ("Hard disk 1", "12-2033")


@pytest.mark.parametrize(
    ("backing", "kind"),
    [
        (flat("f"), "flat"),
        (device.VirtualDisk.SeSparseBackingInfo(fileName="f", diskMode="persistent"), "sesparse"),
        (device.VirtualDisk.SparseVer2BackingInfo(fileName="f", diskMode="persistent"), "sparse"),
        (
            device.VirtualDisk.RawDiskMappingVer1BackingInfo(
                fileName="f", compatibilityMode="physicalMode"
            ),
            "rdm-physical",
        ),
        (
            device.VirtualDisk.RawDiskMappingVer1BackingInfo(
                fileName="f", compatibilityMode="virtualMode"
            ),
            "rdm-virtual",
        ),
        (device.VirtualDisk.RawDiskVer2BackingInfo(descriptorFileName="f", deviceName="d"), "raw"),
        (device.VirtualDisk.PartitionedRawDiskVer2BackingInfo(), "raw"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_backings_are_named(backing: Any, kind: str) -> None:
    (found,) = disks_of([device.VirtualDisk(key=2000, capacityInKB=1, backing=backing)])
    assert found.backing == kind
    assert found.controller_type == "unknown"


def test_controllers_are_named_by_their_most_special_class() -> None:
    devices = [controller_class(t)(key=i, busNumber=i) for i, t in enumerate(CONTROLLERS)]
    assert [c.type for c in controllers_of(devices)] == list(CONTROLLERS)


def test_cards_are_named_with_their_network() -> None:
    card = device.VirtualEthernetCard
    port = vim.dvs.PortConnection(portgroupKey="dvportgroup-9", switchUuid="50")
    devices = [
        device.VirtualVmxnet3(
            key=4000, macAddress="00:50:56:00:00:01",
            backing=card.NetworkBackingInfo(deviceName="VM Network"),
            connectable=device.VirtualDevice.ConnectInfo(
                connected=True, startConnected=False, allowGuestControl=True),
        ),
        device.VirtualE1000(
            key=4001, backing=card.DistributedVirtualPortBackingInfo(port=port)),
        device.VirtualVmxnet3(
            key=4002, backing=card.OpaqueNetworkBackingInfo(
                opaqueNetworkId="seg-1", opaqueNetworkType="nsx.LogicalSwitch")),
    ]  # fmt: skip
    networks = {
        "dvportgroup-9": ("prod", "dvportgroup-9"),
        "seg-1": ("overlay", "network-o1"),
        "network-1": ("VM Network", "network-1"),
    }
    first, second, third = nics_of(devices, networks)
    assert [n.network_moref for n in (first, second, third)] == [
        "network-1", "dvportgroup-9", "network-o1",
    ]  # fmt: skip
    # A name alone says nothing where two networks have it.
    (first, *_) = nics_of(devices, {**networks, "network-2": ("VM Network", "network-2")})
    assert first.network_moref is None
    assert (first.type, first.network, first.connected, first.start_connected) == (
        "vmxnet3", "VM Network", True, False,
    )  # fmt: skip
    assert (second.type, second.network) == ("e1000", "prod")
    assert (third.network, third.connected) == ("overlay", False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"mode": "independent_persistent"}, "independent persistent"),
        ({"mode": "independent_nonpersistent"}, "snapshots leave it out"),
        ({"mode": "nonpersistent"}, "nonpersistent"),
        ({"sharing": "sharingMultiWriter"}, "multi-writer"),
        ({"shared_bus": "physicalSharing"}, "shares the bus"),
        ({"backing": "rdm-physical"}, "physical-mode"),
        ({"backing": "raw"}, "raw"),
        ({"backing": "pmem"}, "pmem"),
        ({"backing": "flat-v1"}, "flat-v1"),
    ],
)
def test_disks_that_cannot_be_tracked_are_told_with_the_reason(
    more: dict[str, Any], says: str
) -> None:
    reason = tracking_obstacle(disk(2000, PVSCSI, 0, **more))
    assert reason is not None
    assert says in reason


@pytest.mark.parametrize("backing", ["flat", "sesparse", "sparse", "rdm-virtual"])
def test_disks_that_can_be_tracked_have_no_obstacle(backing: str) -> None:
    assert tracking_obstacle(disk(2000, PVSCSI, 0, backing=backing)) is None
