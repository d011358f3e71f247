"""A run's hosts and datastores are those of its two VMs, whatever they are called by now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.vms import make_vm
from vreplica.service.occupancy import SiteInventory, resources_of_run
from vreplica.sync.job import Job, Placement
from vreplica.sync.known_vms import remember
from vreplica.vsphere.model import Endpoint, HostInfo, VmLocation, VmRef

END = Endpoint("vc", "u", "p", "00" * 32)


def located(name: str, uuid: str, host: str) -> VmLocation:
    return VmLocation(VmRef(f"vm-{uuid}", name), uuid, host, (f"{host}-ds",))


@pytest.mark.parametrize("written", ["team/web01", "team%2fweb01", "dc/vm/x/web01", "u1", "vm-u1"])
def test_both_vms_are_found_by_what_the_job_says(tmp_path: Path, written: str) -> None:
    name = "web01" if written.startswith("dc") else "team/web01"
    here = SiteInventory("main", (located(name, "u1", "esx1"),), ())
    there = SiteInventory("dr", (located("web01-dr", "u2", "esx7"),), ())
    job = Job("j", END, written, END, Placement("ds", "web01-dr"), tmp_path)
    assert resources_of_run(job, here, there) == (
        "host:main/esx1", "datastore:main/esx1-ds", "host:dr/esx7", "datastore:dr/esx7-ds",
    )  # fmt: skip


def test_a_renamed_vm_is_found_by_its_uuid(tmp_path: Path) -> None:
    job = Job("j", END, "web01", END, Placement("ds", "web01-dr"), tmp_path)
    job.job_dir.mkdir()
    remember(job, source=make_vm(instance_uuid="u1"), replica=make_vm(instance_uuid="u2"))
    # Another VM has the old name by now.
    vms = (located("web01", "u9", "esx3"), located("web01-old", "u1", "esx1"))
    here = SiteInventory("main", vms, ())
    there = SiteInventory("dr", (located("renamed", "u2", "esx7"),), ())
    found = resources_of_run(job, here, there)
    assert "host:main/esx1" in found
    assert "host:dr/esx7" in found
    # A replica that does not exist yet will be on the only host with its datastore.
    host = HostInfo("esx7", "host-7", "connected", "poweredOn", False, "8", ("ds",))
    empty = SiteInventory("dr", (), (host,))
    assert resources_of_run(job, here, empty)[-2:] == ("host:dr/esx7", "datastore:dr/ds")
