"""Compares the names of the job file with those that its two VMs have by now.

Both VMs are found by their instance UUIDs, so a new name changes nothing. A VM that has taken the
old name does: nobody knows which one the job file means.
"""

from __future__ import annotations

from vreplica.sync.job_state import JobState
from vreplica.vsphere.errors import AmbiguousVm
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.names import same_name, unescape
from vreplica.vsphere.session import Session


def name_findings(state: JobState) -> tuple[list[str], list[str]]:
    """Returns problems and warnings about names, as sentences."""
    job, sites = state.job, state.sites
    problems: list[str] = []
    warnings: list[str] = []
    sides = [(sites.source, state.source, job.source_vm, "source", "source.vm")]
    if state.replica is not None:
        name = job.placement.name
        sides.append((sites.destination, state.replica.vm, name, "replica", "destination.name"))
    for session, vm, wanted, side, key in sides:
        if _is_named(vm, wanted):
            continue
        told = f"the {side} that the job file calls {wanted!r} is called {vm.name!r} by now"
        other = _has(session, vm, wanted)
        if other and side == "source":
            problems.append(
                f"{told}, and {other} has the old name: give {key} the instance UUID of the one "
                f"that you mean ({vm.instance_uuid} is the one that was replicated until now)"
            )
        else:
            warnings.append(f"{told}: correct {key}, or the VM's name in vCenter")
    return problems, warnings


def _is_named(vm: VmInfo, wanted: str) -> bool:
    """True where `wanted` is the VM's name, moref or UUID, or a path that ends with its name."""
    wanted = wanted.strip()
    ids = (vm.ref.moref, (vm.instance_uuid or vm.ref.moref).lower())
    return (
        same_name(vm.name, wanted)
        or wanted.lower() in ids
        or unescape(wanted).endswith(f"/{vm.name}")
    )


def _has(session: Session, vm: VmInfo, wanted: str) -> str | None:
    """Says which other VM is found by this name; None where none is."""
    try:
        other = session.look_up_vm(wanted)
    except AmbiguousVm:
        return "several others"
    return f"another VM ({other.moref})" if other and other.moref != vm.ref.moref else None
