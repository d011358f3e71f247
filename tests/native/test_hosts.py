"""The native library as VMware's is used: a login at a lab vCenter, and disks of its hosts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.native.nfc_program import FLAGS, NATIVE
from vreplica.disk_errors import (
    AuthenticationFailed,
    CertificateMismatch,
    DiskNotFound,
    FileAccess,
    OperationUnsupported,
)
from vreplica.extents import Extents
from vreplica.lab import Lab, LabControl
from vreplica.lab.nfc import NfcFaultRule, NfcServer
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig, VddkConnection, bundled_libdir
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.open import open_vddk_disk

CAPACITY = 24 * MIB
Open = Callable[..., VddkDisk]
Program = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def vm(control: LabControl) -> dict[str, Any]:
    return control.create_vm("site-a", "hosted", disks=[(CAPACITY, True, None)])


@pytest.fixture(scope="module")
def connection(lab: Lab, vm: dict[str, Any]) -> VddkConnection:
    spec = lab.specs[0]
    return VddkConnection(
        server=spec.host,
        port=spec.port,
        user=spec.user,
        password=spec.password,
        thumbprint_sha1=lab.dir.read()["sites"][0]["sha1"],
        vmx_spec=f"moref={vm['moref']}",
    )


@pytest.fixture(scope="module")
def open_(connection: VddkConnection) -> Open:
    def go(
        path: str, *, read_only: bool = True, modes: str | None = None, **other: Any
    ) -> VddkDisk:
        # In a process of its own: the lab uses the library in this one.
        config = VddkConfig(transport_modes=modes)
        used = replace(connection, read_only=read_only, **other)
        return open_vddk_disk(config, used, path, read_only=read_only)

    return go


def server(lab: Lab, name: str) -> NfcServer:
    site = lab.sites["site-a"]
    found: NfcServer = site.host_servers.by_host[site.find_vm(name).host._moId]
    return found


def contents(disk: VddkDisk) -> bytes:
    data = bytearray(disk.capacity_bytes)
    disk.read_into(0, memoryview(data))
    return bytes(data)


@pytest.mark.parametrize("mode", ["nbdssl", "nbd"])
def test_a_disk_and_its_snapshots_are_written_and_read(
    lab: Lab, control: LabControl, si: Any, open_: Open, mode: str
) -> None:
    made = control.create_vm("site-a", f"chain-{mode}", disks=[(CAPACITY, True, None)])
    spec = {"vmx_spec": f"moref={made['moref']}", "modes": mode}
    base, model = made["disks"][0]["path"], bytearray(CAPACITY)

    def leaf() -> str:
        devices = vim.VirtualMachine(made["moref"], si._stub).config.hardware.device
        return str(next(d.backing.fileName for d in devices if d.key == made["disks"][0]["key"]))

    def write(path: str, at: int) -> None:
        model[at : at + 3 * MIB] = os.urandom(3 * MIB)
        with closing(open_(path, read_only=False, **spec)) as disk:
            assert disk.transport_mode == mode
            disk.write_from(at, memoryview(model)[at : at + 3 * MIB])
            assert disk.allocated().covers(Extents.of(at, at + 3 * MIB))
            disk.flush()

    write(base, 5 * MIB)
    before = bytes(model)
    machine = vim.VirtualMachine(made["moref"], si._stub)
    for at in (7 * MIB, 20 * MIB):
        WaitForTask(machine.CreateSnapshot_Task("s", "", False, False))
        write(leaf(), at)
    assert leaf() != base
    with closing(open_(leaf(), **spec)) as disk:
        assert contents(disk) == bytes(model)
        found = disk.allocated()
        assert found.covers(Extents.from_pairs([(5 * MIB, 10 * MIB), (20 * MIB, 23 * MIB)]))
        assert not list(found.clip(11 * MIB, 19 * MIB))
    with closing(open_(base, **spec)) as disk:
        assert contents(disk) == before


def test_what_is_refused_is_told(vm: dict[str, Any], open_: Open) -> None:
    path = vm["disks"][0]["path"]
    with pytest.raises(AuthenticationFailed):
        open_(path, password="wrong")
    with pytest.raises(CertificateMismatch):
        open_(path, thumbprint_sha1=":".join(["AA"] * 20))
    with pytest.raises(FileAccess) as refused:
        open_("[site-a-vmfs] no/no.vmdk")
    assert "the ticket does not cover this file" in refused.value.detail
    with pytest.raises(DiskNotFound):
        open_(path, vmx_spec="moref=vm-999999")
    for modes in ("hotadd", "san", "san:hotadd"):
        with pytest.raises(OperationUnsupported):
            open_(path, modes=modes)


def test_the_leaf_of_a_running_vm_is_refused_with_the_words_of_the_host(
    control: LabControl, si: Any, open_: Open
) -> None:
    made = control.create_vm("site-a", "runs", disks=[(CAPACITY, True, None)])
    WaitForTask(vim.VirtualMachine(made["moref"], si._stub).PowerOnVM_Task())
    with pytest.raises(FileAccess) as refused:
        open_(made["disks"][0]["path"], vmx_spec=f"moref={made['moref']}")
    assert "in use by a running VM" in refused.value.detail


def test_a_dropped_connection_is_made_again_with_a_new_ticket(
    lab: Lab, vm: dict[str, Any], open_: Open
) -> None:
    path, host, data = vm["disks"][0]["path"], server(lab, "hosted"), os.urandom(CAPACITY)
    with closing(open_(path, read_only=False)) as disk:
        opened = host.connections
        host.faults.add(NfcFaultRule.make(kind="drop", operation="write", skip=4))
        disk.write_from(0, memoryview(data))
        host.faults.add(NfcFaultRule.make(kind="drop", operation="read", skip=4))
        assert contents(disk) == data
        assert host.connections == opened + 2
    with closing(open_(path)) as disk:
        assert contents(disk) == data


# -- the calls of nbdkit's vddk plugin, from C ----------------------------------------------------


@pytest.fixture(scope="module")
def like_nbdkit(tmp_path_factory: pytest.TempPathFactory, connection: VddkConnection) -> Program:
    folder = tmp_path_factory.mktemp("nbdkit")
    program, libdir = folder / "hosts", bundled_libdir()
    assert libdir
    library = libdir / "lib64" / "libvixDiskLib.so.8"
    source = NATIVE / "tests" / "hosts.c"
    subprocess.run(["gcc", *FLAGS, "-o", program, source, library, "-lpthread"], check=True)

    def run(path: str, direction: str, file: Path, **other: str) -> tuple[str, str]:
        c = replace(connection, **other)
        words = (c.server, c.port, c.user, c.password, c.thumbprint_sha1, c.vmx_spec)
        done = subprocess.run(
            [
                program,
                *(str(word or "-") for word in words),
                "-",
                "nbdssl:nbd",
                path,
                direction,
                file,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)},
        )
        assert done.returncode == 0, done.stderr
        assert str(c.password) not in done.stdout + done.stderr
        return done.stdout, done.stderr

    return run


def test_the_calls_of_nbdkit_copy_a_disk_both_ways(
    tmp_path: Path, vm: dict[str, Any], open_: Open, like_nbdkit: Program
) -> None:
    path, file = vm["disks"][0]["path"], tmp_path / "data"
    data = bytearray(CAPACITY)
    data[MIB : 4 * MIB] = os.urandom(3 * MIB)
    file.write_bytes(data)
    assert like_nbdkit(path, "write", file)[0] == ""
    file.unlink()
    told, _ = like_nbdkit(path, "read", file)
    assert file.read_bytes() == data
    lines = told.splitlines()
    assert lines[0] == f"capacity {CAPACITY // 512}"
    assert "mode nbdssl" in lines
    assert "sectors of 512" in lines
    assert any(line.startswith("metadata adapterType=") for line in lines)
    uuid = next(line for line in lines if line.startswith("metadata uuid=")).partition("=")[2]
    assert f"uuid {uuid}" in lines
    assert any(line.startswith("extent ") for line in lines)


def test_the_calls_of_nbdkit_are_refused_with_a_reason(
    tmp_path: Path, vm: dict[str, Any], like_nbdkit: Program
) -> None:
    path, file = vm["disks"][0]["path"], tmp_path / "data"
    told, logged = like_nbdkit(path, "read", file, password="wrong-password")
    assert told == "ConnectEx: The user name or password is not valid (35)\n"
    told, logged = like_nbdkit(path, "read", file, thumbprint_sha1=":".join(["AA"] * 20))
    assert told.endswith("(1)\n")
    assert "thumbprint mismatch" in logged
    told, logged = like_nbdkit("[nowhere] no/no.vmdk", "read", file)
    assert told == "Open: You do not have access rights to this file (13)\n"
