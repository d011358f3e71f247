"""Customizes the guest of a replica: host name and addresses of the other site (re-IP).

Two ways lead into the guest: a customization specification, which vCenter and VMware Tools apply
at the next boot, or a script, which guest operations run once the guest answers.
"""

from __future__ import annotations

import time
from typing import Final

from vreplica.failover.guest import scripts
from vreplica.failover.machine.context import Reporter, no_report
from vreplica.failover.machine.errors import CustomizationScriptFailed
from vreplica.sync.job import Customize, Guest, Job
from vreplica.vsphere.errors import CustomizationRefused
from vreplica.vsphere.model import GuestState, ScriptResult, VmRef
from vreplica.vsphere.session import Session

SCRIPT_TIMEOUT_S: Final = 120.0
CUSTOMIZE_TIMEOUT_S: Final = 600.0
"""A specification is applied once Tools run, and restarts the guest on some systems."""
POLL_S: Final = 2.0


def run_customization_script(session: Session, vm: VmRef, job: Job) -> ScriptResult:
    """Runs the script with the job's customization in a guest that answers.

    Raises what guest operations raise, such as GuestLoginRefused.
    """
    login = job.guest.login()
    assert login is not None, "the job file requires a login where a script is configured"
    now = session.read_vm(vm)
    windows = now.guest_family == "windows"
    write = scripts.windows if windows else scripts.linux
    macs = [nic.mac or "" for nic in now.nics]
    return session.run_script(
        vm,
        login,
        write(job.guest.customization, macs),
        windows=windows,
        suffix=".ps1" if windows else ".sh",
        timeout_s=SCRIPT_TIMEOUT_S,
    )


def check_customization_script(result: ScriptResult) -> None:
    """Raises CustomizationScriptFailed unless the script ended with 0."""
    if result.exit_code != 0:
        last = " / ".join(result.output.strip().splitlines()[-3:]) or "it wrote nothing"
        raise CustomizationScriptFailed(code=result.exit_code, output=last)


def wait_customized(
    session: Session,
    vm: VmRef,
    *,
    timeout_s: float = CUSTOMIZE_TIMEOUT_S,
    report: Reporter = no_report,
) -> GuestState:
    """Waits until a specification is applied. The guest may restart for it.

    Raises CustomizationRefused where it failed or took too long.
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
        report("waiting for the guest's customization")
        time.sleep(POLL_S)


# -- in words ---------------------------------------------------------------------------------

WHOSE: Final = {True: "the source's", False: "its own", None: "as it is"}


def describe_customization(job: Job) -> list[str]:
    """Describes, for the preview, the replica's hardware identity and its guest's customization."""
    keep = job.placement.keep
    identity = f"BIOS UUID: {WHOSE[keep.bios_uuid]}, MAC addresses: {WHOSE[keep.mac]}"
    return [identity, *_describe_guest(job.guest)]


def _describe_guest(guest: Guest) -> list[str]:
    if guest.customize is None:
        return []
    if guest.spec is not None:
        return [f"customization specification {guest.spec}, before the power-on"]
    by = "specification, before the power-on"
    if guest.customize is Customize.SCRIPT:
        by = f"script as {guest.user}, once the guest answers"
    lines = [f"by {by}"]
    name = guest.customization.hostname
    if name:
        lines.append(".".join(filter(None, (name, guest.customization.domain))))
    for number, nic in enumerate(guest.customization.nics, 1):
        gateway = f" via {nic.gateway}" if nic.gateway else ""
        dns = f", DNS {', '.join(nic.dns)}" if nic.dns else ""
        lines.append(f"card {number}: {nic.ip or 'DHCP'}{gateway}{dns}")
    return lines
