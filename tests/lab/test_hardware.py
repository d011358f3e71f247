"""Devices beside disks and cards, NVRAM, encryption, and what a host supports."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pyVim.task import WaitForTask
from pyVmomi import SoapStubAdapter, vim, vmodl

from tests.support.lab import unchecked
from vreplica.lab import Lab, LabControl

MIB = 1 << 20
kinds = vim.vm.device


@pytest.fixture
def site_b(lab: Lab, connect: Any) -> Any:
    return connect(lab.specs[1])


def create(si: Any, name: str, **more: Any) -> Any:
    dc = si.content.rootFolder.childEntity[0]
    files = vim.vm.FileInfo(vmPathName=f"[{dc.datastore[0].name}]")
    spec = vim.vm.ConfigSpec(name=name, files=files, **{"guestId": "otherGuest64", **more})
    task = dc.vmFolder.CreateVM_Task(spec, dc.hostFolder.childEntity[0].resourcePool)
    WaitForTask(task)
    return task.info.result


def add(device: Any) -> Any:
    return vim.vm.ConfigSpec(deviceChange=[kinds.VirtualDeviceSpec(operation="add", device=device)])


def get(si: Any, lab: Lab, path: str, method: str = "GET", body: bytes | None = None) -> int:
    spec = lab.specs[0]
    connection = http.client.HTTPSConnection(spec.host, spec.port, context=unchecked())
    cookie = {"Cookie": si._stub.cookie.split(";")[0]}
    where = f"/folder/{quote(path)}?dcPath=site-a-dc&dsName=site-a-ds1"
    connection.request(method, where, body=body, headers=cookie)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_a_vm_has_devices_with_their_keys_and_labels(si: Any, control: LabControl) -> None:
    made = control.create_vm(
        "site-a",
        "rich",
        disks=[(MIB, True, None)],
        firmware="efi",
        devices=["tpm", "pci", "usb", "cdrom", "serial"],
    )
    vm = vim.VirtualMachine(made["moref"], si._stub)
    found = {d.deviceInfo.label: d for d in vm.config.hardware.device}
    assert {n: found[n].key for n in ("Virtual TPM", "PCI device 0", "Serial port 1")} == {
        "Virtual TPM": 11000,
        "PCI device 0": 13000,
        "Serial port 1": 9000,
    }
    assert found["CD/DVD drive 1"].key == 3000
    assert isinstance(found["USB 1"], kinds.VirtualUSB)
    # A virtual TPM encrypts the home of its VM.
    assert vm.config.keyId is not None
    assert vm.runtime.cryptoState == "unlocked"
    control.set_vm("site-a", "rich", locked=True)
    with pytest.raises(vim.fault.EncryptionKeyRequired):
        WaitForTask(vm.PowerOnVM_Task())


def test_what_a_host_lacks_is_refused(site_b: Any) -> None:
    vm = create(site_b, "poor", firmware="bios")
    pci = kinds.VirtualPCIPassthrough(
        key=-1,
        backing=kinds.VirtualPCIPassthrough.DeviceBackingInfo(
            id="0000:3b:00.0", deviceId="1", systemId="s", vendorId=1, deviceName="GPU"
        ),
    )
    usb = kinds.VirtualUSB(
        key=-1, connected=True, backing=kinds.VirtualUSB.USBBackingInfo(deviceName="path:1")
    )
    for device in (pci, usb):
        with pytest.raises(vim.fault.InvalidDeviceBacking):
            WaitForTask(vm.ReconfigVM_Task(add(device)))
    with pytest.raises(vim.fault.InvalidDeviceSpec):
        WaitForTask(vm.ReconfigVM_Task(add(kinds.VirtualTPM(key=-1))))  # BIOS
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(firmware="efi")))
    with pytest.raises(vim.fault.EncryptionKeyRequired):
        WaitForTask(vm.ReconfigVM_Task(add(kinds.VirtualTPM(key=-1))))  # no key provider
    assert vm.config.keyId is None


def test_encryption_needs_a_provider_and_a_privilege(
    lab: Lab, si: Any, control: LabControl, connect: Any
) -> None:
    control.settings("site-a", key_provider="kms", encryption_policy="policy-1")
    profile = vim.vm.DefinedProfileSpec(profileId="policy-1")
    other = vim.vm.DefinedProfileSpec(profileId="policy-2")
    assert create(si, "plain", vmProfile=[other]).config.keyId is None
    vm = create(si, "secret", vmProfile=[profile])
    assert vm.config.keyId.providerId.id == "kms"
    wrong = vim.encryption.CryptoKeyId(
        keyId="k", providerId=vim.encryption.KeyProviderId(id="other")
    )
    crypt = vim.encryption
    with pytest.raises(vim.fault.EncryptionKeyRequired):
        create(si, "foreign", crypto=crypt.CryptoSpecEncrypt(cryptoKeyId=wrong))
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(crypto=crypt.CryptoSpecDecrypt())))
    assert vm.config.keyId is None
    WaitForTask(vm.PowerOnVM_Task())
    key = crypt.CryptoKeyId(keyId="")
    spec = vim.vm.ConfigSpec(crypto=crypt.CryptoSpecEncrypt(cryptoKeyId=key))
    with pytest.raises(vim.fault.InvalidPowerState):
        WaitForTask(vm.ReconfigVM_Task(spec))

    # Hosts decrypt for a client that may read directly.
    made = control.create_vm("site-a", "read", disks=[(MIB, True, None)], encrypted=True)
    reading = ["VirtualMachine.Provisioning.DiskRandomRead"]
    for user, privileges in (("without", reading), ("with", [*reading, "Cryptographer.Access"])):
        control.set_user("site-a", user, "pw", privileges)
        client = connect(lab.specs[0], user, "pw")
        assert client.content.about.version == "8.0.3"
        service = vim.NfcService("nfcService", client._stub)
        target = vim.VirtualMachine(made["moref"], client._stub)
        if user == "without":
            with pytest.raises(vim.fault.NoPermission) as raised:
                service.GetVmFiles(target)
            assert raised.value.privilegeId == "Cryptographer.Access"
        else:
            assert service.GetVmFiles(target).port
    control.settings("site-a", key_provider="", encryption_policy="")


def test_nvram_is_a_file_that_a_running_vm_locks(lab: Lab, si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "booted", disks=[], firmware="efi")
    vm = vim.VirtualMachine(made["moref"], si._stub)
    assert {o.key: o.value for o in vm.config.extraConfig}["nvram"] == "booted.nvram"
    assert "nvram" not in {f.type for f in vm.layoutEx.file}
    WaitForTask(vm.PowerOnVM_Task())
    (file,) = [f for f in vm.layoutEx.file if f.type == "nvram"]
    assert file.name == "[site-a-ds1] booted/booted.nvram"
    path = "booted/booted.nvram"
    assert get(si, lab, path) == 403
    assert get(si, lab, path, "PUT", b"x") == 403
    control.settings("site-a", nvram_locked=False)
    assert get(si, lab, path) == 200
    control.settings("site-a", nvram_locked=True)
    WaitForTask(vm.PowerOffVM_Task())
    assert get(si, lab, path) == 200
    before = Path(made["nvram"]).read_bytes()
    assert get(si, lab, path, "PUT", before) == 200
    WaitForTask(vm.PowerOnVM_Task())
    after = Path(made["nvram"]).read_bytes()
    assert (len(after), after[16:]) == (len(before), before[16:])
    assert after[:16] != before[:16]  # the boot is counted
    WaitForTask(vm.PowerOffVM_Task())
    task = vm.CloneVM_Task(
        vm.parent,
        "booted clone",
        vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False),
    )
    WaitForTask(task)
    copied = Path(control.describe_vm("site-a", "booted clone")["nvram"])
    assert copied.name == "booted clone.nvram"
    assert copied.read_bytes() == after
    WaitForTask(task.info.result.Destroy_Task())
    assert not copied.exists()


def test_a_host_has_hardware_versions_and_guests(site_b: Any, control: LabControl) -> None:
    control.set_host("site-b", newest_hardware="vmx-19", missing_guests=["fusionos_64Guest"])
    cluster = site_b.content.rootFolder.childEntity[0].hostFolder.childEntity[0]
    browser = cluster.environmentBrowser
    found = browser.QueryConfigOptionDescriptor()
    assert found[-1].key == "vmx-19"
    assert [d.key for d in found if d.defaultConfigOption] == ["vmx-19"]
    assert found[0].host == list(cluster.host)
    query = vim.EnvironmentBrowser.ConfigOptionQuerySpec
    option = browser.QueryConfigOptionEx(query(guestId=["rhel9_64Guest", "fusionos_64Guest"]))
    assert [g.id for g in option.guestOSDescriptor] == ["rhel9_64Guest"]
    assert browser.QueryConfigOption("vmx-21", None) is None
    with pytest.raises(vim.fault.VirtualHardwareVersionNotSupported):
        create(site_b, "too new", version="vmx-21")
    for guest in ("fusionos_64Guest", "noSuchGuest"):
        with pytest.raises(vmodl.fault.InvalidArgument) as raised:
            create(site_b, "unknown guest", guestId=guest)
        assert raised.value.invalidProperty == "configSpec.guestId"
    assert create(site_b, "old enough", version="vmx-19").config.version == "vmx-19"
    control.set_host("site-b", newest_hardware="vmx-21", missing_guests=[])


def test_fields_of_newer_versions_are_shown_to_clients_of_them(
    lab: Lab, control: LabControl
) -> None:
    made = control.create_vm("site-a", "4kn", disks=[(MIB, True, None)], sector_bytes=4096)
    control.set_device("site-a", "4kn", 2000, guestReadOnly=True)
    control.set_vm("site-a", "4kn", config={"sevEnabled": True, "tdxEnabled": True})
    spec, shown = lab.specs[0], {}
    for version in ("vim.version.v8_0_3_0", "vim.version.v9_0_0_0"):
        stub = SoapStubAdapter(
            host=spec.host, port=spec.port, version=version, sslContext=unchecked()
        )
        vim.ServiceInstance("ServiceInstance", stub).content.sessionManager.Login(
            spec.user, spec.password
        )
        config = vim.VirtualMachine(made["moref"], stub).config
        (disk,) = [d for d in config.hardware.device if isinstance(d, kinds.VirtualDisk)]
        shown[version[-7:]] = (disk.virtualDiskFormat, config.tdxEnabled)
        assert (disk.guestReadOnly, config.sevEnabled) == (True, True)
        stub.DropConnections()
    assert shown == {"8_0_3_0": (None, None), "9_0_0_0": ("native_4k", True)}
    assert 'logicalSectorSize = "4096"' in Path(made["disks"][0]["file"]).read_text()


def test_a_site_may_be_of_a_newer_version(lab: Lab, control: LabControl, si: Any) -> None:
    spec = lab.specs[0]
    for version in ("9.0.0.0", "8.0.3.0"):
        control.settings("site-a", api_version=version)
        connection = http.client.HTTPSConnection(spec.host, spec.port, context=unchecked())
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        text = connection.getresponse().read().decode()
        connection.close()
        assert f"<name>urn:vim25</name><version>{version}</version>" in text
        assert si.RetrieveServiceContent().about.apiVersion == version


@pytest.mark.parametrize(
    ("language", "labels"),
    [("de", ["Festplatte 1", "Festplatte 2"]), ("ja", ["ハード ディスク 1", "ハード ディスク 2"])],
)
def test_labels_may_be_in_another_language(
    control: LabControl, language: str, labels: list[str]
) -> None:
    control.settings("site-a", language=language)
    disks: list[Any] = [(MIB, True, None)] * 2
    made = control.create_vm("site-a", f"in {language}", disks=disks)
    assert [d["label"] for d in made["disks"]] == labels
    control.settings("site-a", language="en")


def test_linux_of_a_vendor_is_linux(control: LabControl, si: Any) -> None:
    made = control.create_vm(
        "site-a", "fusion", disks=[], guest_id="fusionos_64Guest", power_on=True
    )
    vm = vim.VirtualMachine(made["moref"], si._stub)
    assert vm.guest.guestFamily == "linuxGuest"
