"""Serves LabControl: what tests change in a running lab, beside the vSphere API.

    request   one line of JSON {"do": name, ...}, "payload": n -> n bytes follow
    answer    one line of JSON {"ok": ...} or {"error": text}, "payload": n -> n bytes follow

The Unix socket is DIR/control.sock, mode 0600. The client is `vreplica.lab.client`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socketserver
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vreplica.errors import VReplicaError
from vreplica.lab.api.vmodl import MethodFault
from vreplica.lab.guest.network import record_conflicts
from vreplica.lab.lab_dir import SOCKET
from vreplica.lab.nfc import HostProfile, NfcFaultRule
from vreplica.lab.site.faults import FaultRule
from vreplica.lab.vcenter.build import add_cluster
from vreplica.lab.vcenter.environment import NEWEST_OF
from vreplica.lab.vcenter.make_vm import make_vm
from vreplica.lab.vm.files import nvram_path

if TYPE_CHECKING:
    from vreplica.lab.guest.database import GuestApp

log = logging.getLogger("vreplica.lab.control")

LINE_MAX = 1 << 20
PAYLOAD_MAX = 256 << 20

Answer = tuple[Any, bytes]


class ControlledLab(Protocol):
    """The lab, as its control socket sees it."""

    sites: dict[str, Any]

    @property
    def directory(self) -> Path: ...
    def stop(self) -> None: ...
    def server(self, name: str) -> Any: ...
    def restart_site(self, name: str) -> None: ...
    def cut_off(self, name: str) -> None: ...
    def reconnect(self, name: str) -> None: ...


class Commands:
    """The commands: each public method is one, with its arguments by name."""

    def __init__(self, lab: ControlledLab) -> None:
        self.lab = lab
        self._apps: dict[str, GuestApp] = {}

    def _vm(self, site: str, vm: str) -> Any:
        return self._site(site).find_vm(vm)

    def _site(self, site: str) -> Any:
        if site not in self.lab.sites:
            raise ValueError(f"no such site: {site}; known: {', '.join(self.lab.sites)}")
        return self.lab.sites[site]

    def ping(self) -> Any:
        return {"pid": os.getpid()}

    def stop(self) -> Any:
        # The answer has to leave first. The client waits until the process has ended.
        threading.Timer(0.05, self.lab.stop).start()
        return {}

    # -- guests -----------------------------------------------------------------------------

    def guest_write(self, site: str, vm: str, disk_key: int, offset: int, payload: bytes) -> Any:
        self._vm(site, vm).chains.write(disk_key, offset, memoryview(payload))
        return {}

    def guest_read(self, site: str, vm: str, disk_key: int, offset: int, size: int) -> Answer:
        return {}, bytes(self._vm(site, vm).chains.read(disk_key, offset, size))

    def guest_flush(self, site: str, vm: str) -> Any:
        self._vm(site, vm).chains.flush()
        return {}

    def set_guest(self, site: str, vm: str, values: dict[str, Any]) -> Any:
        found = self._vm(site, vm)
        found.guest_state.change(**values)
        record_conflicts(found)
        return found.guest_state.settings

    def set_programs(self, site: str, vm: str, programs: dict[str, list[str] | None]) -> Any:
        state = self._vm(site, vm).guest_state
        merged = {**state.settings["programs"], **programs}
        state.change(programs={p: list(c) for p, c in merged.items() if c is not None})
        return sorted(state.settings["programs"])

    def guest_path(self, site: str, vm: str, path: str) -> Any:
        return str(self._vm(site, vm).guest_state.files.path(path))

    def conflicts(self, site: str) -> Any:
        return self._site(site).conflicts

    # -- VMs --------------------------------------------------------------------------------

    def create_vm(self, site: str, name: str, **options: Any) -> Any:
        made = make_vm(self._site(site), name, **options)
        return self.describe_vm(site, made._moId)

    def describe_vm(self, site: str, vm: str) -> Any:
        found = self._vm(site, vm)
        path, shown = found._site.disks.path, found._site.names.outgoing
        disks = [
            {
                "key": d.key,
                "label": d.deviceInfo.label,
                "capacity": d.capacityInBytes,
                "path": shown(d.backing.fileName),
                "file": str(path(d.backing.fileName)),
                "change_id": getattr(d.backing, "changeId", None),
            }
            for d in found.config.hardware.device
            if hasattr(d, "capacityInBytes")
        ]
        return {
            "moref": found._moId,
            "name": found.name,
            "power": found.power,
            "nvram": str(nvram_path(found)),
            "disks": disks,
            "links": {shown(link): below and shown(below) for link, below in found.links.items()},
            "snapshots": [s._moId for s in found.all_snapshots()],
            "guest": found.guest_state.settings,
        }

    def list_vms(self, site: str) -> Any:
        return [
            {"moref": v._moId, "name": v.name, "power": v.power} for v in self._site(site).vms()
        ]

    def set_vm(self, site: str, vm: str, config: dict[str, Any], locked: bool) -> Any:
        found = self._vm(site, vm)
        with found.chains.lock:
            made = found.chains.with_moved_links(found.config, found.links, {})
            _set_fields(made, config)
            found.set(config=made, crypto_locked=locked)
        return {}

    def set_device(self, site: str, vm: str, key: int, values: dict[str, Any]) -> Any:
        found = self._vm(site, vm)
        with found.chains.lock:
            made = found.chains.with_moved_links(found.config, found.links, {})
            device = next((d for d in made.hardware.device if d.key == key), None)
            if device is None:
                raise ValueError(f"{vm} has no device {key}")
            _set_fields(device, values)
            found.config = made
        return {}

    def power(self, site: str, vm: str, on: bool) -> Any:
        found = self._vm(site, vm)
        steps = found.PowerOnVM_Task() if on else found.PowerOffVM_Task()
        for _ in steps:
            pass
        return {}

    # -- the site ---------------------------------------------------------------------------

    def settings(self, site: str, values: dict[str, Any] | None = None) -> Any:
        found = self._site(site)
        if values:
            found.change_settings(**values)
        return asdict(found.settings)

    def step_clock(self, ahead_s: float, site: str | None = None) -> Any:
        for found in [self._site(site)] if site is not None else self.lab.sites.values():
            found.change_settings(clock_ahead_s=ahead_s)
        return {}

    def set_datastore(self, site: str, datastore: str, capacity: int) -> Any:
        self._site(site).find_datastore(datastore).capacity = capacity
        self._site(site).disks.refresh_usage()
        self._site(site).disks.write_library_limits()
        return {}

    def rename_datastore(self, site: str, datastore: str, name: str) -> Any:
        self._site(site).find_datastore(datastore).Rename_Task(name)
        return {}

    def set_host(
        self,
        site: str,
        host: str | None = None,
        connected: bool = True,
        maintenance: bool = False,
        **more: Any,
    ) -> Any:
        found = self._site(site)
        known = {"memory_mib", "threads", "newest_hardware", "missing_guests", "own_devices"}
        known |= {"release", "nfc", "clock_ahead_s"}
        if unknown := more.keys() - known:
            raise ValueError(f"a host has no {', '.join(unknown)}")
        names = [item.name for item in found.hosts()]
        if "release" in more:
            HostProfile.of(more["release"], **(more.get("nfc") or {}))
            more = {"newest_hardware": NEWEST_OF[more["release"]], "nfc": None, **more}
        elif "nfc" in more:
            for item in found.hosts():
                HostProfile.of(item.release, **(more["nfc"] or {}))
        if host is not None and host not in names:
            raise ValueError(f"{site} has no host {host}; it has {', '.join(names)}")
        for item in found.hosts():
            if host is None or item.name == host:
                item.change_connection(connected)
                item.set(**more)
                if "nfc" in more:
                    found.host_servers.refresh(item)
                if item.maintenance != maintenance:
                    item.maintenance = maintenance
                    server = found.host_servers.by_host[item._moId]
                    server.stop() if maintenance else server.start()
        return {}

    def nfc_clients(self, site: str) -> Any:
        found = self._site(site)
        return [
            {"host": host.name, **asdict(announced)}
            for host in found.hosts()
            for announced in list(found.host_servers.by_host[host._moId].announced)
        ]

    def add_cluster(
        self, site: str, name: str, datacenter: str | None = None, **options: Any
    ) -> Any:
        found = self._site(site)
        where = found.datacenter
        if datacenter is not None:
            where = found.content.searchIndex.FindByInventoryPath(datacenter)
            if where is None:
                where = found.root_folder.CreateDatacenter(datacenter)
        made = add_cluster(found, where, name, **{k: _tuple(v) for k, v in options.items()})
        found.host_servers.start()
        return {
            "hosts": [h.name for h in made.host],
            "datastores": [{"name": d.name, "moref": d._moId} for d in made.datastore],
            "networks": [{"name": n.name, "moref": n._moId} for n in made.network],
        }

    def host_power_loss(self, site: str, host: str | None = None) -> Any:
        for item in self._site(site).hosts():
            if host is None or item.name == host:
                for vm in item.vm:
                    vm.lose_power()
        return {}

    # -- application in the guest -----------------------------------------------------------

    def app_start(self, site: str, vm: str, disk_key: int = 2000, seed: int = 0) -> Any:
        try:
            from vreplica.lab.guest.database import GuestApp
        except ModuleNotFoundError:
            raise ValueError(
                "the application in the guest needs apsw: pip install 'vreplica[lab]'"
            ) from None
        found = self._vm(site, vm)
        app = GuestApp(found, disk_key, seed)
        app.start()
        self._apps[found._moId] = app
        return {}

    def app_work(self, site: str, vm: str, transfers: int, write_back: float = 0.0) -> Any:
        app = self._apps[self._vm(site, vm)._moId]
        done = app.work(transfers)
        if write_back:
            app.write_back(write_back)
        return done

    def end_sessions(self, site: str) -> Any:
        self._site(site).sessions.close_all()
        return {}

    def drop_connections(self, site: str) -> Any:
        self._site(site)
        self.lab.server(site).drop_connections()
        return {}

    def restart_site(self, site: str) -> Any:
        self._site(site)
        self.lab.restart_site(site)
        return {}

    def cut_off(self, site: str) -> Any:
        self._site(site)
        self.lab.cut_off(site)
        return {}

    def reconnect(self, site: str) -> Any:
        self._site(site)
        self.lab.reconnect(site)
        return {}

    # -- faults -----------------------------------------------------------------------------

    def add_fault(self, site: str, rule: dict[str, Any]) -> Any:
        return self._site(site).faults.add(FaultRule.make(**rule))

    def list_faults(self, site: str) -> Any:
        return self._site(site).faults.describe()

    def list_nfc_faults(self, site: str) -> Any:
        found = self._site(site)
        return [
            {"host": host.name, **fault, "seen": counts[0], "struck": counts[1]}
            for host in found.hosts()
            for fault, counts in found.host_servers.by_host[host._moId].faults.saved_state()[
                "rules"
            ]
        ]

    def clear_faults(self, site: str, number: int | None = None) -> Any:
        self._site(site).faults.clear(number)
        if number is None:
            for server in self._site(site).host_servers.by_host.values():
                server.faults.clear()
        return {}

    def seed_faults(self, site: str, seed: int) -> Any:
        self._site(site).faults.seed(seed)
        for server in self._site(site).host_servers.by_host.values():
            server.faults.seed(seed)
        return {}

    def add_nfc_fault(self, site: str, rule: dict[str, Any], host: str | None = None) -> Any:
        found = self._site(site)
        hosts = [item for item in found.hosts() if host in (None, item.name)]
        if not hosts:
            raise ValueError(f"no such host: {host}")
        for item in hosts:
            found.host_servers.by_host[item._moId].faults.add(NfcFaultRule.make(**rule))
        return {}

    def set_user(
        self, site: str, user: str, password: str, privileges: list[str] | None = None
    ) -> Any:
        self._site(site).set_user(user, password, privileges)
        return {}


def _set_fields(item: Any, values: dict[str, Any]) -> None:
    known = {info.name for info in item._GetPropertyList()}
    if unknown := values.keys() - known:
        raise ValueError(f"{type(item)._wsdlName} has no {', '.join(sorted(unknown))}")
    for name, value in values.items():
        setattr(item, name, value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class _Handler(socketserver.StreamRequestHandler):
    server: ControlServer

    def handle(self) -> None:
        while line := self.rfile.readline(LINE_MAX):
            answer, payload = self.answer(line)
            answer["payload"] = len(payload)
            try:
                self.wfile.write(json.dumps(answer).encode() + b"\n" + payload)
            except OSError:
                return

    def answer(self, line: bytes) -> tuple[dict[str, Any], bytes]:
        commands = self.server.commands
        try:
            request = json.loads(line)
            size = int(request.pop("payload", 0))
            if not 0 <= size <= PAYLOAD_MAX:
                raise ValueError("the payload is too large")
            data = self.rfile.read(size)
            name = request.pop("do")
            command: Callable[..., Any] | None = getattr(type(commands), name, None)
            if command is None or name.startswith("_"):
                raise ValueError(f"no such command: {name}")
            if size:
                request["payload"] = data
            sites = list(commands.lab.sites.values())
            with contextlib.ExitStack() as work:
                for site in sites:
                    work.enter_context(site.orphan_files.operation())
                value = command(commands, **request)
            for site in sites:
                site.flush()
        except (ValueError, KeyError, TypeError, OSError, VReplicaError) as error:
            return {"error": f"{error}"}, b""
        except MethodFault as error:
            return {"error": f"{type(error)._wsdlName}: {error.msg}"}, b""
        except Exception as error:
            log.exception("command failed")
            return {"error": f"{type(error).__name__}: {error}"}, b""
        if isinstance(value, tuple):
            return {"ok": value[0]}, value[1]
        return {"ok": value}, b""


class ControlServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The listener on the control socket."""

    daemon_threads = True

    def __init__(self, lab: ControlledLab) -> None:
        self.commands = Commands(lab)
        self.folder = lab.directory
        (self.folder / SOCKET).unlink(missing_ok=True)
        super().__init__("", _Handler)

    def server_bind(self) -> None:
        # The name of a Unix socket has at most 107 bytes. Bound through the descriptor of the
        # folder, it is short however long the path of the lab is.
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            before = os.umask(0o177)
            try:
                self.socket.bind(f"/proc/self/fd/{fd}/{SOCKET}")
            finally:
                os.umask(before)
        finally:
            os.close(fd)

    def serve(self) -> None:
        threading.Thread(
            target=self.serve_forever, args=(0.05,), name="lab control", daemon=True
        ).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        (self.folder / SOCKET).unlink(missing_ok=True)
