"""A night on the lab: the same steps and the same witness, with real vCenters, files and disks.

    LabSite ──► LabVm ──► LabDisk      as NightSite, NightVm and Disk, by the lab itself
    on_the_lab                         the product as it is; only its waiting is short

The witness looks into the lab, past its vCenters: at its own VMs, and for what a guest wrote at
the files of the datastores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.support.night import Layers, Night
from tests.support.night_site import OFF, ON, Host
from tests.support.night_steps import RandomNight
from vreplica.failover import vsphere_ports
from vreplica.failover.machine import journal, runner
from vreplica.failover.machine.context import StepContext
from vreplica.lab import Lab, LabControl
from vreplica.sync.claim import claim, held_claim
from vreplica.units import MIB
from vreplica.vsphere.connection.link import ServerLink
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session

KEY = 2000


class Files:
    """Disk files; something is on them where its bytes are in one of them."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def has(self, text: bytes) -> bool:
        return any(text in file.read_bytes() for file in self.files if file.exists())


class LabDisk:
    """The disk of a VM as it is now: its link, and the links below."""

    def __init__(self, site: LabSite, vm: LabVm) -> None:
        self.site, self.vm = site, vm

    @property
    def content(self) -> Layers:
        self.site.flush(self.vm)
        told = self.vm.told
        disk, links = told["disks"][0], told["links"]
        folder, path, files = Path(disk["file"]).parent, disk["path"], list[Path]()
        while path:
            stem = Path(path.rpartition("/")[2]).stem
            files += [f for f in folder.glob(f"{stem}*.vmdk") if _is_of(f, stem)]
            path = links.get(path)
        return Files(files)

    def write(self, at: int, data: bytes) -> None:
        self.site.control.guest_write(self.site.name, self.vm.ref.name, KEY, at, data)
        self.site.flush(self.vm)


def _is_of(file: Path, stem: str) -> bool:
    """The descriptor of a link, or its extent."""
    rest = file.stem.removeprefix(stem)
    return rest in ("", "-flat", "-delta", "-sesparse")


class LabVm:
    def __init__(self, site: LabSite, name: str) -> None:
        self.site = site
        self.ref = VmRef(self.told_of(site, name)["moref"], name)
        self.disks = {KEY: LabDisk(site, self)}

    @staticmethod
    def told_of(site: LabSite, name: str) -> dict[str, Any]:
        return site.control.describe_vm(site.name, name)

    @property
    def told(self) -> dict[str, Any]:
        return self.told_of(self.site, self.ref.name)

    @property
    def inside(self) -> Any:
        """The lab's own object of it."""
        return self.site.lab.sites[self.site.name].find_vm(self.ref.name)

    @property
    def power(self) -> str:
        return str(self.told["power"])

    @property
    def on(self) -> bool:
        return self.power == ON

    @property
    def extra(self) -> dict[str, str]:
        return {o.key: o.value for o in self.inside.config.extraConfig}

    @property
    def snapshots(self) -> list[Any]:
        """Oldest first."""

        def below(trees: Any) -> Iterator[Any]:
            for tree in trees:
                info = SimpleNamespace(name=tree.name, moref=tree.snapshot._moId)
                yield tree.id, SimpleNamespace(info=info)
                yield from below(tree.childSnapshotList)

        found = self.inside.snapshot
        trees = below(found.rootSnapshotList) if found is not None else ()
        return [snapshot for _, snapshot in sorted(trees, key=lambda pair: pair[0])]

    @property
    def current(self) -> str | None:
        found = self.inside.snapshot
        return found.currentSnapshot._moId if found is not None else None

    @property
    def hangs(self) -> bool:
        return bool(self.told["guest"]["shutdown"] == "hangs")

    @hangs.setter
    def hangs(self, hangs: bool) -> None:
        self._set(shutdown="hangs" if hangs else "works")

    @property
    def tools(self) -> bool:
        return bool(self.told["guest"]["tools"] == "running")

    @tools.setter
    def tools(self, there: bool) -> None:
        self._set(tools="running" if there else "notInstalled")

    def _set(self, **values: Any) -> None:
        self.site.control.set_guest(self.site.name, self.ref.name, **values)


class LabPlace:
    def __init__(self, site: LabSite) -> None:
        self.name, self.host, self.witness = site.name, Host.UP, None
        self._site, self._up = site, True

    @property
    def up(self) -> bool:
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        if up != self._up:
            act = self._site.control.reconnect if up else self._site.control.cut_off
            act(self.name)
        self._up = up


