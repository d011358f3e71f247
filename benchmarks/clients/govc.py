"""Runs govc's calls that the lab promises, against a lab and against govmomi's simulator.

    python -m benchmarks.clients.govc PATH_OF_GOVC [--simulator]

Prints one line for each command: good, or what it answered instead. Exit 1 where the lab lets a
command fail. Debian has govmomi as a library only (tests/lab/test_govmomi.py runs that in CI); the
program is built from govmomi's sources, with that library's GOPATH.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyVmomi import vim

from benchmarks.many_vms import simulator
from vreplica.lab import Lab, LabControl
from vreplica.units import MIB


@dataclass(frozen=True)
class Server:
    """Where govc connects, and the names that it finds there."""

    url: str
    user: str
    password: str
    datacenter: str
    datastore: str
    host: str
    network: str
    vm: str


COMMANDS: list[tuple[str, str]] = [
    ("about", "API type:     VirtualCenter"),
    ("find /", "{datacenter}/vm/{vm}"),
    ("find / -type m -name {vm}", "{vm}"),
    ("find . -type h", "{datacenter}/host/"),
    ("find / -type m -runtime.powerState poweredOn", "{vm}"),
    ("ls vm", "/{datacenter}/vm/{vm}"),
    ("ls -l host", "ComputeResource"),
    ("vm.info {vm}", "Path:         /{datacenter}/vm/{vm}"),
    ("vm.info -vm.ipath /{datacenter}/vm/{vm}", "Name:           {vm}"),
    ("vm.info -json -e {vm}", '"ChangeVersion"'),
    ("object.collect -s vm/{vm} name", "{vm}"),
    ("object.collect -json vm/{vm} config.hardware.device", "FileName"),
    ("object.collect -s vm/{vm} summary.config.uuid runtime.powerState parent", "poweredOn"),
    ("host.info -host {host}", "connected"),
    ("datastore.info {datastore}", "Type:"),
    ("pool.info */Resources", "Name:"),
    ("datastore.mkdir -ds {datastore} govc", ""),
    ("datastore.upload -ds {datastore} file govc/file", ""),
    ("datastore.ls -ds {datastore} govc", "file"),
    ("datastore.download -ds {datastore} govc/file -", "some text"),
    ("datastore.cp -ds {datastore} govc/file govc/copy", ""),
    ("datastore.mv -ds {datastore} govc/copy govc/moved", ""),
    ("datastore.ls -l -ds {datastore} govc", "moved"),
    ("datastore.rm -ds {datastore} govc", ""),
    ("folder.create /{datacenter}/vm/outer", ""),
    ("folder.create /{datacenter}/vm/outer/inner", ""),
    ("folder.info /{datacenter}/vm/outer", "Children:  1"),
    ("vm.create -ds {datastore} -net '{network}' -folder vm/outer -on=false -disk 4MB made", ""),
    ("vm.power -on made", "Powering on"),
    ("vm.change -vm made -annotation text -e guestinfo.x=1", ""),
    ("vm.info -e made", "guestinfo.x"),
    ("snapshot.create -vm made -m=false first", ""),
    ("snapshot.create -vm made -m=false second", ""),
    ("snapshot.tree -vm made", "second"),
    ("vm.power -off -force made", "Powering off"),
    ("snapshot.revert -vm made first", ""),
    ("snapshot.remove -vm made second", ""),
    ("snapshot.remove -vm made *", ""),
    ("vm.disk.create -vm made -ds {datastore} -name made/more -size 4M", ""),
    ("device.ls -vm made", "disk-"),
    ("device.info -vm made disk-*", "VirtualDisk"),
    ("vm.network.add -vm made -net '{network}'", ""),
    ("vm.clone -ds {datastore} -host {host} -vm made -on=false copy", ""),
    ("vm.migrate -ds {datastore} -host {host} copy", ""),
    ("vm.markastemplate copy", ""),
    ("vm.markasvm -host {host} copy", ""),
    ("vm.unregister copy", ""),
    ("vm.register -ds {datastore} -host {host} copy/copy.vmx", ""),
    ("vm.destroy copy", ""),
    ("pool.create */Resources/gopool", ""),
    ("pool.destroy */Resources/gopool", ""),
    ("events -n 5", ""),
    ("tasks -n 5", "Destroy"),
    ("session.ls", "{user}"),
    ("fields.add owner", ""),
    ("fields.set owner me vm/{vm}", ""),
    ("fields.info vm/{vm}", "me"),
    ("option.ls VirtualCenter.", ""),
    ("host.esxcli -host {host} hardware clock get", "NotSupported"),
    ("license.ls", "Key:"),
    ("object.destroy /{datacenter}/vm/outer", ""),
    ("session.logout", ""),
]
"""Command and a part of its output."""

OF_THE_LAB: list[tuple[str, str]] = [
    ("find / -type a", "/shop"),
    ("find / -type m", "/shop/inside"),
    ("vm.info /{datacenter}/vm/shop/inside", "Name:           inside"),
    ("vm.power -on /{datacenter}/vm/shop/inside", "Powering on"),
    ("vm.power -off /{datacenter}/vm/shop/inside", "Powering off"),
    ("vapp.destroy shop", ""),
]
"""Commands about a vApp, which that simulator here does not have."""

NOT_PROMISED = ("host.esxcli", "license.ls")
"""Commands that the lab answers with a fault; govc must end with its text, not with a panic."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--simulator", action="store_true", help="govmomi's simulator instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (of_simulator if options.simulator else of_lab)(folder) as server:
            commands = COMMANDS if options.simulator else [*OF_THE_LAB, *COMMANDS]
            failed = run_all(options.program.resolve(), server, folder, commands)
    print(f"{len(commands) - len(failed)} of {len(commands)} commands are good")
    sys.exit(bool(failed))


