"""A lab in a process of its own, VMs with real content, and jobs between its two sites."""

from __future__ import annotations

import os
import pickle
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

import vreplica.lab
from tests.support.lab import unchecked
from vreplica.lab import LabControl
from vreplica.sync.cycle import run
from vreplica.sync.events import ReplicationEvent, Step
from vreplica.sync.job import Job, Placement, Transport
from vreplica.sync.recovery_points import points
from vreplica.sync.report import RunReport
from vreplica.units import BLOCK, MIB
from vreplica.vddk.config import VddkConfig
from vreplica.vsphere.model import Endpoint, SnapshotInfo
from vreplica.vsphere.session import Session, connect


@dataclass
class World:
    """One lab, and what tests do with it."""

    folder: Path
    work: Path
    control: LabControl
    sites: list[dict[str, Any]]
    qemu_img: str

    @property
    def vddk(self) -> VddkConfig:
        return VddkConfig(config_file=self.folder / "vixdisklib.conf")

    def endpoint(self, number: int) -> Endpoint:
        site = self.sites[number]
        host, _, port = re.sub("^https://", "", site["url"]).partition("/")[0].partition(":")
        return Endpoint(
            host=host,
            port=int(port),
            user=site["user"],
            password=site["password"],
            sha256=site["sha256"],
        )

    def connect(self, number: int) -> Session:
        return connect(self.endpoint(number))

    @property
    def here(self) -> str:
        """The name of the source site."""
        return str(self.sites[0]["name"])

    def make_vm(self, *disks: Path | int, tools: bool = True, **settings: Any) -> str:
        """A VM on the first site, thin disks: a raw file with the content, or a capacity."""
        name = f"vm-x{uuid.uuid4().hex[:7]}"
        specs: list[tuple[int, bool, Path | None]] = [
            (d, True, None) if isinstance(d, int) else (d.stat().st_size, True, d) for d in disks
        ]
        self.control.create_vm(self.here, name, disks=specs, **settings)
        if not tools:
            self.control.set_guest(self.here, name, tools="notInstalled")
        return name

    def power_on(self, vm: str) -> None:
        self.control.power(self.here, vm, on=True)

    def reconfigure(self, vm: str, change: Callable[[Any], Any]) -> None:
        """`change` makes a ConfigSpec from the VM's ConfigInfo; as an administrator would."""
        with self.managed(0, vm) as found:
            WaitForTask(found.ReconfigVM_Task(change(found.config)))

    @contextmanager
    def all_managed(self, number: int) -> Iterator[list[Any]]:
        """pyVmomi's own objects of a site's VMs, for what an administrator does by other tools."""
        end = self.endpoint(number)
        service = SmartConnect(
            host=end.host, port=end.port, user=end.user, pwd=end.password, sslContext=unchecked()
        )
        try:
            view = service.content.viewManager.CreateContainerView(
                service.content.rootFolder, [vim.VirtualMachine], True
            )
            yield list(view.view)
        finally:
            Disconnect(service)

    @contextmanager
    def managed(self, number: int, vm: str) -> Iterator[Any]:
        """The one of this name."""
        with self.all_managed(number) as vms:
            (found,) = [v for v in vms if v.name == vm]
            yield found

    def clear(self) -> None:
        """Leave both sites as they were at first: no fault rules, every host in order, no VMs."""
        for number, site in enumerate(self.sites):
            self.control.clear_faults(site["name"])
            self.control.set_host(site["name"])
            with self.all_managed(number) as vms:
                for vm in vms:
                    if vm.runtime.powerState != "poweredOff":
                        WaitForTask(vm.PowerOffVM_Task())
                    try:
                        WaitForTask(vm.Destroy_Task())
                    except vim.fault.FileFault:  # a test has broken its disk
                        vm.UnregisterVM()

    def vm_names(self, number: int) -> list[str]:
        return sorted(
            v["name"] for v in self.control.do("list_vms", site=self.sites[number]["name"])
        )

    @contextmanager
    def datastore_left(self, number: int, name: str, left: int) -> Iterator[None]:
        """Inside, the datastore has only `left` bytes free."""
        site = self.sites[number]["name"]
        with self.connect(number) as session:
            (store,) = [d for d in session.datastores() if d.name == name]
            # The lab has summed it up a moment ago; a setting makes it look again.
            self.control.set_datastore(site, name, capacity=store.capacity_bytes)
            (store,) = [d for d in session.datastores() if d.name == name]
        used = store.capacity_bytes - store.free_bytes
        self.control.set_datastore(site, name, capacity=used + left)
        try:
            yield
        finally:
            self.control.set_datastore(site, name, capacity=store.capacity_bytes)

    def job(self, vm: str, **changes: Any) -> Job:
        settings: dict[str, Any] = {
            "name": f"job-{vm}",
            "source": self.endpoint(0),
            "source_vm": vm,
            "destination": self.endpoint(1),
            "placement": Placement(datastore=self.sites[1]["datastores"][0], name=f"{vm}-replica"),
            "state_dir": self.work / "state",
            "vddk": self.vddk,
            # The same suite over NFC: VREPLICA_TEST_TRANSPORT=nfc.
            "transport": Transport(os.environ.get("VREPLICA_TEST_TRANSPORT", "auto")),
        }
        return Job(**{**settings, **changes})

    def file(self, number: int, path: str) -> Path:
        """The file behind `[datastore] dir/disk.vmdk`."""
        match = re.fullmatch(r"\[(.+?)\] (.+)", path)
        assert match is not None
        return self.folder / self.sites[number]["name"] / match[1] / match[2]

    def write(self, vm: str, key: int, offset: int, data: bytes) -> None:
        """As the guest of a running VM would."""
        self.control.guest_write(self.here, vm, key, offset, data)

    def image(self, number: int, disk_path: str, target: Path) -> Path:
        """A disk with its whole chain as a raw file, made by qemu-img."""
        source = self.file(number, disk_path)
        command = [self.qemu_img, "convert", "-f", "vmdk", "-O", "raw", str(source), str(target)]
        subprocess.run(command, check=True)
        return target

    def equal(self, left: tuple[int, str], right: tuple[int, str]) -> bool:
        """Are two disks (site, path) equal, as qemu-img sees them?"""
        files = [str(self.file(*left)), str(self.file(*right))]
        command = [self.qemu_img, "compare", "-f", "vmdk", "-F", "vmdk", *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    def point_disks(self, job: Job, snapshot: str) -> dict[int, str]:
        """Paths of a recovery point's disks by key."""
        with connect(job.destination) as session:
            found = session.read_snapshot(session.find_vm(job.placement.name), snapshot)
            return {d.key: d.path for d in found.disks}

    def run_and_compare(self, job: Job) -> tuple[RunReport, list[bool]]:
        """Run; before the source's snapshot goes, let qemu-img compare it with the new point."""
        results: list[bool] = []

        def listener(event: ReplicationEvent) -> None:
            if isinstance(event, Step) and event.name == "release":
                (snapshot,) = self.source_snapshots(job.source_vm)
                with self.connect(0) as session:
                    vm = session.find_vm(job.source_vm)
                    frozen = session.read_snapshot(vm, snapshot.moref)
                newest = points(job)[-1]
                replica = self.point_disks(job, newest.snapshot or "")
                results.extend(
                    self.equal((0, d.path), (1, replica[d.key]))
                    for d in frozen.disks
                    if d.key in replica
                )

        return run(job, listener=listener), results

    def run_and_kill(
        self, job: Job, place: str, folder: Path, checkpoint_s: float | None = None
    ) -> int:
        """A run in a process of its own, killed at a place that runner.py knows."""
        script, data = Path(__file__).with_name("runner.py"), folder / "job.pickle"
        data.write_bytes(pickle.dumps((job, place, checkpoint_s)))
        done = subprocess.run(
            [sys.executable, str(script), str(data)], timeout=120, check=False, capture_output=True
        )
        assert done.returncode in (-9, 0), done.stderr.decode()
        return done.returncode

    def source_snapshots(self, vm: str) -> tuple[SnapshotInfo, ...]:
        with self.connect(0) as session:
            return session.read_vm(session.find_vm(vm)).snapshots


@pytest.fixture(scope="session")
def started_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a lab that every module of this pytest process uses, one after the other."""
    folder = tmp_path_factory.mktemp("lab")
    vreplica.lab.up(folder)
    yield folder
    vreplica.lab.down(folder)


@pytest.fixture(scope="module")
def world(
    started_lab: Path, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str, str], str]
) -> Iterator[World]:
    work, control = tmp_path_factory.mktemp("work"), LabControl(started_lab)
    sites = vreplica.lab.status(started_lab)["sites"]
    world = World(started_lab, work, control, sites, tool("qemu-img", "qemu-utils"))
    yield world
    world.clear()


@pytest.fixture
def content(tmp_path: Path) -> Callable[..., Path]:
    """`content(64 * MIB, seed)`: a raw file, a third of it filled in clusters."""

    def make(size: int, seed: int = 1) -> Path:
        source = random.Random(seed)
        path = tmp_path / f"content-{seed}-{size}.raw"
        with path.open("wb") as file:
            file.truncate(size)
            filled = 0
            while filled < size // 3:
                length = min(source.choice([1, 4, 16]) * BLOCK, MIB)
                file.seek(source.randrange(0, size - length) // 512 * 512)
                file.write(source.randbytes(length))
                filled += length
        return path

    return make


@pytest.fixture
def postgres() -> Iterator[Callable[..., str]]:
    """`postgres()` starts a server and gives a URL; with `restart=True` it is cut off and back."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        reason = "PostgreSQL is not installed (Debian package postgresql)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    binaries = programs[-1].parent
    folder = Path("/tmp") / f"vreplica-pg-{os.getpid()}"  # its user has to reach it
    folder.mkdir(mode=0o755)
    become = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        become = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def call(*command: object) -> None:
        subprocess.run([*become, *map(str, command)], check=True, cwd="/", capture_output=True)

    def start(*, restart: bool = False) -> str:
        options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
        if restart:
            call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        else:
            call(binaries / "initdb", "-D", data, "-U", "vreplica", "-A", "trust")
        log = folder / "log"
        call(binaries / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
        return f"postgresql://vreplica@127.0.0.1:{port}/postgres"

    yield start
    if data.exists():
        call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)
