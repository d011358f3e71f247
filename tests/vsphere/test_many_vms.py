"""What a check and a plan cost does not grow with the vCenter (benchmarks/many_vms.py: 5,000)."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.lab import Lab
from vreplica.lab.vcenter.make_vm import make_vm
from vreplica.sync.job import Job, Placement
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.units import MIB
from vreplica.vsphere.model import Endpoint


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """`received(work)`: bytes of the answers to all that `work` asks."""
    sizes: list[int] = []
    take = http.client.HTTPResponse.read

    def counted(response: http.client.HTTPResponse, *more: Any) -> bytes:
        data = take(response, *more)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(http.client.HTTPResponse, "read", counted)

    def measure(work: Callable[[], object]) -> int:
        sizes.clear()
        work()
        return sum(sizes)

    return measure


def test_bytes_do_not_grow_with_the_vcenter(tmp_path: Path, received: Any) -> None:
    with Lab.create(tmp_path / "lab", sites=("site-a",), host="127.0.0.2", hosts=4) as lab:
        site = lab.dir.read()["sites"][0]
        names = ("host", "user", "password", "sha256", "port")
        endpoint = Endpoint(**{n: site[n] for n in names})
        placement = Placement(datastore="site-a-ds1", name="web-replica")
        # A new job: no VM is known by its UUID, so the replica is searched for by its marks, too.
        job = Job("web", endpoint, "web", endpoint, placement, tmp_path / "state")
        make_vm(lab.sites["site-a"], "web", disks=[(MIB, True, None)])
        costs = []
        for first, last in ((0, 20), (20, 520)):
            for number in range(first, last):
                make_vm(lab.sites["site-a"], f"vm{number}", disks=[])
            costs.append((received(lambda: check_readiness(job)), received(lambda: plan(job))))
    for few, many in zip(*costs, strict=True):
        assert many <= few * 1.05
        assert many <= 90_000