class LabSite:
    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.control = LabControl(lab.directory)
        self.place = LabPlace(self)
        self.writers: dict[str, Any] = {}

    @property
    def vm(self) -> LabVm | None:
        found = self.control.do("list_vms", site=self.name)
        assert len(found) < 2
        return LabVm(self, found[0]["name"]) if found else None

    @property
    def usable(self) -> bool:
        return self.place.up and self.place.host is Host.UP

    def set_host(self, host: Host) -> None:
        if host is self.place.host:
            return
        vm = self.vm
        if host is Host.DOWN and vm is not None and vm.on:
            self.set_power(vm, OFF)
        self.control.set_host(self.name, connected=host is Host.UP)
        self.place.host = host

    def set_power(self, vm: LabVm, power: str) -> None:
        self.control.power(self.name, vm.ref.name, on=power == ON)

    def flush(self, vm: LabVm) -> None:
        if vm.on:
            self.control.guest_flush(self.name, vm.ref.name)

    def every_disk(self) -> list[Any]:
        """All files of the site's datastores, as one."""
        if (vm := self.vm) is not None:
            self.flush(vm)
        folder = self.lab.directory / self.name
        return [SimpleNamespace(content=Files(list(folder.rglob("*.vmdk"))))]


class LabNight(RandomNight):
    """A night on a running lab, which has no VM yet."""

    def __init__(self, folder: Path, seed: int, lab: Lab) -> None:
        self.lab = lab
        text = (lab.directory / "jobs.toml").read_text().replace("web01", "web")
        for file in ("vixdisklib.conf", "site-a.password", "site-b.password"):
            text = text.replace(f'"{file}"', f'"{lab.directory / file}"')
        self.job_file = text
        super().__init__(folder, seed)

    def make_sites(self) -> tuple[Any, Any]:
        here, there = LabSite(self.lab, "site-a"), LabSite(self.lab, "site-b")
        here.control.create_vm(
            "site-a", "web", disks=[(MIB, True, None)], guest_id="debian12_64Guest", power_on=True
        )
        return here, there

    def remember(self) -> None:
        """Not possible here: a file below a link may hold what the link has overwritten."""

    def site_of(self, session: Session) -> Any:
        ports = {spec.port: spec.name for spec in self.lab.specs}
        name = ports[session.endpoint.port]
        return self.here if name == self.here.place.name else self.there


@contextmanager
def on_the_lab(night: LabNight) -> Iterator[None]:
    """Everything is real but the clocks' waiting, and the process's end."""
    ticks = itertools.count()

    def steps(*args: Any, **kwargs: Any) -> StepContext:
        return StepContext(
            *args,
            clock=lambda: float(next(ticks) * 20),
            sleep=lambda _: time.sleep(0.05),
            **kwargs,
        )

    def is_gone(process: str) -> bool:
        same = process.partition("/")[0] == night.acting.name
        return same and process in night.ended_processes

    real_run = ServerLink._run

    def run(link: ServerLink, *args: Any, **more: Any) -> Any:
        night.acting.steps()
        answer = real_run(link, *args, **more)
        night.acting.steps()
        return answer

    def told(method: str, tell: Callable[[Any, Any], None]) -> Callable[..., Any]:
        real = getattr(Session, method)

        def call(session: Session, *args: Any, **more: Any) -> Any:
            site = night.site_of(session)
            vm = site.vm
            if site.usable and vm is not None and vm.on is not (method == "power_on"):
                tell(site, vm)
            return real(session, *args, **more)

        return call

    impatient = SimpleNamespace(
        monotonic=lambda: float(next(ticks) * 100), sleep=lambda _: None, time=time.time
    )
    with ExitStack() as stack:
        for target, name, value in (
            (claim, "this_process", lambda: night.acting.process),
            (claim, "is_gone", is_gone),
            (held_claim, "this_process", lambda: night.acting.process),
            (runner, "StepContext", steps),
            (journal, "time", impatient),
            (vsphere_ports, "time", impatient),
            (ServerLink, "_run", run),
            (Session, "power_on", told("power_on", night.before_start)),
            (Session, "power_off", told("power_off", stop_by(night, "power off"))),
            (Session, "shutdown_guest", told("shutdown_guest", stop_by(night, "shut down"))),
            (Session, "revert_to_snapshot", told("revert_to_snapshot", stop_by(night, "revert"))),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        yield


def stop_by(night: Night, how: str) -> Callable[[Any, Any], None]:
    return lambda site, vm: night.before_stop(site, vm, how)
