"""Runs a script in a guest: through VMware Tools, without a network, with a login of the guest.

    make a temporary folder -> upload the script (PUT) -> start it -> poll until it has ended
                            -> download its output (GET) -> remove the folder

Files travel to and from the VM's ESXi host, not vCenter. The host's certificate is read from
vCenter, whose own one is pinned; the host must show that certificate.
"""

from __future__ import annotations

import re
import shlex
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from vreplica.errors import VReplicaError
from vreplica.redact import remember
from vreplica.units import KIB
from vreplica.vsphere.connection.certificate import (
    PinnedConnection,
    normal_sha256,
    pinned_context,
    reason_of,
    sha256_of,
)
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.link import BROKEN, ServerLink
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import BadReply, HostUnreachable
from vreplica.vsphere.model import GuestLogin, ScriptResult, VmRef

POLL_S: Final = 1.0
OUTPUT_MAX: Final = 256 * KIB
"""Of a script's output; the rest is cut off, and the result says so."""

CMD: Final = r"C:\Windows\System32\cmd.exe"
POWERSHELL: Final = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"


def command(folder: str, windows: bool, script: bytes, suffix: str) -> tuple[str, str, str, str]:
    """Returns (script's path, output's path, program, arguments) for the guest's family.

    On Linux, Tools start programs through a shell, which redirects the output; on Windows cmd.exe
    does. A Linux script with `#!` is started by itself, another one by /bin/sh.

    `folder` is what the guest answered, `suffix` the end of a file's name here. Both become part of
    a command line: raises ValueError where they do not look like it.
    """
    if suffix and not re.fullmatch(r"\.[A-Za-z0-9]{1,16}", suffix):
        raise ValueError(f"a script cannot end in {suffix!r}")
    if windows:
        if not re.fullmatch(r"[A-Za-z]:\\[\w .~()\\-]+", folder):
            raise ValueError(f"the guest cannot have made the folder {folder!r}")
        path, out = rf"{folder}\script{suffix or '.cmd'}", rf"{folder}\output.txt"
        start = f'"{path}"'
        if suffix.lower() == ".ps1":
            options = "-NoProfile -NonInteractive -ExecutionPolicy Bypass"
            start = f'{POWERSHELL} {options} -File "{path}"'
        return path, out, CMD, f'/c "{start} > "{out}" 2>&1"'
    path, out = f"{folder}/script{suffix or '.sh'}", f"{folder}/output.txt"
    if not re.fullmatch(r"/[\w./ ~-]+", folder):
        raise ValueError(f"the guest cannot have made the folder {folder!r}")
    if script.startswith(b"#!"):
        return path, out, path, f"> {shlex.quote(out)} 2>&1"
    return path, out, "/bin/sh", f"{shlex.quote(path)} > {shlex.quote(out)} 2>&1"


