"""Everything that a replica does not get is listed, devices of unknown classes too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from tests.support.vms import make_disk, make_vm
from vreplica.vsphere.inventory.devices import disks_of
from vreplica.vsphere.inventory.not_carried import not_carried
from vreplica.vsphere.model import ReplicaSpec
from vreplica.vsphere.operations.create_replica import config_spec, differences

device = vim.vm.device


def labelled(made: Any, label: str) -> Any:
    made.deviceInfo = vim.Description(label=label, summary="")
    return made


USUAL = [
    device.VirtualIDEController(key=200, busNumber=0),
    device.VirtualPS2Controller(key=300),
    device.VirtualPCIController(key=100),
    device.VirtualSIOController(key=400),
    device.VirtualKeyboard(key=600),
    device.VirtualPointingDevice(key=700),
    device.VirtualVideoCard(key=500),
    device.VirtualVMCIDevice(key=12000),
    device.ParaVirtualSCSIController(key=1000, busNumber=0),
    device.VirtualNVMEController(key=31000, busNumber=0),
    device.VirtualDisk(key=2000),
    device.VirtualVmxnet3(key=4000),
    device.VirtualSriovEthernetCard(key=4001),
]


def config(*devices: Any, **more: Any) -> Any:
    values = {"firmware": "bios", "hardware": SimpleNamespace(device=[*USUAL, *devices])}
    return SimpleNamespace(**{**values, **more})


def test_a_plain_vm_misses_nothing() -> None:
    assert not_carried(config()) == ()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("VirtualTPM", "virtual TPM"),
        ("VirtualPCIPassthrough", "PCI device"),
        ("VirtualUSBController", "USB controller"),
        ("VirtualUSBXHCIController", "USB controller"),
        ("VirtualUSB", "USB device"),
        ("VirtualCdrom", "CD-ROM drive"),
        ("VirtualFloppy", "floppy drive"),
        ("VirtualSerialPort", "serial port"),
        ("VirtualParallelPort", "parallel port"),
        ("VirtualHdAudioCard", "sound card"),
        ("VirtualNVDIMM", "NVDIMM"),
        ("VirtualSCSIPassthrough", "VirtualSCSIPassthrough"),
        ("VirtualVMIROM", "VirtualVMIROM"),
    ],
)
def test_a_device_is_listed_with_what_its_absence_means(kind: str, what: str) -> None:
    (found,) = not_carried(config(getattr(device, kind)(key=9000)))
    assert found.what == what
    assert found.means
    (named,) = not_carried(config(labelled(getattr(device, kind)(key=9000), "Thing 1")))
    assert "Thing 1" in named.what


def test_firmware_memory_and_reservations_are_listed() -> None:
    reserved = SimpleNamespace(reservation=1024)
    free = SimpleNamespace(reservation=0)
    found = not_carried(
        config(firmware="efi", sevEnabled=True, tdxEnabled=False, memoryAllocation=reserved,
               cpuAllocation=free)
    )  # fmt: skip
    assert [f.what for f in found] == ["NVRAM", "AMD SEV", "memory reservation"]


def test_what_newer_servers_say_of_a_disk_is_read() -> None:
    backing = device.VirtualDisk.FlatVer2BackingInfo(fileName="[ds] a.vmdk", diskMode="persistent")
    backing.keyId = vim.encryption.CryptoKeyId(keyId="k")
    made = device.VirtualDisk(
        key=2000, capacityInBytes=1 << 20, capacityInKB=1 << 10, controllerKey=1000, unitNumber=0,
        backing=backing, virtualDiskFormat="native_4k", guestReadOnly=True,
        diskChainBrokenIssue="parentMissing",
    )  # fmt: skip
    (disk,) = disks_of([device.ParaVirtualSCSIController(key=1000, busNumber=0), made])
    assert (disk.is_4kn, disk.encrypted, disk.guest_read_only) == (True, True, True)
    assert disk.chain_issue == "parentMissing"
    for form in ("", "native_512", "emulated_512", "512e_4k"):
        assert not make_disk(sector_format=form).is_4kn


def replica(**more: Any) -> tuple[ReplicaSpec, Any]:
    source = make_vm(has_vtpm=True, encrypted=True, disks=(make_disk(guest_read_only=True),))
    spec = ReplicaSpec("r", source, "ds", **more)
    place: Any = SimpleNamespace(backings={})
    return spec, config_spec(spec, place, "ds")


def test_a_new_tpm_and_a_policy_are_given_only_where_asked_for() -> None:
    _, plain = replica()
    kinds = [type(c.device) for c in plain.deviceChange]
    assert device.VirtualTPM not in kinds
    assert not plain.vmProfile
    _, asked = replica(new_vtpm=True, storage_policy="p-1")
    (tpm,) = [c.device for c in asked.deviceChange if isinstance(c.device, device.VirtualTPM)]
    assert tpm.key < 0
    assert [p.profileId for p in asked.vmProfile] == ["p-1"]
    (disk,) = [c for c in asked.deviceChange if isinstance(c.device, device.VirtualDisk)]
    assert [p.profileId for p in disk.profile] == ["p-1"]
    assert disk.device.guestReadOnly


def test_a_policy_that_does_not_encrypt_is_an_error_before_the_copy() -> None:
    spec, _ = replica(storage_policy="p-1", must_encrypt=True)
    made = make_vm(disks=(make_disk(),))
    assert "is not encrypted by policy p-1" in differences(spec, made)
    assert not differences(spec, make_vm(encrypted=True, disks=(make_disk(encrypted=True),)))
    spec, _ = replica(new_vtpm=True)
    assert "no virtual TPM" in differences(spec, made)
