"""A job's rules for its guest on the other site: put into the guest, and told beforehand."""

from __future__ import annotations

from typing import Final

from vreplica.jobs import identityscript
from vreplica.sync import Job
from vreplica.sync.job import Customize
from vreplica.vsphere import ScriptResult, Session, VmRef

SCRIPT_TIMEOUT_S: Final = 120.0


def give_identity(session: Session, vm: VmRef, job: Job) -> ScriptResult:
    """Run the script with the job's rules in a guest that answers. Raises GuestLoginRefused ..."""
    login = job.guest.login()
    assert login is not None, "the job file says so, and whoever asks for a script has looked"
    now = session.read_vm(vm)
    windows = now.guest_family == "windows"
    write = identityscript.windows if windows else identityscript.linux
    macs = [nic.mac or "" for nic in now.nics]
    return session.run_script(
        vm,
        login,
        write(job.guest.identity, macs),
        windows=windows,
        suffix=".ps1" if windows else ".sh",
        timeout_s=SCRIPT_TIMEOUT_S,
    )


def described(job: Job) -> list[str]:
    """The rules in words, for the preview; empty where there are none."""
    guest = job.guest
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
