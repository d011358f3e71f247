"""What the parts of a site may know of their site, and the parts of a VM of their VM.

A `Site` (site/site.py) is put together from its parts, and a `VirtualMachine` (vm/vm.py) from
its own. A part also calls back: a disk asks for the datastore that it lies on, a guest switches
its VM off. Parts name the whole by the protocols below, which import no part, so the imports of
the lab go one way only. Managed objects are `Any`, as everywhere in the lab: their classes come
from pyVmomi at run time.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

LANGUAGES = ("en", "de", "ja")
CBT_BUGS = ("", "drop", "past-end", "empty-page")


@dataclass(frozen=True)
class SiteSpec:
    """What is fixed when a lab is made. Kept in lab.json, so the names of the fields stay."""

    name: str
    host: str
    port: int
    user: str
    password: str
    datastores: tuple[str, ...]
    hosts: int = 1
    portgroups: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("VM Network",)
    isolated: tuple[str, ...] = ("Isolated",)
    """Networks and distributed port groups without an uplink."""
    releases: tuple[str, ...] = ()
    """Releases of the first hosts (lab.nfc.profile.RELEASES); the others have the default."""
    bare_host: bool = False
    """The site is an ESXi host without a vCenter."""


@dataclass
class SiteSettings:
    """What can be changed while the lab runs. Kept in state.db, so the names of the fields stay."""

    page_size: int = 2000
    """Areas in one answer of QueryChangedDiskAreas. Other clients have seen about 2000."""
    session_idle_s: float = 1800.0
    """vCenter ends a session after 30 minutes without a call."""
    task_delay_s: float = 0.0
    """How much longer every task takes."""
    stun_s: float = 0.0
    """How long a running guest is stunned by every snapshot."""
    track_outside_writes: bool = False
    """Whether writes over NFC or VixDiskLib are in the change map. Sources about ESXi disagree."""
    cbt_bug: str = ""
    """A defect in the answers about changed areas: drop, past-end or empty-page."""
    merge_under_reader: bool = True
    """Whether a link is merged or removed while a client reads it over NFC."""
    language: str = "en"
    """The language of labels of devices that are added from now on: en, de or ja."""
    key_provider: str = ""
    """The id of the provider of keys for encryption. Empty: there is none."""
    encryption_policy: str = ""
    """The id of the storage policy that encrypts."""
    nvram_locked: bool = True
    """Whether the NVRAM file of a running VM can neither be read nor written."""
    clock_ahead_s: float = 0.0
    """How far vCenter's clock, and with it those of its hosts, is ahead of this machine's."""
    api_version: str = "8.0.3.0"
    """The newest API version that the site offers, and its own: `9.0.0.0` has 4Kn disks."""

    def change(self, **values: Any) -> None:
        """Raises ValueError for a setting or a value that does not exist."""
        known = {f.name for f in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no such setting: {name}; known: {', '.join(sorted(known))}")
            if name == "cbt_bug" and value not in CBT_BUGS:
                raise ValueError(f"cbt_bug is one of {', '.join(filter(None, CBT_BUGS))}, or empty")
            if name == "language" and value not in LANGUAGES:
                raise ValueError(f"language is one of {', '.join(LANGUAGES)}")
            setattr(self, name, type(getattr(self, name))(value))


class SiteContext(Protocol):
    """The site, as its parts see it."""

    name: str
    directory: Path
    spec: SiteSpec
    settings: SiteSettings
    started: datetime
    stopping: bool
    """The site is shutting down: whatever waits has to give up."""
    instance_uuid: str
    users: dict[str, dict[str, Any]]
    """By name: {"password": text, "privileges": list, or None for all}."""
    conflicts: list[dict[str, Any]]
    nfc_faults: dict[str, Any]
    certificate: Any
    """Of the HTTPS endpoint of the site (lab.certificate.ServerCertificate)."""

    # The parts of the site.
    disks: Any
    names: Any
    """The names of datastores (storage.datastore_names)."""
    faults: Any
    orphan_files: Any
    sessions: Any
    state_db: Any
    tasks: Any
    host_servers: Any

    # Well-known managed objects.
    content: Any
    root_folder: Any
    datacenter: Any
    vm_folder: Any
    cluster: Any
    datacenters: list[Any]
    clusters: list[Any]
    task_manager: Any
    event_manager: Any

    # The registry of managed objects.
    objects: dict[str, Any]
    changed: threading.Condition
    """Held for a change of several objects at once; notified at every change."""
    revision: int

    def touched(self, item: Any) -> None: ...
    def add(self, item: Any) -> Any: ...
    def remove(self, item: Any) -> None: ...
    def lookup(self, moid: str, kind: Any) -> Any: ...
    def new_id(self, prefix: str) -> str: ...

    # State.
    def now(self) -> datetime: ...
    def flush(self) -> None: ...
    def save_values(self, **values: Any) -> None: ...
    def restart(self) -> None: ...

    # Calls.
    @property
    def current(self) -> Any: ...
    def answering(self, call: Any) -> AbstractContextManager[None]: ...
    def post_event(self, kind: str, **fields: Any) -> None: ...
    def post_vm_event(self, kind: str, vm: Any, message: str, **fields: Any) -> None: ...

    # Finding.
    def vms(self) -> list[Any]: ...
    def hosts(self) -> list[Any]: ...
    def datastore(self, folder: str) -> Any: ...
    def datastores_changed(self) -> None: ...
    def choose_host(self, pool: Any, host: Any) -> Any: ...


class VmContext(Protocol):
    """A VM, as its disk chains and its guest see it."""

    _moId: str
    _site: SiteContext
    name: str
    config: Any
    host: Any
    power: str
    boot_time: Any
    shutting_down: bool
    links: dict[str, str]
    guest_settings: dict[str, Any] | None
    customization: Any
    customized: dict[str, Any]

    @property
    def chains(self) -> Any: ...
    @property
    def guest_state(self) -> Any: ...

    def set(self, **values: Any) -> None: ...
    def disks(self) -> list[Any]: ...
    def all_snapshots(self) -> list[Any]: ...
    def halt(self, *, clean: bool) -> None: ...
