"""A job's rules for its guest on the other site: put into the guest, and told beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from vreplica.failover.guest import scripts
from vreplica.failover.machine.errors import IdentityScriptFailed
from vreplica.sync.job import Customize, Guest, Job
from vreplica.vsphere.errors import CustomizationRefused
from vreplica.vsphere.model import GuestState, ScriptResult, VmRef
from vreplica.vsphere.session import Session

SCRIPT_TIMEOUT_S: Final = 120.0
CUSTOMIZE_TIMEOUT_S: Final = 600.0
"""It begins when Tools are up, and ends with a restart of the guest on some systems."""
POLL_S: Final = 2.0


def give_identity(session: Session, vm: VmRef, job: Job) -> ScriptResult:
    """Run the script with the job's rules in a guest that answers. Raises GuestLoginRefused ..."""
    login = job.guest.login()
    assert login is not None, "the job file says so, and whoever asks for a script has looked"
    now = session.read_vm(vm)
    windows = now.guest_family == "windows"
    write = scripts.windows if windows else scripts.linux
    macs = [nic.mac or "" for nic in now.nics]
    return session.run_script(
        vm,
        login,
        write(job.guest.identity, macs),
        windows=windows,
        suffix=".ps1" if windows else ".sh",
        timeout_s=SCRIPT_TIMEOUT_S,
    )


def check_script(result: ScriptResult) -> None:
    """Raises IdentityScriptFailed unless it ended with 0."""
    if result.exit_code != 0:
        last = " / ".join(result.output.strip().splitlines()[-3:]) or "it wrote nothing"
        raise IdentityScriptFailed(code=result.exit_code, output=last)


def wait_customized(
    session: Session,
    vm: VmRef,
    *,
    timeout_s: float = CUSTOMIZE_TIMEOUT_S,
    report: Callable[[str], None] | None = None,
) -> GuestState:
    """Wait for a specification to be taken over; the guest may restart for it.

    Raises CustomizationRefused where it failed or was not done in time.
    """
    start = time.monotonic()
    while True:
        guest = session.read_guest(vm)
        if guest.customization == "FAILED":
            raise CustomizationRefused(guest.customization_error or "it failed there")
        if guest.customization not in ("PENDING", "RUNNING"):
            return guest
        if time.monotonic() - start > timeout_s:
            raise CustomizationRefused(f"it was not done within {timeout_s:.0f} s")
        if report is not None:
            report("waiting for the guest's customization")
        time.sleep(POLL_S)


WHOSE: Final = {True: "the source's", False: "its own", None: "as it is"}


def described(job: Job) -> list[str]:
    """The replica's names and the rules for its guest in words, for the preview."""
    guest, keep = job.guest, job.placement.keep
    names = f"BIOS UUID: {WHOSE[keep.bios_uuid]}, MAC addresses: {WHOSE[keep.mac]}"
    return [names, *_rules(guest)]


def _rules(guest: Guest) -> list[str]:
    if guest.customize is None:
        return []
    if guest.spec is not None:
        return [f"customization specification {guest.spec}, before the power-on"]
    by = "specification, before the power-on"
    if guest.customize is Customize.SCRIPT:
        by = f"script as {guest.user}, once the guest answers"
    lines = [f"by {by}"]
    if guest.identity.hostname:
        lines.append(".".join(filter(None, (guest.identity.hostname, guest.identity.domain))))
    for number, nic in enumerate(guest.identity.nics, 1):
        gateway = f" via {nic.gateway}" if nic.gateway else ""
        dns = f", DNS {', '.join(nic.dns)}" if nic.dns else ""
        lines.append(f"card {number}: {nic.ip or 'DHCP'}{gateway}{dns}")
    return lines
