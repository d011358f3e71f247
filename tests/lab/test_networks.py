"""Cards, addresses, customization: what the guests of two VMs have on one network."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

custom: Any = vim.vm.customization
device: Any = vim.vm.device


def make(si: Any, control: LabControl, name: str, **options: Any) -> Any:
    options.setdefault("guest_id", "ubuntu64Guest")
    made = control.create_vm("site-a", name, [(MIB, True, None)], **options)
    return vim.VirtualMachine(made["moref"], si._stub)


def card_of(vm: Any) -> Any:
    return next(d for d in vm.config.hardware.device if isinstance(d, device.VirtualEthernetCard))


def edit(vm: Any, card: Any) -> None:
    change = device.VirtualDeviceSpec(operation="edit", device=card)
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))


def linux(ip: str | None = "192.0.2.10", name: str = "moved", cards: int = 1) -> Any:
    address = custom.FixedIp(ipAddress=ip) if ip else custom.DhcpIpGenerator()
    adapter = custom.IPSettings(ip=address, subnetMask="255.255.255.0", gateway=["192.0.2.1"])
    if not ip:
        adapter = custom.IPSettings(ip=address)
    return custom.Specification(
        identity=custom.LinuxPrep(hostName=custom.FixedName(name=name), domain="lab.test"),
        globalIPSettings=custom.GlobalIPSettings(dnsServerList=["192.0.2.53"]),
        nicSettingMap=[custom.AdapterMapping(adapter=adapter)] * cards,
    )


def settled(vm: Any) -> Any:
    while True:
        found = vm.guest.customizationInfo
        if found.customizationStatus in ("TOOLSDEPLOYPKG_SUCCEEDED", "TOOLSDEPLOYPKG_FAILED"):
            return found
        time.sleep(0.01)


def events(si: Any, vm: Any, *kinds: Any) -> list[Any]:
    wanted = vim.event.EventFilterSpec(
        entity=vim.event.EventFilterSpec.ByEntity(entity=vm, recursion="self"), type=list(kinds)
    )
    return list(si.content.eventManager.QueryEvents(wanted))


# -- cards ----------------------------------------------------------------------------------


def test_a_running_vm_changes_network_and_connection_but_not_its_mac(
    si: Any, control: LabControl
) -> None:
    vm = make(si, control, "cards", power_on=True)
    control.set_guest("site-a", "cards", ip="192.0.2.7")
    (nic,) = vm.guest.net
    card = card_of(vm)
    assert (nic.network, nic.connected, list(nic.ipAddress)) == ("VM Network", True, ["192.0.2.7"])
    assert (nic.macAddress, nic.deviceConfigId) == (card.macAddress, card.key)
    card.backing = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="Isolated")
    edit(vm, card)
    assert vm.guest.net[0].network == "Isolated"
    assert [n.name for n in vm.network] == ["Isolated"]
    card = card_of(vm)
    card.connectable.connected = False
    edit(vm, card)
    assert (vm.guest.net[0].connected, list(vm.guest.net[0].ipAddress)) == (False, [])
    assert vm.guest.ipAddress is None
    card.macAddress, card.addressType = "00:50:56:01:02:03", "manual"
    with pytest.raises(vim.fault.InvalidPowerState):
        edit(vm, card)
    WaitForTask(vm.PowerOffVM_Task())
    card.connectable.connected = True
    edit(vm, card)
    found = card_of(vm)
    assert (found.macAddress, found.addressType) == ("00:50:56:01:02:03", "manual")
    # Nothing is connected while the VM is off.
    assert not found.connectable.connected
    found.addressType = "generated"
    edit(vm, found)
    assert card_of(vm).macAddress.startswith("00:0c:29:")
    found.macAddress, found.addressType = "01:00:00:00:00:00", "manual"
    with pytest.raises(vim.fault.InvalidDeviceSpec):
        edit(vm, found)


def test_a_host_says_which_network_has_no_uplink(lab: Lab, si: Any) -> None:
    host = lab.sites["site-a"].cluster.host[0]
    config = vim.HostSystem(host._moId, si._stub).config
    wired = {s.name: bool(s.pnic) for s in config.network.vswitch}
    by_name = {g.spec.name: wired[g.spec.vswitchName] for g in config.network.portgroup}
    assert by_name == {"VM Network": True, "Isolated": False}
    assert bytes(b & 0xFF for b in config.certificate).startswith(b"-----BEGIN CERTIFICATE")


def test_dhcp_answers_where_there_is_an_uplink(si: Any, control: LabControl) -> None:
    for network, begins in (("VM Network", "10."), ("Isolated", "169.254.")):
        vm = make(si, control, f"dhcp {network}", network=network, power_on=True)
        key = str(card_of(vm).key)
        control.set_guest("site-a", f"dhcp {network}", addresses={key: ["dhcp"]})
        assert vm.guest.ipAddress.startswith(begins)


def test_two_running_vms_with_one_address_on_one_network_are_noticed(
    si: Any, control: LabControl
) -> None:
    first = make(si, control, "first", power_on=True)
    second = make(si, control, "second")
    mac = card_of(first).macAddress
    for name in ("first", "second"):
        control.set_guest("site-a", name, ip="192.0.2.99")
    card = card_of(second)
    card.macAddress, card.addressType = mac, "manual"
    card.backing = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="Isolated")
    edit(second, card)
    WaitForTask(second.PowerOnVM_Task())
    assert control.conflicts("site-a") == []
    assert events(si, second, vim.event.VmMacConflictEvent) == []
    card = card_of(second)
    card.backing = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    edit(second, card)
    names = ["second", "first"]
    assert control.conflicts("site-a") == [
        {"network": "VM Network", "kind": "mac", "value": mac, "vms": names},
        {"network": "VM Network", "kind": "ip", "value": "192.0.2.99", "vms": names},
    ]
    (event,) = events(si, second, vim.event.VmMacConflictEvent)
    assert (event.mac, event.conflictedVm.name) == (mac, "first")


# -- customization --------------------------------------------------------------------------


def test_a_customization_is_pending_until_the_vm_boots(si: Any, control: LabControl) -> None:
    vm = make(si, control, "source")
    WaitForTask(vm.CustomizeVM_Task(linux()))
    assert vm.guest.customizationInfo.customizationStatus == "TOOLSDEPLOYPKG_PENDING"
    with pytest.raises(vim.fault.CustomizationPending):
        WaitForTask(vm.CustomizeVM_Task(linux()))
    WaitForTask(vm.PowerOnVM_Task())
    assert settled(vm).customizationStatus == "TOOLSDEPLOYPKG_SUCCEEDED"
    guest = vm.guest
    assert (guest.hostName, guest.ipAddress) == ("moved", "192.0.2.10")
    (found,) = guest.net[0].ipConfig.ipAddress
    assert (found.ipAddress, found.prefixLength) == ("192.0.2.10", 24)
    (stack,) = guest.ipStack
    assert list(stack.dnsConfig.ipAddress) == ["192.0.2.53"]
    assert stack.ipRouteConfig.ipRoute[0].gateway.ipAddress == "192.0.2.1"
    kinds = (vim.event.CustomizationStartedEvent, vim.event.CustomizationSucceeded)
    assert [type(e) for e in events(si, vm, *kinds)] == list(kinds)
    with pytest.raises(vim.fault.CustomizationFault):
        WaitForTask(vm.CustomizeVM_Task(linux()))


def test_a_guest_that_fails_to_take_it_over_says_so(si: Any, control: LabControl) -> None:
    vm = make(si, control, "failing")
    control.set_guest("site-a", "failing", customize="networkFails", ip="192.0.2.20")
    WaitForTask(vm.CustomizeVM_Task(linux()))
    WaitForTask(vm.PowerOnVM_Task())
    assert settled(vm).errorMsg
    assert vm.guest.ipAddress == "192.0.2.20"
    (event,) = events(si, vm, vim.event.CustomizationFailed)
    assert isinstance(event, vim.event.CustomizationNetworkSetupFailed)


@pytest.mark.parametrize(
    ("guest_id", "spec", "refused"),
    [
        ("otherGuest64", linux(), vim.fault.UncustomizableGuest),
        ("windows2019srv_64Guest", linux(), vim.fault.UncustomizableGuest),
        ("ubuntu64Guest", linux(cards=2), vim.fault.NicSettingMismatch),
        ("ubuntu64Guest", linux(cards=0), vim.fault.NicSettingMismatch),
        ("ubuntu64Guest", linux(ip="192.0.2.300"), vmodl.fault.InvalidArgument),
        ("ubuntu64Guest", linux(name="not a name"), vmodl.fault.InvalidArgument),
    ],
)
def test_what_a_guest_cannot_take_is_refused(
    si: Any, control: LabControl, guest_id: str, spec: Any, refused: Any
) -> None:
    count = len(control.do("list_vms", site="site-a"))
    vm = make(si, control, f"refused-{count}", guest_id=guest_id)
    with pytest.raises(refused):
        WaitForTask(vm.CustomizeVM_Task(spec))
    with pytest.raises(refused):
        vm.CheckCustomizationSpec(spec)


def test_a_clone_is_customized_by_a_specification_with_a_name(si: Any, control: LabControl) -> None:
    vm, manager = make(si, control, "template"), si.content.customizationSpecManager
    info = vim.CustomizationSpecInfo(name="branch", description="", type="Linux")
    manager.CreateCustomizationSpec(
        vim.CustomizationSpecItem(info=info, spec=linux(ip=None, name="branch"))
    )
    assert [i.name for i in manager.info] == ["branch"]
    item = manager.GetCustomizationSpec("branch")
    spec = vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(), customization=item.spec, powerOn=True, template=False
    )
    clone = vm.CloneVM_Task(vm.parent, "branch01", spec)
    WaitForTask(clone)
    made = clone.info.result
    settled(made)
    assert made.guest.hostName == "branch"
    assert made.guest.ipAddress.startswith("10.")
    assert card_of(made).macAddress != card_of(vm).macAddress
    manager.DeleteCustomizationSpec("branch")
    assert not manager.DoesCustomizationSpecExist("branch")