def run_script(
    link: ServerLink,
    vm: VmRef,
    login: GuestLogin,
    script: bytes,
    *,
    windows: bool,
    suffix: str = "",
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> ScriptResult:
    """Runs `script` in the guest of a running VM, and waits for its end.

    suffix: of the script's name, `.ps1` for PowerShell. After `timeout_s` the script is ended, and
    its exit code is None. Raises GuestLoginRefused, GuestOperationsUnavailable, BadReply,
    HostUnreachable.
    """
    guest = _Guest(link, vm, login)
    make = guest.files.CreateTemporaryDirectoryInGuest
    folder = guest.do("making a folder", make, "vreplica", "")
    began = time.monotonic()
    try:
        path, out, program, arguments = command(folder, windows, script, suffix)
        guest.put(path, script, windows)
        spec = vim.vm.guest.ProcessManager.ProgramSpec(programPath=program, arguments=arguments)
        pid = guest.do("starting the script", guest.processes.StartProgramInGuest, spec)
        code: int | None = None
        while True:
            ended, code = guest.ended(pid)
            if ended:
                break
            if time.monotonic() - began > timeout_s:
                guest.do("ending the script", guest.processes.TerminateProcessInGuest, pid)
                break
            sleep(POLL_S)
        output, cut = guest.get(out)
        text = output.decode("utf-8", errors="replace")
        return ScriptResult(code, text, cut, time.monotonic() - began)
    finally:
        # A folder that stays is no reason to fail: guests clear their temporary files.
        with suppress(VReplicaError):
            guest.do("removing the folder", guest.files.DeleteDirectoryInGuest, folder, True)


class _Guest:
    """Does guest operations of one VM with one login."""

    def __init__(self, link: ServerLink, vm: VmRef, login: GuestLogin) -> None:
        self._link, self._vm = link, vm
        remember(login.password)
        self._managed = link.managed(vim.VirtualMachine, vm.moref)
        self._auth = vim.vm.guest.NamePasswordAuthentication(
            username=login.user, password=login.password, interactiveSession=False
        )
        manager = link.content.guestOperationsManager
        paths = ["processManager", "fileManager"]
        entry = read_one(link, "reading the guest operations", manager, paths, vm=vm.name)
        self.processes: Any = entry.get("processManager")
        self.files: Any = entry.get("fileManager")

    def do(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        return self._link.call(
            f"{what} in the guest",
            method,
            self._managed,
            self._auth,
            *arguments,
            vm=self._vm.name,
            expects_answer=False,
        )

    def ended(self, pid: int) -> tuple[bool, int | None]:
        found = self._link.ask(
            "looking at the script in the guest",
            self.processes.ListProcessesInGuest,
            self._managed,
            self._auth,
            [pid],
            vm=self._vm.name,
            expects_answer=False,
        )
        for process in found or []:
            return process.endTime is not None, process.exitCode
        # Tools forget a process five minutes after its end, and this one was polled all along: so
        # Tools do not know it, and its exit code is lost.
        return True, None

    def put(self, path: str, content: bytes, windows: bool) -> None:
        kinds = vim.vm.guest.FileManager
        private = kinds.PosixFileAttributes(permissions=0o700)
        attributes = kinds.WindowsFileAttributes() if windows else private
        what = "offering the script"
        method = self.files.InitiateFileTransferToGuest
        url = self.do(what, method, path, attributes, len(content), True)
        self._transfer("PUT", url, content)

    def get(self, path: str) -> tuple[bytes, bool]:
        found = self.do("fetching the output", self.files.InitiateFileTransferFromGuest, path)
        data = self._transfer("GET", found.url, None)
        return data[:OUTPUT_MAX], len(data) > OUTPUT_MAX

    def _transfer(self, method: str, url: str, content: bytes | None) -> bytes:
        parts = urlsplit(url)
        # A host that does not know its own name writes `*` (vSphere API, FileTransferInformation).
        host = parts.hostname or "*"
        host = self._link.endpoint.host if host == "*" else host
        port = parts.port or 443
        der = self._host_certificate()
        pin = {"pin": normal_sha256(sha256_of(der))}
        scheme = type("GuestConnection", (PinnedConnection,), pin)
        connection = scheme(host, port, timeout=self._link.timeout_s, context=pinned_context(der))
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body=content)
            response = connection.getresponse()
            data: bytes = response.read(OUTPUT_MAX + 1)
            status = response.status
        except BROKEN as error:
            raise HostUnreachable(host, port, reason_of(error, self._link.timeout_s)) from error
        finally:
            connection.close()
        if status != 200:
            what = "moving a file of the guest"
            raise BadReply(host, what, f"HTTP {status}").at(vm=self._vm.name)
        return data

    def _host_certificate(self) -> bytes:
        operation = "reading the host's certificate"
        entry = read_one(self._link, operation, self._managed, ["runtime.host"], vm=self._vm.name)
        host = entry.get("runtime.host")
        paths = ["config.certificate"]
        pem = read_one(self._link, operation, host, paths).get("config.certificate")
        if not pem:
            raise BadReply(self._link.endpoint.host, operation, "it is empty").at(vm=self._vm.name)
        # pyVmomi reads the API's bytes as signed numbers.
        text = bytes(b & 0xFF for b in pem).decode("ascii", errors="replace")
        return ssl.PEM_cert_to_DER_cert(text)
