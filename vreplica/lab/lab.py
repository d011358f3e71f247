"""Runs a lab in this process: its sites, their HTTPS endpoints, and the control socket.

lab = Lab.create(tmp_path)
with lab:                                   start() ... stop()
    control = LabControl(tmp_path)
    vm = control.create_vm("site-a", "web01", disks=[Disk(64 << 20)])
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any, Self

from vreplica.lab import lab_dir
from vreplica.lab.control import ControlServer
from vreplica.lab.lab_dir import LabDir
from vreplica.lab.site.site import Site
from vreplica.lab.vcenter.build import open_site, recover_site
from vreplica.lab.web.folder import DatastoreFiles
from vreplica.lab.web.https import HttpsServer


class Lab:
    """A lab in an existing folder. Raises NoLab where the folder holds none; see `create`."""

    def __init__(self, directory: str | Path) -> None:
        self.dir = LabDir(Path(directory).absolute())
        self.specs = self.dir.specs()
        self.sites: dict[str, Site] = {}
        self.stopped = threading.Event()
        self._servers: dict[str, HttpsServer] = {}
        self._control: ControlServer | None = None

    @classmethod
    def create(cls, directory: str | Path, **options: Any) -> Self:
        """Makes a lab in a folder. The options are those of `lab_dir.create`."""
        lab_dir.create(Path(directory), **options)
        return cls(directory)

    @property
    def directory(self) -> Path:
        return self.dir.directory

    def start(self) -> None:
        """Starts all sites. What a kill interrupted is finished before clients can connect."""
        for spec in self.specs:
            site = open_site(self.directory / spec.name, spec, self.dir.certificate(spec.name))
            self.sites[spec.name] = site
            recover_site(site)
            site.restart = partial(self.restart_site, spec.name)
            site.host_servers.start()
        for name in self.sites:
            self.listen(name)
        self._control = ControlServer(self)
        self._control.serve()

    def listen(self, name: str) -> None:
        """Opens the HTTPS endpoint of a site."""
        site = self.sites[name]
        server = HttpsServer(site, DatastoreFiles(site))
        self._servers[name] = server
        server.serve()

    def server(self, name: str) -> HttpsServer:
        """The HTTPS endpoint of a site."""
        return self._servers[name]

    def restart_site(self, name: str) -> None:
        """Restarts a vCenter: connections and sessions are lost, its state is not."""
        site = self.sites[name]
        self._shut(name)
        site.sessions.close_all()
        site.stopping = False
        self.listen(name)

    def cut_off(self, name: str) -> None:
        """Cuts the network to a site: no port answers. Its VMs and tasks go on."""
        server = self._servers.pop(name, None)
        if server is not None:
            server.stop()
            self.sites[name].host_servers.cut_off()

    def reconnect(self, name: str) -> None:
        """Ends `cut_off`. Sessions are as they were."""
        if name not in self._servers:
            self.sites[name].host_servers.reconnect()
            self.listen(name)

    def _shut(self, name: str) -> None:
        site = self.sites[name]
        site.stopping = True
        with site.changed:
            site.changed.notify_all()
        server = self._servers.pop(name, None)
        if server is not None:
            server.stop()

    def stop(self) -> None:
        """Stops all sites. Their state is kept; running VMs run again at the next start."""
        if self._control is not None:
            self._control.stop()
            self._control = None
        for name, site in self.sites.items():
            self._shut(name)
            site.host_servers.stop()
            site.tasks.join()
            for vm in site.vms():
                vm.chains.close_leaves()
            site.flush()
            site.state_db.close()
        self.sites = {}
        self.stopped.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
