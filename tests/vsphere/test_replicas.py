"""Replicas made at the other site, from what the source says about itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vreplica.lab import LabControl
from vreplica.units import MIB
from vreplica.vsphere.errors import (
    DatastoreFull,
    NameTaken,
    ObjectGone,
    PlacementNotFound,
    VmNotFound,
)
from vreplica.vsphere.model import ReplicaSpec, ReshapeSpec, VmRef
from vreplica.vsphere.session import Session

STORE = "site-b-ds1"


@pytest.fixture
def replicate(source: Session, target: Session) -> Any:
    def make(vm: VmRef, **more: Any) -> VmRef:
        info = source.read_vm(vm)
        values = {"name": f"{vm.name}-r", "source": info, "datastore": STORE, **more}
        return target.create_replica(ReplicaSpec(**values))

    return make


def test_a_replica_is_like_its_source(
    source: Session, target: Session, new_vm: Any, replicate: Any
) -> None:
    vm = new_vm(
        disks=[(8 * MIB, True, None), (12 * MIB + 512, False, None)] + [(MIB, True, None)] * 7,
        cpus=2,
        memory_mib=512,
        firmware="efi",
        guest_id="windows2019srv_64Guest",
        extra={"disk.EnableUUID": "TRUE", "other": "x"},
        power_on=True,
    )
    there = source.read_vm(vm)
    made = target.read_vm(replicate(vm, extra_config={"vreplica.job": "web"}))
    for name in ("guest_id", "hw_version", "cpus", "cores_per_socket", "memory_mib", "firmware",
                 "secure_boot", "bios_uuid"):  # fmt: skip
        assert getattr(made, name) == getattr(there, name), name
    assert made.instance_uuid != there.instance_uuid
    assert made.power_state == "poweredOff"
    assert [(d.key, d.position, d.capacity_bytes) for d in made.disks] == [
        (d.key, d.position, d.capacity_bytes) for d in there.disks
    ]
    assert all(d.thin and d.datastore == STORE for d in made.disks)
    assert len({d.path for d in made.disks}) == 9
    assert made.extra_config["disk.EnableUUID"] == "TRUE"
    assert made.extra_config["vreplica.job"] == "web"
    assert "other" not in made.extra_config
    (nic,) = made.nics
    assert (nic.type, nic.network) == ("vmxnet3", "VM Network")
    assert (nic.connected, nic.start_connected) == (False, False)
    assert nic.mac != there.nics[0].mac


def test_networks_are_mapped_and_connected_on_demand(
    target: Session, new_vm: Any, replicate: Any
) -> None:
    replica = replicate(new_vm(), networks={"VM Network": "Isolated"})
    (nic,) = target.read_vm(replica).nics
    assert (nic.network, nic.start_connected) == ("Isolated", False)
    (nic,) = target.set_nics(replica, connect=True, networks={"Isolated": "VM Network"})
    assert (nic.network, nic.start_connected, nic.connected) == ("VM Network", True, False)
    (nic,) = target.set_nics(replica, connect=False)
    assert (nic.network, nic.start_connected) == ("VM Network", False)
    with pytest.raises(PlacementNotFound, match="there is: Isolated, VM Network"):
        target.set_nics(replica, connect=True, networks={"VM Network": "DMZ"})


def test_disks_can_be_left_out(target: Session, new_vm: Any, replicate: Any) -> None:
    vm = new_vm(disks=[(MIB, True, None)] * 3)
    made = target.read_vm(replicate(vm, exclude_disks=frozenset({2001})))
    assert [d.key for d in made.disks] == [2000, 2002]


def test_provisioning_can_follow_the_source(target: Session, new_vm: Any, replicate: Any) -> None:
    vm = new_vm(disks=[(MIB, True, None), (MIB, False, None)])
    made = target.read_vm(replicate(vm, thin=None))
    assert [d.thin for d in made.disks] == [True, False]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"datastore": "ds9"}, "no datastore 'ds9' in 127.0.0.2; there is: site-b-ds1, site-b-ds2"),
        ({"host": "esx9"}, "there is: esx1.site-b.lab"),
        ({"resource_pool": "gold"}, "there is: Resources"),
        ({"folder": "DR"}, "no VM folder 'DR'"),
        ({"networks": {"VM Network": "DR"}}, "there is: Isolated, VM Network"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_a_place_that_does_not_exist_is_told_before_anything_is_made(
    target: Session, new_vm: Any, replicate: Any, more: dict[str, Any], says: str
) -> None:
    vm = new_vm()
    before = len(target.recent_tasks())
    with pytest.raises(PlacementNotFound) as caught:
        replicate(vm, **more)
    assert says in str(caught.value)
    assert len(target.recent_tasks()) == before
    with pytest.raises(VmNotFound):
        target.find_vm(f"{vm.name}-r")


def test_places_are_taken_by_name(target: Session, new_vm: Any, replicate: Any) -> None:
    replica = replicate(
        new_vm(),
        datastore="site-b-ds2",
        host="esx1.site-b.lab",
        resource_pool="Resources",
        folder="site-b-dc/vm",
    )
    made = target.read_vm(replica)
    assert (made.host, made.datastores) == ("esx1.site-b.lab", ("site-b-ds2",))
    assert target.find_vm(f"site-b-dc/vm/{replica.name}") == replica


def test_a_name_that_is_taken_is_told(new_vm: Any, replicate: Any) -> None:
    vm = new_vm()
    replicate(vm)
    with pytest.raises(NameTaken, match=f"{vm.name}-r"):
        replicate(vm)


def test_a_replica_is_removed_with_its_files(
    target: Session, new_vm: Any, replicate: Any, control: LabControl
) -> None:
    from pathlib import Path

    replica = replicate(new_vm())
    files = [Path(d["file"]) for d in control.describe_vm("site-b", replica.moref)["disks"]]
    assert all(f.exists() for f in files)
    target.destroy_vm(replica)
    assert not any(f.exists() for f in files)
    target.destroy_vm(replica)
    with pytest.raises(ObjectGone):
        target.read_vm(replica)


def test_options_are_set_and_removed(target: Session, new_vm: Any, replicate: Any) -> None:
    replica = replicate(new_vm())
    target.set_extra_config(replica, {"vreplica.point": "1", "vreplica.other": "2"})
    target.set_extra_config(replica, {"vreplica.point": "3", "vreplica.other": ""})
    options = target.read_vm(replica).extra_config
    assert options["vreplica.point"] == "3"
    assert "vreplica.other" not in options


def test_a_full_datastore_is_named(
    source: Session, target: Session, new_vm: Any, replicate: Any, control: LabControl
) -> None:
    vm = new_vm(disks=[(64 * MIB, False, None)])
    capacity = {d.name: d.capacity_bytes for d in target.datastores()}["site-b-ds2"]
    control.set_datastore("site-b", "site-b-ds2", capacity=8 * MIB)
    try:
        with pytest.raises(DatastoreFull, match="site-b-ds2"):
            replicate(vm, datastore="site-b-ds2", thin=False)
    finally:
        control.set_datastore("site-b", "site-b-ds2", capacity=capacity)
    with pytest.raises(VmNotFound):
        target.find_vm(f"{vm.name}-r")


def test_a_controller_of_another_type_takes_the_place_of_the_old_one_with_its_disks(
    source: Session, target: Session, new_vm: Any, replicate: Any
) -> None:
    vm = new_vm(disks=[(8 * MIB, True, None)] * 2)
    replica = replicate(vm)
    info = source.read_vm(vm)
    other = tuple(
        dataclasses.replace(c, type="lsilogic-sas") if c.key == 1000 else c
        for c in info.controllers
    )
    before = target.read_vm(replica).disks
    made = target.reshape_replica(
        replica, ReshapeSpec(dataclasses.replace(info, controllers=other))
    )
    assert [d.position for d in made.disks] == [("lsilogic-sas", 0, 0), ("lsilogic-sas", 0, 1)]
    assert [(d.key, d.path) for d in made.disks] == [(d.key, d.path) for d in before]
    again = target.reshape_replica(
        replica, ReshapeSpec(dataclasses.replace(info, controllers=other))
    )
    assert again == made, "what is so already is left alone"


def test_virtual_hardware_is_upgraded_and_never_put_back(
    source: Session, target: Session, new_vm: Any, replicate: Any
) -> None:
    vm = new_vm()
    info = source.read_vm(vm)
    replica = target.create_replica(
        ReplicaSpec(
            name=f"{vm.name}-r",
            source=dataclasses.replace(info, hw_version="vmx-17"),
            datastore=STORE,
        )
    )
    target.upgrade_hardware(replica, info)
    assert target.read_vm(replica).hw_version == info.hw_version == "vmx-21"
    target.upgrade_hardware(replica, dataclasses.replace(info, hw_version="vmx-13"))
    assert target.read_vm(replica).hw_version == "vmx-21"
