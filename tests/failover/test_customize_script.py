"""The scripts that give a guest its addresses: run by a real sh, over a folder that plays /."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.failover.guest import scripts
from vreplica.vsphere.model import GuestCustomization, NicRule
from vreplica.vsphere.operations.guest_ops import command

MACS = ("00:50:56:AA:00:01", "00:50:56:aa:00:02")
TWO = GuestCustomization(
    "web01-dr",
    "dr.example",
    (NicRule("10.2.0.5/24", "10.2.0.1", ("10.2.0.2", "10.2.0.3")), NicRule()),
)
TOOLS = ("cat", "basename", "tr")


class Guest:
    """A file system with two cards, and programs that note how they were called."""

    def __init__(self, folder: Path, programs: tuple[str, ...]) -> None:
        self.root, self.bin = folder / "root", folder / "bin"
        self.calls = folder / "calls"
        self.calls.touch()
        for number, mac in enumerate(MACS):
            card = self.root / "sys/class/net" / f"ens{number}"
            card.mkdir(parents=True)
            (card / "address").write_text(f"{mac.lower()}\n")
        for name in ("etc/netplan", "etc/systemd/network"):
            (self.root / name).mkdir(parents=True)
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        for program in programs:
            file = self.bin / program
            file.write_text(f'#!/bin/sh\necho "{program} $*" >> "{self.calls}"\n')
            file.chmod(0o755)

    def run(self, script: bytes) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", script.decode()],
            env={"PATH": str(self.bin), "VREPLICA_ROOT": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def said(self) -> list[str]:
        return self.calls.read_text().splitlines()


def test_networkmanager_gets_a_connection_for_each_card(tmp_path: Path) -> None:
    guest = Guest(tmp_path, ("nmcli", "netplan", "hostnamectl"))
    done = guest.run(scripts.linux(TWO, MACS))
    assert done.returncode == 0, done.stderr
    assert guest.said[0] == "hostnamectl set-hostname web01-dr.dr.example"
    added = [line for line in guest.said if " add " in line]
    both = "nmcli connection add type ethernet ifname {0} con-name vreplica-{0}"
    both += " connection.autoconnect-priority 999 "
    fixed = "ipv4.method manual ipv4.addresses 10.2.0.5/24 ipv4.gateway 10.2.0.1"
    assert added == [
        both.format("ens0") + fixed + " ipv4.dns 10.2.0.2 10.2.0.3",
        both.format("ens1") + "ipv4.method auto",
    ]
    assert not any(line.startswith("netplan") for line in guest.said)


def test_netplan_gets_a_file_that_only_root_can_read(tmp_path: Path) -> None:
    guest = Guest(tmp_path, ("netplan",))
    (guest.bin / "hostname").symlink_to("/bin/true")
    done = guest.run(scripts.linux(TWO, MACS))
    assert done.returncode == 0, done.stderr
    file = guest.root / "etc/netplan/99-vreplica-ens0.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == (
        "network:\n  version: 2\n  ethernets:\n    ens0:\n      dhcp4: false\n"
        '      addresses: ["10.2.0.5/24"]\n'
        '      routes: [{to: default, via: "10.2.0.1"}]\n'
        "      nameservers: {addresses: [10.2.0.2,10.2.0.3]}\n"
    )
    assert (guest.root / "etc/hostname").read_text() == "web01-dr.dr.example\n"


def test_networkd_gets_a_file(tmp_path: Path) -> None:
    guest = Guest(tmp_path, ("systemctl",))
    six = GuestCustomization(nics=(NicRule("fd00::5/64", "fd00::1", ("fd00::2",)),))
    done = guest.run(scripts.linux(six, MACS))
    assert done.returncode == 0, done.stderr
    assert (guest.root / "etc/systemd/network/05-vreplica-ens0.network").read_text() == (
        "[Match]\nName=ens0\n[Network]\nAddress=fd00::5/64\nGateway=fd00::1\nDNS=fd00::2\n"
    )


@pytest.mark.parametrize(
    ("macs", "programs", "code", "said"),
    [
        (("00:50:56:00:00:99",), ("netplan",), 1, "no network card has the address"),
        (MACS, (), 4, "neither NetworkManager, netplan nor systemd-networkd"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, macs: tuple[str, ...], programs: tuple[str, ...], code: int, said: str
) -> None:
    guest = Guest(tmp_path, programs)
    done = guest.run(scripts.linux(GuestCustomization(nics=TWO.nics), macs))
    assert done.returncode == code
    assert said in done.stderr
    assert not list((guest.root / "etc/netplan").iterdir())


def test_a_windows_script_finds_the_card_by_its_address_and_names_the_computer() -> None:
    script = scripts.windows(TWO, MACS).decode()
    assert "$_.MacAddress -eq '00-50-56-AA-00-01'" in script
    assert (
        "New-NetIPAddress -InterfaceIndex $index -IPAddress '10.2.0.5' -PrefixLength 24" in script
    )
    assert "-DefaultGateway '10.2.0.1'" in script
    assert "-ServerAddresses @('10.2.0.2','10.2.0.3')" in script
    assert "AddressFamily IPv4 -Dhcp Enabled" in script
    assert "Rename-Computer -NewName 'web01-dr' -Force" in script


INJECTED = [
    GuestCustomization("web01;reboot"),
    GuestCustomization("$(reboot)"),
    GuestCustomization("web01\nreboot"),
    GuestCustomization("web01'; Stop-Computer; '"),
    GuestCustomization("web01", "x.y;id"),
    GuestCustomization("web01", "x y"),
    GuestCustomization("web01", "x..y"),
    GuestCustomization("web01", nics=(NicRule("10.2.0.5/24", "fe80::1%$(reboot)"),)),
    GuestCustomization("web01", nics=(NicRule("fe80::5%`reboot`/64"),)),
    GuestCustomization("web01", nics=(NicRule("10.2.0.5/24; reboot"),)),
    GuestCustomization("web01", nics=(NicRule(None, None, ("10.2.0.2", '";reboot;"')),)),
]


@pytest.mark.parametrize("identity", INJECTED, ids=str)
@pytest.mark.parametrize("write", [scripts.linux, scripts.windows])
def test_a_value_that_is_more_than_its_kind_is_refused(
    write: Callable[..., bytes], identity: GuestCustomization
) -> None:
    with pytest.raises(scripts.ValueUnusable):
        write(identity, MACS)


@pytest.mark.parametrize("mac", ["", "00:50:56:aa:00:01; reboot", "$(reboot)", "'+(calc)+'"])
@pytest.mark.parametrize("write", [scripts.linux, scripts.windows])
def test_a_mac_address_that_vcenter_made_up_is_refused(
    write: Callable[..., bytes], mac: str
) -> None:
    with pytest.raises(scripts.ValueUnusable):
        write(TWO, (mac, mac))


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("folder", ["/tmp/$(reboot)", "C:\\x & reboot", '/tmp/"', "", "/tmp/a\nb"])
def test_a_folder_that_the_guest_made_up_starts_no_command(folder: str, windows: bool) -> None:
    with pytest.raises(ValueError, match="cannot have made"):
        command(folder, windows, b"#!/bin/sh", ".sh")


def test_a_script_is_started_by_its_quoted_path() -> None:
    path, out, program, arguments = command("/tmp/jo doe/x", False, b"id", ".sh")
    assert (path, out, program) == (
        "/tmp/jo doe/x/script.sh",
        "/tmp/jo doe/x/output.txt",
        "/bin/sh",
    )
    assert arguments == "'/tmp/jo doe/x/script.sh' > '/tmp/jo doe/x/output.txt' 2>&1"
    with pytest.raises(ValueError, match="cannot end in"):
        command("/tmp/x", False, b"id", ".sh;reboot")
