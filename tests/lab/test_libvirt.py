"""libvirt's driver for VMware, of which virt-v2v is a user, works with the lab."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest

from tests.support.waiting import until
from vreplica.lab import Lab, LabControl

MIB = 1 << 20


@pytest.fixture(scope="module")
def virsh(tool: Any, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """`virsh(command, ...)`: what it prints about site-a. A command that fails fails the test."""
    program = tool("virsh", "libvirt-clients")
    spec, folder = lab.specs[0], tmp_path_factory.mktemp("virsh")
    logins = folder / "auth.conf"
    logins.write_text(
        f"[credentials-lab]\nusername={spec.user}\npassword={spec.password}\n"
        f"[auth-esx-{spec.host}]\ncredentials=lab\n"
    )
    uri = (
        f"vpx://{quote(spec.user)}@{spec.host}:{spec.port}/site-a-dc/site-a-cluster/"
        "esx1.site-a.lab?no_verify=1"
    )
    environment = {
        **os.environ,
        "LIBVIRT_AUTH_FILE": str(logins),
        # libvirt warns of each property that is newer than itself.
        "LIBVIRT_LOG_OUTPUTS": "4:stderr",
        "XDG_CACHE_HOME": str(folder),
    }

    def run(*command: str) -> str:
        ran = subprocess.run(
            [program, "--quiet", "--connect", uri, *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


def test_virsh_goes_through_the_lab(
    virsh: Callable[..., str], control: LabControl, tmp_path: Path
) -> None:
    made = control.create_vm("site-a", "guest one", disks=[(2 * MIB, True, None)], power_on=True)
    assert "guest one" in virsh("list", "--all")
    assert virsh("hostname").strip() == "esx1.site-a.lab"
    assert "CPU(s):              16" in virsh("nodeinfo")
    assert "vSwitch0" in virsh("net-list")
    assert "site-a-ds2" in virsh("pool-list")

    # What virt-v2v reads: the VM's configuration, by way of its .vmx file.
    domain = ET.fromstring(virsh("dumpxml", "guest one"))
    disk = domain.find("devices/disk/source")
    assert disk is not None
    assert disk.get("file") == made["disks"][0]["path"]
    assert domain.find("devices/controller[@type='scsi'][@model='vmpvscsi']") is not None
    assert domain.find("devices/interface/model[@type='vmxnet3']") is not None
    type_ = domain.find("os/type")
    assert type_ is not None
    assert type_.get("arch") == "x86_64"
    moref = domain.find("{http://libvirt.org/schemas/domain/vmware/1.0}moref")
    assert moref is not None
    assert moref.text == made["moref"]

    volume = ET.fromstring(virsh("vol-dumpxml", "guest one/guest one.vmdk", "--pool", "site-a-ds1"))
    assert volume.findtext("capacity") == str(2 * MIB)

    virsh("snapshot-create-as", "guest one", "s1")
    assert "s1" in virsh("snapshot-list", "guest one")
    virsh("snapshot-delete", "guest one", "s1")
    virsh("shutdown", "guest one")
    until("off", lambda: control.describe_vm("site-a", "guest one")["power"] == "poweredOff")
    virsh("start", "guest one")
    virsh("destroy", "guest one")
    assert control.describe_vm("site-a", "guest one")["power"] == "poweredOff"
