"""A vCenter that nobody here wrote: govmomi's simulator, built from Debian's package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.many_vms import GOPATH, simulator
from vreplica.sync.job import Job, Placement
from vreplica.sync.known_vms import remember
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.sites import SiteSessions
from vreplica.vsphere.connection.certificate import fetch_certificate
from vreplica.vsphere.errors import VmNotFound
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import Session, connect


@pytest.fixture(scope="module")
def vcenter(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two datacenters, each with two hosts, 30 VMs and a datastore `LocalDS_0`."""
    tool("go", "golang-go")
    if not (GOPATH / "src/github.com/vmware/govmomi").is_dir():
        reason = "govmomi is not installed (Debian package golang-github-vmware-govmomi-dev)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with simulator(tmp_path_factory.mktemp("vcsim"), 2, 2, 30) as port:
        der = fetch_certificate("127.0.0.1", port, timeout_s=10)
        yield Endpoint("127.0.0.1", "user", "pass", hashlib.sha256(der).hexdigest(), port)


@pytest.fixture
def session(vcenter: Endpoint) -> Iterator[Session]:
    with connect(vcenter) as made:
        yield made


def job(vcenter: Endpoint, folder: Path, vm: str = "DC1_C0_RP0_VM7", **place: Any) -> Job:
    placement = Placement(**{"datastore": "LocalDS_0", "name": "replica", **place})
    return Job("j", vcenter, vm, vcenter, placement, folder)


def test_a_vm_is_found_by_all_that_names_it(session: Session) -> None:
    vm = session.find_vm("DC1_C0_RP0_VM7")
    info = session.read_vm(vm)
    for ref in (vm.moref, info.instance_uuid or "", "DC1/vm/DC1_C0_RP0_VM7", "DC1/DC1_C0_RP0_VM7"):
        assert session.find_vm(ref) == vm
    assert session.find_by_uuid(info.instance_uuid or "") == vm
    assert session.look_up_vm("DC0/vm/DC1_C0_RP0_VM7") is None
    with pytest.raises(VmNotFound) as caught:
        session.find_vm("DC1_C0_RP0_VM7x")
    assert "DC1_C0_RP0_VM7" in caught.value.similar
    assert len(session.vms()) == 60
    assert session.find_marked({"vreplica.job": "j"}) == ()


@pytest.mark.parametrize(
    "place",
    [
        {"host": "DC1_C0_H0"},
        {"resource_pool": "DC1/host/DC1_C0/Resources"},
        {"datastore": "DC1/datastore/LocalDS_0"},
        {"datastore": "/DC1/datastore/LocalDS_0"},
    ],
    ids=str,
)
def test_one_of_two_datastores_of_a_name_is_taken(
    vcenter: Endpoint, tmp_path: Path, place: dict[str, str]
) -> None:
    report = check_readiness(job(vcenter, tmp_path, **place))
    good = [f.text for f in report.findings if f.kind.value == "good"]
    assert any("replica can be created on DC1_C0_H0, LocalDS_0" in text for text in good), good


def test_two_datastores_of_a_name_are_not_chosen_from(vcenter: Endpoint, tmp_path: Path) -> None:
    problems = plan(job(vcenter, tmp_path)).problems
    assert any("DC0/datastore/LocalDS_0" in p and "DC1/datastore/LocalDS_0" in p for p in problems)


def test_jobs_that_are_known_and_new_are_planned(vcenter: Endpoint, tmp_path: Path) -> None:
    one = job(vcenter, tmp_path, host="DC1_C0_H0")
    one.job_dir.mkdir(parents=True)
    with SiteSessions(one_look=True) as sessions:
        new = plan(one, sessions=sessions)
        session = sessions.session(vcenter)
        remember(one, source=session.read_vm(session.find_vm(one.source_vm)))
        known = plan(one, sessions=sessions)
    assert new.disks == known.disks
    assert new.problems == known.problems
    # What the simulator cannot do, and nothing else.
    assert all("snapshot" in p or "tracking" in p or "NFC" in p for p in new.problems)
