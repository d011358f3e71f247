"""Writes the script that sets a guest's addresses and host name: sh or PowerShell.

A card is found by its MAC address, since its name in the guest may have changed. On Linux the
first of NetworkManager, netplan and systemd-networkd that exists is used. It gets a file or
connection of its own, which goes before those of the source. Running a script again changes
nothing.

All values in a script were checked with the job file or read from vCenter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from vreplica.vsphere.model import GuestCustomization, NicRule

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
    """The script for Linux. `macs`: of the VM's cards, in order. A card without a rule stays."""
    lines = [_LINUX]
    if identity.hostname:
        lines.append(_LINUX_NAME)
        full = f"{identity.hostname}.{identity.domain}" if identity.domain else identity.hostname
        lines.append(f"name {full}")
    for rule, mac in zip(identity.nics, macs, strict=False):
        address, family = rule.ip or "dhcp", _family(rule)
        gateway, servers = rule.gateway or "", " ".join(rule.dns)
        # In a line of its own: sh ignores a failure inside another command.
        lines.append(f"found=$(device {mac.lower()})")
        lines.append(f'card "$found" {address} "{gateway}" "{servers}" {family}')
    return "\n".join([*lines, ""]).encode()


def windows(identity: GuestCustomization, macs: Sequence[str]) -> bytes:
    """The script for Windows. `macs`: as for `linux`. A new computer name needs a restart."""
    lines = ["# Written by vreplica: addresses and host name after a failover."]
    lines.append("$ErrorActionPreference = 'Stop'")
    for rule, mac in zip(identity.nics, macs, strict=False):
        lines += _windows_card(rule, mac)
    if identity.hostname:
        lines += [
            f"if ($env:COMPUTERNAME -ne '{identity.hostname}') {{",
            f"    Rename-Computer -NewName '{identity.hostname}' -Force",
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
        f"$card = Get-NetAdapter | Where-Object {{ $_.MacAddress -eq '{shown}' }}",
        f"if (-not $card) {{ throw 'no network card has the address {shown}' }}",
        "$index = $card.ifIndex",
        f"Remove-NetIPAddress {here} -AddressFamily {family} {quiet}",
        f"Remove-NetRoute {here} -DestinationPrefix {everywhere} {quiet}",
        f"Set-NetIPInterface {here} -AddressFamily {family} -Dhcp {dhcp}",
    ]
    if rule.ip is not None:
        found = ipaddress.ip_interface(rule.ip)
        address = f"-IPAddress {found.ip} -PrefixLength {found.network.prefixlen}"
        gateway = f" -DefaultGateway {rule.gateway}" if rule.gateway else ""
        lines.append(f"New-NetIPAddress {here} {address}{gateway} | Out-Null")
    if rule.dns:
        servers = ",".join(f"'{server}'" for server in rule.dns)
        lines.append(f"Set-DnsClientServerAddress {here} -ServerAddresses @({servers})")
    return lines


def _family(rule: NicRule) -> str:
    return f"ipv{ipaddress.ip_interface(rule.ip).version}" if rule.ip else "ipv4"
