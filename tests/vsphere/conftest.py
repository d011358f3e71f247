"""A lab for this folder, sessions to its two sites, and VMs made for one test each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vreplica.lab import Lab, LabControl
from vreplica.units import MIB
from vreplica.vsphere.model import Endpoint, VmRef
from vreplica.vsphere.session import Session, connect

_COUNT = itertools.count(1)
SOURCE, TARGET = "site-a", "site-b"


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # 127.0.0.2: for 127.0.0.1 pyVmomi makes exceptions that would prove nothing.
    made = Lab.create(tmp_path_factory.mktemp("vsphere") / "lab", host="127.0.0.2")
    with made:
        yield made


@pytest.fixture(scope="package")
def control(lab: Lab) -> LabControl:
    return LabControl(lab.directory)


@pytest.fixture(scope="package")
def endpoint(lab: Lab) -> Callable[..., Endpoint]:
    """`endpoint("site-a", password="wrong")`: how to log in to a site."""
    sites = {s["name"]: s for s in lab.dir.read()["sites"]}

    def make(site: str = SOURCE, **changed: Any) -> Endpoint:
        names = ("host", "user", "password", "sha256", "port")
        return Endpoint(**{**{n: sites[site][n] for n in names}, **changed})

    return make


@pytest.fixture(scope="package")
def source(endpoint: Callable[..., Endpoint]) -> Iterator[Session]:
    with connect(endpoint(SOURCE)) as session:
        yield session


@pytest.fixture(scope="package")
def target(endpoint: Callable[..., Endpoint]) -> Iterator[Session]:
    with connect(endpoint(TARGET)) as session:
        yield session


@pytest.fixture
def new_vm(control: LabControl, source: Session, request: pytest.FixtureRequest) -> Any:
    """`new_vm(disks=[...], power_on=True)`: a VM of the source site, named after the test."""

    def make(**options: Any) -> VmRef:
        name = f"{request.node.originalname[5:50]}-{next(_COUNT)}"
        disks = options.pop("disks", [(8 * MIB, True, None)])
        options.setdefault("guest_id", "ubuntu64Guest")
        made = control.create_vm(SOURCE, name, disks=disks, **options)
        return VmRef(made["moref"], name)

    return make
