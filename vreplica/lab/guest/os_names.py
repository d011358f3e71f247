"""Operating systems of guests: the family and the full name of a guestId."""

from __future__ import annotations

_FULL_NAMES = {
    "windows2019srv_64Guest": "Microsoft Windows Server 2019 (64-bit)",
    "windows2022srvNext_64Guest": "Microsoft Windows Server 2022 (64-bit)",
    "ubuntu64Guest": "Ubuntu Linux (64-bit)",
    "debian11_64Guest": "Debian GNU/Linux 11 (64-bit)",
    "rhel8_64Guest": "Red Hat Enterprise Linux 8 (64-bit)",
    "otherGuest64": "Other (64-bit)",
    "otherLinux64Guest": "Other Linux (64-bit)",
}
_WINDOWS = ("win", "longhorn")
_LINUX = (
    *("linux", "ubuntu", "debian", "rhel", "centos", "sles", "opensuse", "fedora"),
    *("oracle", "photon", "alma", "rocky", "fusionos"),
)


def guest_family(guest_id: str) -> str:
    """Returns "windows", "linux" or "other"."""
    name = guest_id.lower()
    if name.startswith(_WINDOWS):
        return "windows"
    return "linux" if any(n in name for n in _LINUX) else "other"


def full_name(guest_id: str) -> str:
    """`GuestInfo.guestFullName`; for an unknown guestId the id without `Guest`."""
    return _FULL_NAMES.get(guest_id, guest_id.removesuffix("Guest"))
