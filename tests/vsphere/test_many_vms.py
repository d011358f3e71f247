"""What looking for two VMs costs does not grow with the vCenter (benchmarks/many_vms.py: 5,000)."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest

from vreplica.lab import Lab
from vreplica.lab.vcenter.make_vm import make_vm
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import Session, connect


def received(session: Session, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of the answers to all that a check asks of the inventory."""
    sizes, take = [], http.client.HTTPResponse.read

    def counted(response: http.client.HTTPResponse, *more: Any) -> bytes:
        data = take(response, *more)
        sizes.append(len(data))
        return data

    with monkeypatch.context() as patch, session.one_look():
        patch.setattr(http.client.HTTPResponse, "read", counted)
        known = session.read_vm(session.find_vm("vm7")).instance_uuid
        assert session.find_by_uuid(known or "") is not None
        assert session.look_up_vm("vm7-replica") is None
        session.datastores()
        session.networks()
    return sum(sizes)


def test_bytes_do_not_grow_with_the_vcenter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lab.create(tmp_path / "lab", sites=("site-a",), host="127.0.0.2", hosts=4) as lab:
        site = lab.dir.read()["sites"][0]
        names = ("host", "user", "password", "sha256", "port")
        with connect(Endpoint(**{n: site[n] for n in names})) as session:
            costs = []
            for first, last in ((0, 20), (20, 520)):
                for number in range(first, last):
                    make_vm(lab.sites["site-a"], f"vm{number}", disks=[])
                costs.append(received(session, monkeypatch))
    assert costs[1] <= costs[0] * 1.05
    assert costs[1] <= 60_000
