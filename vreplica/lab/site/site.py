"""A site: a vCenter with its hosts and datastores, its state and its dispatcher.

    web/https --> Site.answer(request) --> fault rules --> privileges --> method --> flush

Nothing is global: several sites run in one process, and know nothing of each other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.lab.api.managed import ObjectRegistry
from vreplica.lab.api.names import escape_name
from vreplica.lab.api.privileges import require_call_privileges, require_property_privilege
from vreplica.lab.api.properties import read_property
from vreplica.lab.api.sessions import OPEN_PROPERTIES, ApiSessions, Call, CurrentCall
from vreplica.lab.api.soap import Request, Shown
from vreplica.lab.api.tasks import Tasks
from vreplica.lab.api.vmodl import MethodFault, coerce, fault, support, vim, vmodl, wsdl_name
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.context import SiteSettings, SiteSpec
from vreplica.lab.site.faults import DropConnection, FaultRules
from vreplica.lab.site.state_db import StateDb
from vreplica.lab.storage.datastore_names import PATH_FIELDS, DatastoreNames, datacenter_of
from vreplica.lab.storage.disks import DiskFiles
from vreplica.lab.storage.paths import HOSTS_MAP, update_hosts_map
from vreplica.lab.vm.orphan_files import OrphanFiles

log = logging.getLogger("vreplica.lab")

_RECORDED = frozenset({"ShutdownGuest", "RebootGuest", "StandbyGuest", "UnregisterVM"})
"""Calls that are no tasks, and that vCenter lists as recent tasks nevertheless."""


class Site(ObjectRegistry):
    """Made by `vcenter.build.open_site`, which also sets `root_folder`, `task_manager`, ..."""

    root_folder: Any
    content: Any
    task_manager: Any
    event_manager: Any
    datacenter: Any
    vm_folder: Any
    cluster: Any
    datacenters: list[Any]
    clusters: list[Any]
    host_servers: Any

    def __init__(self, directory: Path, spec: SiteSpec, certificate: ServerCertificate) -> None:
        super().__init__()
        self.directory = directory
        self.spec = spec
        self.name = spec.name
        self.certificate = certificate
        self.stopping = False
        self.settings = SiteSettings()
        self.faults = FaultRules(self)
        self.restart: Callable[[], None] = lambda: None
        directory.mkdir(parents=True, exist_ok=True)
        self.state_db = StateDb(directory / "state.db")
        self._calls = CurrentCall(self)
        self._ids = threading.Lock()
        meta = self.state_db.meta()
        self._next_id = int(meta.get("next_id", 1000)) + 1
        self.instance_uuid: str = meta.get("instance_uuid", "")
        self.settings.change(**meta.get("settings", {}))
        self.started = self.now()
        self.names = DatastoreNames()
        self.datacenters, self.clusters = [], []
        self.disks = DiskFiles(self)
        self.orphan_files = OrphanFiles(self)
        self.faults.restore(meta.get("faults", {}))
        self.nfc_faults: dict[str, Any] = meta.get("nfc_faults", {})
        """Fault rules of the hosts' NFC servers, by host id: `NfcFaultRules.saved_state`."""
        self.sessions = ApiSessions(self)
        self.tasks = Tasks(self)
        self.conflicts: list[dict[str, Any]] = []
        """Conflicts of MAC and IP addresses since the start (guest.network)."""
        self.users: dict[str, dict[str, Any]] = {
            spec.user: {"password": spec.password, "privileges": None},
            **meta.get("users", {}),
        }

    # -- state ------------------------------------------------------------------------------

    def new_id(self, prefix: str) -> str:
        """An id that was never used, also not before a restart.

        The stored counter is ahead by up to 1000, so it is written once in a thousand ids.
        """
        with self._ids:
            number = self._next_id
            self._next_id += 1
            if number % 1000 == 1 or not hasattr(self, "_kept"):
                self._kept = True
                self.save_values(next_id=number + 1000)
        return f"{prefix}-{number}"

    def save_values(self, **values: Any) -> None:
        """Stores site-wide values at once."""
        self.state_db.flush(self, values)

    def change_settings(self, **values: Any) -> None:
        self.settings.change(**values)
        self.disks.write_library_limits()
        self.save_values(settings=asdict(self.settings))

    def set_user(self, user: str, password: str, privileges: list[str] | None) -> None:
        """Adds a user. `privileges` None: all of them."""
        self.users[user] = {"password": password, "privileges": privileges}
        self.save_values(users={u: v for u, v in self.users.items() if u != self.spec.user})

    def flush(self) -> None:
        self.state_db.flush(self)

    @property
    def current(self) -> Call:
        """The call that the running thread answers."""
        return self._calls.get()

    def answering(self, call: Call) -> AbstractContextManager[None]:
        return self._calls.answering(call)

    def now(self) -> datetime:
        """The time by this vCenter's clock. Each host has a clock of its own: `Host.now`."""
        return datetime.now(UTC) + timedelta(seconds=self.settings.clock_ahead_s)

    # -- finding ----------------------------------------------------------------------------

    def vms(self) -> list[Any]:
        return [o for o in list(self.objects.values()) if isinstance(o, vim.VirtualMachine)]

    def find_vm(self, name: str) -> Any:
        """By name, plain or escaped, or by moref. Raises ValueError."""
        found = [v for v in self.vms() if v.name == escape_name(name) or v._moId == name]
        if len(found) != 1:
            raise ValueError(f"{self.name} has {len(found)} VMs called {name}")
        return found[0]

    def hosts(self) -> list[Any]:
        return [host for cluster in self.clusters for host in cluster.host]

    def datastore(self, folder: str) -> Any:
        """The datastore whose files are in this folder. Raises InvalidDatastore."""
        found = self.names.by_folder.get(folder)
        if found is None:
            text = f"Invalid datastore '{folder}'."
            raise fault(vim.fault.InvalidDatastore, text, name=folder)
        return found

    def find_datastore(self, name: str) -> Any:
        """By name or moref, or by the name that it was made with. Raises ValueError."""
        every = list(self.names.by_folder.values())
        found = [d for d in every if name in (d.name, d._moId)]
        found = found or [d for d in every if d.folder == name]
        if len(found) != 1:
            raise ValueError(f"{self.name} has {len(found)} datastores called {name}")
        return found[0]

    def datastores_changed(self) -> None:
        """A datastore came, went, or has another name, which is in the paths of every answer."""
        with self.changed:
            stores = [o for o in self.objects.values() if isinstance(o, vim.Datastore)]
            self.names.refresh(stores, len(self.datacenters))
            if self.names.active:
                for item in list(self.objects.values()):
                    item.__dict__["_cache"] = {}
                for vm in self.vms():
                    vm.touch()
        self.write_hosts_map()

    def write_hosts_map(self) -> None:
        """Tells the native library the names of the datastores."""
        spec = self.spec
        update_hosts_map(
            self.directory.parent / HOSTS_MAP,
            f"{spec.host}\t{spec.port}",
            {d.name: self.directory / d.folder for d in reversed(self.names.by_folder.values())},
        )

    @property
    def shown_text(self) -> Shown | None:
        """How paths are shown to clients. None: as they are stored."""
        return self._shown_text if self.names.active else None

    def _shown_text(self, field: str, text: str) -> str:
        return self.names.outgoing(text) if field in PATH_FIELDS else text

    def choose_host(self, pool: Any, host: Any) -> Any:
        """The host for a VM: the given one, or the only one of the cluster."""
        if host is not None:
            return host
        hosts = pool.owner.host
        if len(hosts) > 1:
            # Without DRS, vCenter makes the caller choose.
            raise fault(
                vmodl.fault.InvalidArgument,
                "A specified parameter was not correct: host",
                invalidProperty="host",
            )
        return hosts[0]

    # -- events -----------------------------------------------------------------------------

    def post_event(self, kind: str, **fields: Any) -> None:
        self.event_manager.post(kind, **fields)

    def post_vm_event(self, kind: str, vm: Any, message: str, **fields: Any) -> None:
        """Adds an event about a VM, with its host and its datacenter."""
        events = vim.event
        datacenter = datacenter_of(vm) or self.datacenter
        self.event_manager.post(
            kind,
            message=f"{message} on {vm.host.name} in {datacenter.name}",
            vm=events.VmEventArgument(vm=vm, name=vm.name),
            host=events.HostEventArgument(host=vm.host, name=vm.host.name),
            datacenter=events.DatacenterEventArgument(datacenter=datacenter, name=datacenter.name),
            **fields,
        )

    # -- dispatch ---------------------------------------------------------------------------

    def answer(self, call: Call, request: Request) -> Any:
        """Runs a call. Its changes are stored when it returns. Raises vmodl faults only."""
        try:
            with self.answering(call):
                try:
                    self.faults.before_call(call, request)
                    value = self._run(call, request)
                finally:
                    self.flush()
                self.faults.after_call(call, request)
                return value
        except (MethodFault, DropConnection):
            raise
        except VReplicaError as error:
            log.warning("%s: %s", request.method.name, error)
            text = f"A general system error occurred: {error}"
            raise fault(vmodl.fault.SystemError, text, reason=text) from error
        except Exception as error:
            log.exception("%s failed", request.method.name)
            text = f"A general system error occurred: {type(error).__name__}: {error}"
            raise fault(vmodl.fault.SystemError, text, reason=text) from error

    def _run(self, call: Call, request: Request) -> Any:
        method, this = request.method, request.this
        if method.name == "Fetch":
            return self._fetch(call, this, request.arguments[0])
        function = getattr(type(this), method.name)
        if isinstance(function, support.ManagedMethod):
            raise fault(
                vmodl.fault.NotSupported,
                f"{wsdl_name(type(this))}.{method.name} is not in the lab",
            )
        require_call_privileges(self, call, method, this, request.arguments)
        owner = this.vm if isinstance(this, vim.vm.Snapshot) else this
        on_host = method.is_task or method.name == "QueryChangedDiskAreas"
        if on_host and isinstance(owner, vim.VirtualMachine):
            owner.host.require_connected()
        arguments = list(request.arguments)
        if self.names.active:
            arguments = self.names.read(method, this, arguments)
        while arguments and arguments[-1] is None:
            arguments.pop()
        if method.is_task:
            return self.tasks.start(method, this, function, arguments)
        if method.name not in _RECORDED:
            return function(this, *arguments)
        try:
            value = function(this, *arguments)
        except MethodFault as error:
            self.tasks.record_finished(method.name, this, error)
            raise
        self.tasks.record_finished(method.name, this)
        return value

    def _fetch(self, call: Call, this: Any, name: str) -> Any:
        """The call by which pyVmomi reads an attribute. The answer has the declared type."""
        if call.session is None and (wsdl_name(type(this)), name) not in OPEN_PROPERTIES:
            raise call.not_authenticated()
        require_property_privilege(self, call.user, this, name)
        value, kind = read_property(this, name)
        return coerce(kind, value)
