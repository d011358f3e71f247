"""LabControl, by which tests and `vreplica-sync lab` change a running lab from inside."""

from __future__ import annotations

import json
import os
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreplica.errors import ConfigError, VReplicaError
from vreplica.lab.lab_dir import SOCKET


@dataclass(eq=False)
class LabRefused(VReplicaError):
    """Raised where a running lab cannot do what a command asks for."""

    template = "the lab cannot do {command}: {reason}"
    command: str
    reason: str


@dataclass(eq=False)
class ScenarioInvalid(ConfigError):
    """Raised for a scenario file that cannot be read."""

    template = "the scenario {path} cannot be used: {reason}"
    remedy = "It is TOML with [[fault]] and [[nfc]] tables, each with its site; see docs/lab.md."
    path: str
    reason: str


@dataclass(eq=False)
class LabNotRunning(VReplicaError):
    """Raised where no process answers on the control socket of a lab."""

    template = "the lab in {directory} does not run"
    remedy = "Start it: `vreplica-sync lab up --dir {directory}`."
    directory: str


class LabControl:
    """Sends commands to a running lab, each over a connection of its own. Thread-safe."""

    def __init__(self, directory: str | Path, timeout_s: float = 120.0) -> None:
        self.directory = Path(directory).absolute()
        self.timeout_s = timeout_s

    def request(self, command: str, payload: bytes = b"", **values: Any) -> tuple[Any, bytes]:
        """Sends a command. Returns (answer, payload). Raises LabRefused, LabNotRunning."""
        message = json.dumps({"do": command, "payload": len(payload), **values}).encode() + b"\n"
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            raise LabNotRunning(directory=str(self.directory)) from None
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(self.timeout_s)
                sock.connect(f"/proc/self/fd/{fd}/{SOCKET}")
                sock.sendall(message + payload)
                with sock.makefile("rb") as answers:
                    line = answers.readline()
                    if not line:
                        raise ConnectionResetError
                    answer = json.loads(line)
                    data = answers.read(answer.get("payload", 0))
        except (ConnectionError, FileNotFoundError):
            raise LabNotRunning(directory=str(self.directory)) from None
        finally:
            os.close(fd)
        if "error" in answer:
            raise LabRefused(command=command, reason=answer["error"])
        return answer["ok"], data

    def do(self, command: str, **values: Any) -> Any:
        """Sends a command without payload, and returns its answer."""
        return self.request(command, **values)[0]

    # -- guests -----------------------------------------------------------------------------

    def guest_write(self, site: str, vm: str, disk_key: int, offset: int, data: bytes) -> None:
        """Writes to a disk as the guest does: tracked, in multiples of 512. The VM must run."""
        self.request("guest_write", data, site=site, vm=vm, disk_key=disk_key, offset=offset)

    def guest_read(self, site: str, vm: str, disk_key: int, offset: int, size: int) -> bytes:
        where: dict[str, Any] = {"site": site, "vm": vm, "disk_key": disk_key}
        return self.request("guest_read", offset=offset, size=size, **where)[1]

    def guest_flush(self, site: str, vm: str) -> None:
        self.do("guest_flush", site=site, vm=vm)

    def set_guest(self, site: str, vm: str, **values: Any) -> dict[str, Any]:
        """Changes settings of a guest, listed in vreplica.lab.guest.guest; returns all of them."""
        found: dict[str, Any] = self.do("set_guest", site=site, vm=vm, values=values)
        return found

    def set_programs(self, site: str, vm: str, programs: dict[str, list[str] | None]) -> None:
        """Sets the programs that guest operations can start.

        `programs`: path in the guest -> command of this machine that is run for it, or None to
        remove the program. See vreplica.lab.guest.files.
        """
        self.do("set_programs", site=site, vm=vm, programs=programs)

    def guest_path(self, site: str, vm: str, path: str) -> Path:
        """The path on this machine of a file in the guest."""
        return Path(self.do("guest_path", site=site, vm=vm, path=path))

    def conflicts(self, site: str) -> list[dict[str, Any]]:
        """MAC and IP addresses that two running VMs had on one network.

        Each is {"network", "kind": "mac" or "ip", "value", "vms"}.
        """
        found: list[dict[str, Any]] = self.do("conflicts", site=site)
        return found

    # -- VMs --------------------------------------------------------------------------------

    def create_vm(
        self,
        site: str,
        name: str,
        disks: list[tuple[int, bool, str | Path | None]] | None = None,
        *,
        guest_id: str = "otherGuest64",
        cpus: int = 1,
        memory_mib: int = 1024,
        power_on: bool = False,
        **more: Any,
    ) -> dict[str, Any]:
        """Makes a VM. `disks`: (capacity in bytes, thin, path of a raw image or None).

        `more`: cbt, datastore, network, firmware, extra (a dict of extraConfig), host, version,
        devices (of tpm, pci, usb, cdrom, serial), encrypted, sector_bytes (512 or 4096).
        Returns what `describe_vm` returns.
        """
        plain = [(c, t, str(Path(p).absolute()) if p else None) for c, t, p in disks or ()]
        found: dict[str, Any] = self.do(
            "create_vm",
            site=site,
            name=name,
            disks=plain,
            guest_id=guest_id,
            cpus=cpus,
            memory_mib=memory_mib,
            power_on=power_on,
            **more,
        )
        return found

    def describe_vm(self, site: str, vm: str) -> dict[str, Any]:
        """moref, name, power, disks (key, path, file, ...), links, snapshots, guest."""
        found: dict[str, Any] = self.do("describe_vm", site=site, vm=vm)
        return found

    def set_vm(
        self, site: str, vm: str, *, config: dict[str, Any] | None = None, locked: bool = False
    ) -> None:
        """Sets fields of `config` as no client can (sevEnabled, ...), and whether its key lacks."""
        self.do("set_vm", site=site, vm=vm, config=config or {}, locked=locked)

    def set_device(self, site: str, vm: str, key: int, **values: Any) -> None:
        """Sets fields of a device as no client can: diskChainBrokenIssue, guestReadOnly, ..."""
        self.do("set_device", site=site, vm=vm, key=key, values=values)

    def power(self, site: str, vm: str, *, on: bool) -> None:
        self.do("power", site=site, vm=vm, on=on)

    # -- the site ---------------------------------------------------------------------------

    def settings(self, site: str, **values: Any) -> dict[str, Any]:
        """Changes settings of a site (context.SiteSettings); returns all of them."""
        found: dict[str, Any] = self.do("settings", site=site, values=values)
        return found

    def step_clock(self, ahead_s: float, *, site: str | None = None) -> None:
        """Steps the clocks of a site, or of all: so many seconds ahead of the machine's, or behind.

        A host's clock moves with its vCenter's; `set_host(clock_ahead_s=...)` sets them apart.
        """
        self.do("step_clock", ahead_s=ahead_s, site=site)

    def set_datastore(self, site: str, datastore: str, *, capacity: int) -> None:
        self.do("set_datastore", site=site, datastore=datastore, capacity=capacity)

    def rename_datastore(self, site: str, datastore: str, name: str) -> None:
        """Renames a datastore, as somebody does in vCenter: every path has the new name then."""
        self.do("rename_datastore", site=site, datastore=datastore, name=name)

    def set_host(
        self,
        site: str,
        *,
        connected: bool = True,
        maintenance: bool = False,
        host: str | None = None,
        **more: Any,
    ) -> None:
        """Sets the state of one host, or of all. In maintenance, a host's port 902 is closed.

        `more`: memory_mib and threads (a VM that needs more does not start), newest_hardware
        ("vmx-19"), missing_guests and own_devices (lists); clock_ahead_s (of its vCenter's clock);
        release ("7.0.3") and nfc, the traits in which its NFC service is not that of the release
        (vreplica.lab.nfc.profile). A release sets newest_hardware and nfc back to its own
        unless they are given too.
        """
        state = {"connected": connected, "maintenance": maintenance, **more}
        self.do("set_host", site=site, host=host, **state)

    def nfc_clients(self, site: str) -> list[dict[str, Any]]:
        """What NFC clients have announced: host, client, operation, version, features each."""
        found: list[dict[str, Any]] = self.do("nfc_clients", site=site)
        return found

    def add_cluster(
        self, site: str, name: str, *, datacenter: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Adds a cluster with hosts, datastores and networks of its own.

        `datacenter`: inventory path of one, or the name of a new one; the first where not given.
        `options`: hosts (a number), datastores, networks, portgroups, isolated (lists of names).
        Returns the names of the hosts, and names and morefs of datastores and networks. A VM is
        made there by `create_vm(host=...)`.
        """
        values: dict[str, Any] = {"site": site, "name": name, "datacenter": datacenter}
        found: dict[str, Any] = self.do("add_cluster", **values, **options)
        return found

    def host_power_loss(self, site: str, host: str | None = None) -> None:
        """Cuts the power of a host, or of all: its VMs go off and their change maps are lost."""
        self.do("host_power_loss", site=site, host=host)

    # -- an application in the guest --------------------------------------------------------

    def app_start(self, site: str, vm: str, disk_key: int = 2000, seed: int = 0) -> None:
        """Starts a SQLite database on a disk of at least 18 MiB. The lab's process needs apsw."""
        self.do("app_start", site=site, vm=vm, disk_key=disk_key, seed=seed)

    def app_work(self, site: str, vm: str, transfers: int, *, write_back: float = 0.0) -> int:
        """Runs transfers, and writes the share `write_back` of the guest's page cache to the disk.

        Returns the number of committed transactions.
        """
        values = {"site": site, "vm": vm, "transfers": transfers, "write_back": write_back}
        done: int = self.do("app_work", **values)
        return done

    def end_sessions(self, site: str) -> None:
        self.do("end_sessions", site=site)

    def drop_connections(self, site: str) -> None:
        self.do("drop_connections", site=site)

    def restart_site(self, site: str) -> None:
        self.do("restart_site", site=site)

    def cut_off(self, site: str) -> None:
        """Cuts the network to a site: vCenter and hosts answer no more, VMs go on."""
        self.do("cut_off", site=site)

    def reconnect(self, site: str) -> None:
        """Ends `cut_off`."""
        self.do("reconnect", site=site)

    # -- faults -----------------------------------------------------------------------------

    def add_fault(self, site: str, **rule: Any) -> int:
        """Adds a fault rule of calls (vreplica.lab.site.faults.FaultRule); returns its number."""
        number: int = self.do("add_fault", site=site, rule=rule)
        return number

    def list_faults(self, site: str) -> list[dict[str, Any]]:
        """The rules, with the number of calls that each has met (`seen`) and failed (`struck`)."""
        found: list[dict[str, Any]] = self.do("list_faults", site=site)
        return found

    def list_nfc_faults(self, site: str) -> list[dict[str, Any]]:
        """The rules of the hosts' NFC servers, likewise."""
        found: list[dict[str, Any]] = self.do("list_nfc_faults", site=site)
        return found

    def clear_faults(self, site: str, number: int | None = None) -> None:
        """Removes one rule. Without a number: all, also those of the hosts' NFC servers."""
        self.do("clear_faults", site=site, number=number)

    def add_nfc_fault(self, site: str, host: str | None = None, **rule: Any) -> None:
        """Adds a fault rule of one host's NFC server or all (vreplica.lab.nfc.faults)."""
        self.do("add_nfc_fault", site=site, host=host, rule=rule)

    def load_scenario(self, path: str | Path) -> int:
        """Adds the fault rules of a scenario file; returns their number.

        seed = 7
        [[fault]]
        site = "site-a"
        method = "CreateSnapshot*"
        fault = "ApplicationQuiesceFault"
        [[nfc]]
        site = "site-b"
        kind = "slow"
        delay_s = 0.5
        """
        try:
            scenario = tomllib.loads(Path(path).read_text())
            rules = [("add_fault", dict(r)) for r in scenario.get("fault", [])]
            rules += [("add_nfc_fault", dict(r)) for r in scenario.get("nfc", [])]
            sites = {rule["site"] for _, rule in rules}
            seed = int(scenario.get("seed", 0))
        except KeyError:
            raise ScenarioInvalid(path=str(path), reason="a rule has no site") from None
        except (OSError, ValueError, TypeError) as error:
            raise ScenarioInvalid(path=str(path), reason=str(error)) from error
        for site in sites:
            self.do("seed_faults", site=site, seed=seed)
        for command, rule in rules:
            self.do(command, site=rule.pop("site"), rule=rule)
        return len(rules)

    def set_user(
        self, site: str, user: str, password: str, privileges: list[str] | None = None
    ) -> None:
        """Adds a user with all privileges, or with exactly these."""
        self.do("set_user", site=site, user=user, password=password, privileges=privileges)
