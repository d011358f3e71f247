"""Writes the script that sets a guest's addresses and host name: sh or PowerShell.

A card is found by its MAC address, since its name in the guest may have changed. On Linux the
first of NetworkManager, netplan and systemd-networkd that exists is used. It gets a file or
connection of its own, which goes before those of the source. Running a script again changes
nothing.

A program runs what is written here with the rights of the guest's administrator, so no value is
taken on trust, wherever it was checked before: each must have its form, else ValueUnusable is
raised, and each is quoted for its shell.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vreplica.failover.machine.errors import FailoverError
from vreplica.vsphere.model import GuestCustomization, NicRule

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(rf"{_NAME.pattern}(?:\.{_NAME.pattern})*")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")


@dataclass(eq=False)
class ValueUnusable(FailoverError):
    template = "{value!r} cannot be the {kind} in a script for the guest"
    remedy = (
        "No script was run. Values come from `guest` of the job file; MAC addresses from the VM's "
        "network cards in vCenter."
    )
    kind: str
    value: str


_LINUX = """\
#!/bin/sh
# Written by vreplica: addresses and host name after a failover.
set -eu
root="${VREPLICA_ROOT:-}"

device() {
    for each in "$root"/sys/class/net/*; do
        [ "$(cat "$each/address")" = "$1" ] && { basename "$each"; return 0; }
    done
    echo "no network card has the address $1" >&2
    return 1
}

# card DEVICE ADDRESS GATEWAY "DNS ..." FAMILY; ADDRESS is dhcp or a.b.c.d/n
card() {
    if command -v nmcli >/dev/null && nmcli -t general status >/dev/null 2>&1; then
        nmcli connection delete "vreplica-$1" >/dev/null 2>&1 || true
        if [ "$2" = dhcp ]; then
            nmcli connection add type ethernet ifname "$1" con-name "vreplica-$1" \\
                connection.autoconnect-priority 999 ipv4.method auto
        else
            nmcli connection add type ethernet ifname "$1" con-name "vreplica-$1" \\
                connection.autoconnect-priority 999 \\
                "$5.method" manual "$5.addresses" "$2" "$5.gateway" "$3" "$5.dns" "$4"
        fi
        nmcli connection up "vreplica-$1"
    elif command -v netplan >/dev/null; then
        file="$root/etc/netplan/99-vreplica-$1.yaml"
        # netplan warns of files that others can read.
        ( umask 077 && : > "$file" )
        {
        printf 'network:\\n  version: 2\\n  ethernets:\\n    %s:\\n' "$1"
        if [ "$2" = dhcp ]; then
            printf '      dhcp4: true\\n'
        else
            printf '      dhcp4: false\\n      addresses: ["%s"]\\n' "$2"
            [ -z "$3" ] || printf '      routes: [{to: default, via: "%s"}]\\n' "$3"
        fi
        [ -z "$4" ] || printf '      nameservers: {addresses: [%s]}\\n' "$(echo "$4" | tr ' ' ',')"
        } > "$file"
        netplan apply
    elif systemctl is-active --quiet systemd-networkd; then
        file="$root/etc/systemd/network/05-vreplica-$1.network"
        {
        printf '[Match]\\nName=%s\\n[Network]\\n' "$1"
        if [ "$2" = dhcp ]; then printf 'DHCP=yes\\n'; else printf 'Address=%s\\n' "$2"; fi
        [ -z "$3" ] || printf 'Gateway=%s\\n' "$3"
        for server in $4; do printf 'DNS=%s\\n' "$server"; done
        } > "$file"
        systemctl restart systemd-networkd
    else
        echo "neither NetworkManager, netplan nor systemd-networkd is there" >&2
        exit 4
    fi
}
"""

_LINUX_NAME = """
name() {
    if command -v hostnamectl >/dev/null; then
        hostnamectl set-hostname "$1"
    else
        echo "$1" > "$root/etc/hostname"
        hostname "$1"
    fi
}
"""


def linux(identity: GuestCustomization, macs: Sequence[str]) -> bytes:
    """The script for Linux. `macs`: of the VM's cards, in order. A card without a rule stays.

    Raises ValueUnusable.
    """
    _check(identity, macs)
    lines = [_LINUX]
    if identity.hostname:
        lines.append(_LINUX_NAME)
        full = f"{identity.hostname}.{identity.domain}" if identity.domain else identity.hostname
        lines.append(f"name {shlex.quote(full)}")
    for rule, mac in zip(identity.nics, macs, strict=False):
        address, family = rule.ip or "dhcp", _family(rule)
        gateway, servers = rule.gateway or "", " ".join(rule.dns)
        # In a line of its own: sh ignores a failure inside another command.
        lines.append(f"found=$(device {shlex.quote(mac.lower())})")
        values = " ".join(shlex.quote(value) for value in (address, gateway, servers, family))
        lines.append(f'card "$found" {values}')
    return "\n".join([*lines, ""]).encode()


def windows(identity: GuestCustomization, macs: Sequence[str]) -> bytes:
    """The script for Windows. `macs`: as for `linux`. A new computer name needs a restart.

    Raises ValueUnusable.
    """
    _check(identity, macs)
    lines = ["# Written by vreplica: addresses and host name after a failover."]
    lines.append("$ErrorActionPreference = 'Stop'")
    for rule, mac in zip(identity.nics, macs, strict=False):
        lines += _windows_card(rule, mac)
    if identity.hostname:
        lines += [
            f"if ($env:COMPUTERNAME -ne {_literal(identity.hostname)}) {{",
            f"    Rename-Computer -NewName {_literal(identity.hostname)} -Force",
            "}",
        ]
    return "\r\n".join([*lines, ""]).encode()


def _windows_card(rule: NicRule, mac: str) -> list[str]:
    shown = mac.upper().replace(":", "-")
    family = "IPv6" if _family(rule) == "ipv6" else "IPv4"
    everywhere = "::/0" if family == "IPv6" else "0.0.0.0/0"
    here, quiet = "-InterfaceIndex $index", "-Confirm:$false -ErrorAction SilentlyContinue"
    dhcp = "Enabled" if rule.ip is None else "Disabled"
    lines = [
        f"$card = Get-NetAdapter | Where-Object {{ $_.MacAddress -eq {_literal(shown)} }}",
        f"if (-not $card) {{ throw {_literal(f'no network card has the address {shown}')} }}",
        "$index = $card.ifIndex",
        f"Remove-NetIPAddress {here} -AddressFamily {family} {quiet}",
        f"Remove-NetRoute {here} -DestinationPrefix {everywhere} {quiet}",
        f"Set-NetIPInterface {here} -AddressFamily {family} -Dhcp {dhcp}",
    ]
    if rule.ip is not None:
        found = ipaddress.ip_interface(rule.ip)
        address = f"-IPAddress {_literal(str(found.ip))} -PrefixLength {found.network.prefixlen}"
        gateway = f" -DefaultGateway {_literal(rule.gateway)}" if rule.gateway else ""
        lines.append(f"New-NetIPAddress {here} {address}{gateway} | Out-Null")
    if rule.dns:
        servers = ",".join(_literal(server) for server in rule.dns)
        lines.append(f"Set-DnsClientServerAddress {here} -ServerAddresses @({servers})")
    return lines


def _literal(value: str) -> str:
    """A string of PowerShell in which nothing is replaced."""
    return "'" + value.replace("'", "''") + "'"


def _check(identity: GuestCustomization, macs: Sequence[str]) -> None:
    """Raises ValueUnusable for a value that has not the form of its kind."""
    if identity.hostname and not _NAME.fullmatch(identity.hostname):
        raise ValueUnusable("host name", identity.hostname)
    if identity.domain and not _DOMAIN.fullmatch(identity.domain):
        raise ValueUnusable("domain", identity.domain)
    for rule, mac in zip(identity.nics, macs, strict=False):
        if not _MAC.fullmatch(mac):
            raise ValueUnusable("MAC address", mac)
        if rule.ip is not None:
            _check_address("address", rule.ip, ipaddress.ip_interface)
        for kind, value in (("gateway", rule.gateway), *(("DNS server", d) for d in rule.dns)):
            if value is not None:
                _check_address(kind, value, ipaddress.ip_address)


def _check_address(kind: str, value: str, read: Callable[[str], object]) -> None:
    try:
        read(value)
    except ValueError:
        raise ValueUnusable(kind, value) from None
    if not re.fullmatch(r"[0-9A-Fa-f.:/]+", value):  # a zone behind % may be any text
        raise ValueUnusable(kind, value)


def _family(rule: NicRule) -> str:
    return f"ipv{ipaddress.ip_interface(rule.ip).version}" if rule.ip else "ipv4"
