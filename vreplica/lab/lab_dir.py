"""The folder of a lab: its files, and how they are written when the lab is made.

DIR/lab.json           sites with url, user, password, thumbprints; mode 0600
    hosts.map          for the native library: the sites, and the folders of their datastores
    vixdisklib.conf    configuration file of the native library: vreplica.lab.root=DIR
    jobs.toml          a job file to start from; SITE.password beside it, mode 0600
    control.sock       the socket of LabControl
    lab.pid, lab.log   of the lab's process
    site-a/site.pem    certificate and key
           state.db    inventory, tasks, events
           ds1/...     the files of a datastore
           ds1.host    for the native library: the capacity, and whether writes are tracked
"""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vreplica.errors import ConfigError
from vreplica.files import make_private_folder
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.context import SiteSpec
from vreplica.lab.nfc.profile import HostProfile

CONFIG = "lab.json"
SOCKET = "control.sock"
PID = "lab.pid"
LOG = "lab.log"
USER = "administrator@vsphere.local"


@dataclass(eq=False)
class NoLab(ConfigError):
    """Raised for a folder without a lab.json."""

    template = "there is no lab in {directory}"
    remedy = "Make one: `vreplica-sync lab up --dir {directory}`."
    directory: str


@dataclass(eq=False)
class LabExists(ConfigError):
    """Raised where a lab is to be made in the folder of another one."""

    template = "there is a lab in {directory} already"
    remedy = "Start it with `vreplica-sync lab up --dir {directory}`, or choose another folder."
    directory: str


@dataclass(frozen=True)
class LabDir:
    """The folder of an existing lab."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / CONFIG

    @property
    def socket(self) -> Path:
        return self.directory / SOCKET

    def specs(self) -> list[SiteSpec]:
        """What each site was made with. Raises NoLab."""
        values: list[dict[str, Any]] = [s["spec"] for s in self.read()["sites"]]
        return [SiteSpec(**{k: _listed(v) for k, v in spec.items()}) for spec in values]

    def read(self) -> dict[str, Any]:
        """The content of lab.json. Raises NoLab."""
        try:
            return json.loads(self.config.read_text())  # type: ignore[no-any-return]
        except (OSError, ValueError):
            raise NoLab(directory=str(self.directory)) from None

    def certificate(self, site: str) -> ServerCertificate:
        return ServerCertificate.load(self.directory / site / "site.pem")


def _listed(value: Any) -> Any:
    """A list from JSON, which has no tuples, as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def free_port(host: str) -> int:
    """A TCP port that is free now, and that the system gives to nobody who asks for any.

    A lab keeps its ports while it is stopped. Linux takes the ports of outgoing connections from
    32768 upwards (net.ipv4.ip_local_port_range).
    """
    for _ in range(100):
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def create(
    directory: Path,
    *,
    sites: tuple[str, ...] = ("site-a", "site-b"),
    host: str = "127.0.0.1",
    ports: dict[str, int] | None = None,
    datastores: tuple[str, ...] = ("ds1", "ds2"),
    hosts: int = 1,
    portgroups: tuple[str, ...] = (),
    networks: tuple[str, ...] = ("VM Network",),
    isolated: tuple[str, ...] = ("Isolated",),
    releases: dict[str, tuple[str, ...]] | None = None,
    bare_hosts: tuple[str, ...] = (),
    user: str = USER,
    password: str | None = None,
) -> LabDir:
    """Makes the folder of a new lab. Raises LabExists, ValueError.

    `releases`: by site, the ESXi releases of its hosts (lab.nfc.profile.RELEASES).
    `bare_hosts`: sites that are one ESXi host without a vCenter.
    """
    releases = releases or {}
    if unknown := {*releases, *bare_hosts} - {*sites}:
        raise ValueError(f"no such site: {', '.join(sorted(unknown))}")
    for release in {name for names in releases.values() for name in names}:
        HostProfile.of(release)
    directory = directory.absolute()
    lab_dir = LabDir(directory)
    if lab_dir.config.exists():
        raise LabExists(directory=str(directory))
    make_private_folder(directory)
    entries, records = [], []
    for name in sites:
        certificate = ServerCertificate.create(directory / name / "site.pem", name, host)
        spec = SiteSpec(
            name=name,
            host=host,
            port=(ports or {}).get(name) or free_port(host),
            user=user,
            password=password or secrets.token_urlsafe(12),
            datastores=tuple(f"{name}-{d}" for d in datastores),
            hosts=1 if name in bare_hosts else max(hosts, len(releases.get(name, ()))),
            portgroups=tuple(portgroups),
            networks=tuple(networks),
            isolated=tuple(isolated),
            releases=tuple(releases.get(name, ())),
            bare_host=name in bare_hosts,
        )
        entries.append(
            {
                "name": name,
                "url": f"https://{host}:{spec.port}/sdk",
                "host": host,
                "port": spec.port,
                "user": user,
                "password": spec.password,
                "sha256": certificate.thumbprints.sha256,
                "sha1": certificate.thumbprints.sha1,
                "datastores": list(spec.datastores),
                "spec": asdict(spec),
            }
        )
        at = f"{host}\t{spec.port}"
        records.append(f"vcenter\t{at}\t{certificate.thumbprints.sha1}\t{user}\t{spec.password}")
        for datastore in spec.datastores:
            (directory / name / datastore).mkdir(parents=True, exist_ok=True)
            records.append(f"datastore\t{at}\t{datastore}\t{directory / name / datastore}")
        _write_secret(directory / f"{name}.password", spec.password + "\n")
    _write_secret(directory / "hosts.map", "".join(r + "\n" for r in records))
    (directory / "vixdisklib.conf").write_text(f"vreplica.lab.root={directory}\n")
    (directory / "jobs.toml").write_text(jobs_toml(entries))
    _write_secret(lab_dir.config, json.dumps({"version": 1, "sites": entries}, indent=2) + "\n")
    return lab_dir


def jobs_toml(entries: list[dict[str, Any]]) -> str:
    """A job file with all sites, and a job that replicates `web01` from the first to the second."""
    lines = ['state_dir = "state"', "", "[vddk]", 'config = "vixdisklib.conf"']
    for site in entries:
        lines += [
            "",
            f"[sites.{site['name']}]",
            f'host = "{site["host"]}"',
            f"port = {site['port']}",
            f'user = "{site["user"]}"',
            f'password = {{ file = "{site["name"]}.password" }}',
            f'sha256 = "{site["sha256"]}"',
        ]
    if len(entries) > 1:
        first, second = entries[:2]
        lines += [
            "",
            "[jobs.web01]",
            f'source = {{ site = "{first["name"]}", vm = "web01" }}',
            (
                f'destination = {{ site = "{second["name"]}", name = "web01-replica", '
                f'datastore = "{second["datastores"][0]}" }}'
            ),
        ]
    return "\n".join(lines) + "\n"


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