@contextmanager
def of_lab(folder: Path) -> Iterator[Server]:
    with Lab.create(folder / "lab", sites=("site-a",)) as lab:
        content = folder / "content"
        content.write_bytes(b"c" * MIB)
        control = LabControl(lab.directory)
        control.create_vm("site-a", "web01", disks=[(4 * MIB, True, content)], power_on=True)
        control.create_vm("site-a", "inside", disks=[(MIB, True, None)])
        site = lab.sites["site-a"]
        app = site.cluster.resourcePool.CreateVApp(
            "shop", None, vim.vApp.VAppConfigSpec(), site.vm_folder
        )
        app.MoveIntoResourcePool([site.find_vm("inside")])
        spec = lab.specs[0]
        address = f"https://{spec.host}:{spec.port}/sdk"
        place = ("site-a-dc", "site-a-ds1", "esx1.site-a.lab", "VM Network", "web01")
        yield Server(address, spec.user, spec.password, *place)


@contextmanager
def of_simulator(folder: Path) -> Iterator[Server]:
    with simulator(folder, 1, 1, 2) as port:
        address = f"https://127.0.0.1:{port}/sdk"
        place = ("DC0", "LocalDS_0", "DC0_C0_H0", "VM Network", "DC0_C0_RP0_VM0")
        yield Server(address, "user", "pass", *place)


def run_all(
    program: Path, server: Server, folder: Path, commands: list[tuple[str, str]]
) -> list[str]:
    (folder / "file").write_text("some text\n")
    names = vars(server)
    environment = {
        **os.environ,
        "GOVC_URL": server.url,
        "GOVC_USERNAME": server.user,
        "GOVC_PASSWORD": server.password,
        "GOVC_INSECURE": "1",
        "HOME": str(folder),
    }
    failed = []
    for line, expected in commands:
        words = shlex.split(line.format(**names))
        ran = subprocess.run(
            [program, *words],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        told = (ran.stdout + ran.stderr).strip()
        wanted = expected.format(**names)
        refusal = words[0] in NOT_PROMISED
        good = refusal or (ran.returncode == 0 and wanted in told)
        good = good and "panic:" not in told and "goroutine" not in told
        if not good:
            failed.append(line)
        said = "" if good else ": " + " | ".join(told.splitlines()[-3:])
        print(f"{'good  ' if good else 'FAILED'} {' '.join(words)}{said}", flush=True)
    return failed


if __name__ == "__main__":
    main()
