"""A VM of an ESXi 6.7 without a vCenter is replicated to a vCenter by NFC alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.commands import invoke
from vreplica.lab import Lab, LabControl
from vreplica.units import BLOCK, MIB

VDDK = '[vddk]\nconfig = "vixdisklib.conf"'
LEGACY = '[nfc]\nlegacy_tls = ["127.0.0.1"]'


def test_a_vm_of_a_bare_host_with_old_tls_is_replicated_if_the_host_is_named(
    tmp_path: Path,
) -> None:
    with Lab.create(tmp_path, bare_hosts=("site-a",), releases={"site-a": ("6.7",)}) as lab:
        control, jobs = LabControl(lab.directory), tmp_path / "jobs.toml"
        disks = [(8 * MIB, True, None)]
        control.create_vm("site-a", "web01", disks=disks, power_on=True, version="vmx-14")
        control.guest_write("site-a", "web01", 2000, 3 * MIB, b"x" * BLOCK)
        text = jobs.read_text().replace("[jobs.web01]", '[jobs.web01]\ntransport = "nfc"')

        jobs.write_text(text.replace(VDDK, ""))
        refused = invoke("run", "-c", str(jobs))
        assert refused.exit_code == 3
        assert "dh key too small" in refused.stderr
        assert "`legacy_tls` of [nfc]" in " ".join(refused.stderr.split())

        jobs.write_text(text.replace(VDDK, LEGACY))
        done = invoke("run", "-q", "--verify", "-c", str(jobs), "--json")
        assert done.exit_code == 0, done.stderr
        (report,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert report["disks"][0]["written_bytes"] == BLOCK
        clients = control.nfc_clients("site-a")
        assert clients
        assert {client["features"] for client in clients} == {0}
