"""Guest operations: programs that really run, files that really travel, logins that matter."""

from __future__ import annotations

import hashlib
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

guest = vim.vm.guest


@pytest.fixture(scope="module")
def linux(control: LabControl) -> str:
    control.create_vm(
        "site-a", "linux", [(MIB, True, None)], guest_id="ubuntu64Guest", power_on=True
    )
    echo = "import sys; print(*sys.argv[1:]); print('bad', file=sys.stderr); sys.exit(3)"
    control.set_programs(
        "site-a",
        "linux",
        {"/opt/echo": [sys.executable, "-c", echo], "/bin/sleep": ["sleep"], "/bin/sh": ["sh"]},
    )
    return "linux"


def of(si: Any, name: str) -> Any:
    return si.content.searchIndex.FindByInventoryPath(f"site-a-dc/vm/{name}")


def login(user: str = "root", password: str = "guest", interactive: bool = False) -> Any:
    return guest.NamePasswordAuthentication(
        username=user, password=password, interactiveSession=interactive
    )


def finished(si: Any, vm: Any, pid: int, auth: Any) -> Any:
    manager = si.content.guestOperationsManager.processManager
    while True:
        (found,) = manager.ListProcessesInGuest(vm, auth, [pid])
        if found.endTime is not None:
            return found
        assert found.exitCode is None
        time.sleep(0.01)


def run(si: Any, vm: Any, path: str, arguments: str, auth: Any = None) -> Any:
    auth = auth or login()
    spec = guest.ProcessManager.ProgramSpec(programPath=path, arguments=arguments)
    pid = si.content.guestOperationsManager.processManager.StartProgramInGuest(vm, auth, spec)
    return finished(si, vm, pid, auth)


def transfer(url: str, thumbprint: str, data: bytes | None = None) -> bytes:
    """As a client does that knows the host by the thumbprint that vCenter names."""
    parts = url.removeprefix("https://").partition("/")[0].partition(":")
    pem = ssl.get_server_certificate((parts[0], int(parts[2])))
    found = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    assert thumbprint.replace(":", "").upper() == found
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = False
    method = "GET" if data is None else "PUT"
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, context=context) as answer:
        return bytes(answer.read())


def test_a_program_runs_with_its_output_where_it_was_redirected(
    si: Any, control: LabControl, linux: str
) -> None:
    vm = of(si, linux)
    ended = run(si, vm, "/opt/echo", "'one word' two > /tmp/out 2>&1")
    assert (ended.exitCode, ended.owner, ended.name) == (3, "root", "echo")
    assert control.guest_path("site-a", linux, "/tmp/out").read_text() in (
        "one word two\nbad\n",
        "bad\none word two\n",
    )
    run(si, vm, "/opt/echo", "more >> /tmp/out 2>/dev/null")
    assert control.guest_path("site-a", linux, "/tmp/out").read_text().endswith("more\n")


def test_a_script_travels_there_is_run_and_its_result_travels_back(
    si: Any, control: LabControl, linux: str
) -> None:
    vm, auth = of(si, linux), login()
    files = si.content.guestOperationsManager.fileManager
    thumbprint = vm.runtime.host.summary.config.sslThumbprint
    script = b'#!/bin/sh\nread line < "$GUEST_ROOT/etc/hostname"\necho "I am $line"\n'
    mode = guest.FileManager.PosixFileAttributes(permissions=0o755)
    control.guest_path("site-a", linux, "/etc/hostname").write_text("web01\n")
    url = files.InitiateFileTransferToGuest(vm, auth, "/tmp/check.sh", mode, len(script), False)
    transfer(url, thumbprint, script)
    with pytest.raises(urllib.error.HTTPError):  # good once
        transfer(url, thumbprint, script)
    with pytest.raises(vim.fault.FileAlreadyExists):
        files.InitiateFileTransferToGuest(vm, auth, "/tmp/check.sh", mode, len(script), False)
    assert run(si, vm, "/tmp/check.sh", "> /tmp/answer").exitCode == 0
    assert run(si, vm, "/bin/sh", "/tmp/check.sh > /tmp/again").exitCode == 0
    back = files.InitiateFileTransferFromGuest(vm, auth, "/tmp/answer")
    assert back.size == 11
    assert transfer(back.url, thumbprint) == b"I am web01\n"
    files.DeleteFileInGuest(vm, auth, "/tmp/check.sh")
    with pytest.raises(vim.fault.FileNotFound):
        run(si, vm, "/tmp/check.sh", "")


def test_what_a_guest_does_not_have_is_not_found(si: Any, linux: str) -> None:
    vm, auth = of(si, linux), login()
    manager = si.content.guestOperationsManager
    with pytest.raises(vim.fault.FileNotFound):
        run(si, vm, "/opt/missing", "")
    with pytest.raises(vim.fault.FileNotFound):
        manager.fileManager.InitiateFileTransferFromGuest(vm, auth, "/tmp/missing")
    with pytest.raises(vim.fault.FileNotFound):
        manager.fileManager.MakeDirectoryInGuest(vm, auth, "/tmp/a/b", False)
    manager.fileManager.MakeDirectoryInGuest(vm, auth, "/tmp/a/b", True)
    assert [f.path for f in manager.fileManager.ListFilesInGuest(vm, auth, "/tmp/a").files] == ["b"]
    with pytest.raises(vim.fault.GuestProcessNotFound):
        manager.processManager.TerminateProcessInGuest(vm, auth, 7)
    with pytest.raises(Exception, match="filePath"):
        manager.fileManager.DeleteFileInGuest(vm, auth, "/../../state.db")


def test_a_program_can_be_ended(si: Any, linux: str) -> None:
    vm, auth = of(si, linux), login()
    manager = si.content.guestOperationsManager.processManager
    spec = guest.ProcessManager.ProgramSpec(programPath="/bin/sleep", arguments="600")
    pid = manager.StartProgramInGuest(vm, auth, spec)
    manager.TerminateProcessInGuest(vm, auth, pid)
    assert finished(si, vm, pid, auth).exitCode == 137


def test_the_guest_has_to_run_and_to_know_who_asks(
    si: Any, control: LabControl, connect: Any, lab: Lab, linux: str
) -> None:
    vm, manager = of(si, linux), si.content.guestOperationsManager.authManager
    manager.ValidateCredentialsInGuest(vm, login())
    for wrong in (login(password="no"), login(user="nobody")):
        with pytest.raises(vim.fault.InvalidGuestLogin):
            manager.ValidateCredentialsInGuest(vm, wrong)
    with pytest.raises(vim.fault.GuestOperationsUnavailable):
        manager.ValidateCredentialsInGuest(vm, login(interactive=True))
    control.set_user("site-a", "viewer", "pw", ["VirtualMachine.GuestOperations.Query"])
    limited = connect(lab.specs[0], "viewer", "pw")
    own = of(limited, linux)
    limited.content.guestOperationsManager.authManager.ValidateCredentialsInGuest(own, login())
    with pytest.raises(vim.fault.NoPermission) as denied:
        run(limited, own, "/opt/echo", "")
    assert denied.value.object == own
    control.set_guest("site-a", linux, tools="notRunning")
    with pytest.raises(vim.fault.GuestOperationsUnavailable):
        manager.ValidateCredentialsInGuest(vm, login())
    control.set_guest("site-a", linux, tools="running")
    WaitForTask(vm.PowerOffVM_Task())
    with pytest.raises(vim.fault.GuestOperationsUnavailable):
        manager.ValidateCredentialsInGuest(vm, login())
    WaitForTask(vm.PowerOnVM_Task())
    # What ran when the power went is not remembered.
    assert si.content.guestOperationsManager.processManager.ListProcessesInGuest(vm, login()) == []


def test_a_windows_guest_has_cmd_and_its_own_paths(si: Any, control: LabControl) -> None:
    made = control.create_vm(
        "site-a", "win", [(MIB, True, None)], guest_id="windows2019srv_64Guest", power_on=True
    )
    control.set_programs(
        "site-a", "win", {"C:\\Windows\\System32\\ipconfig.exe": ["echo", "Windows IP"]}
    )
    vm, auth = vim.VirtualMachine(made["moref"], si._stub), login("Administrator")
    line = '/c "C:\\windows\\system32\\ipconfig.exe /all > C:\\Temp\\out.txt 2>&1"'
    ended = run(si, vm, "C:\\Windows\\System32\\cmd.exe", line, auth)
    assert ended.exitCode == 0
    assert control.guest_path("site-a", "win", "c:/Temp/out.txt").read_text() == (
        "Windows IP /all\n"
    )
    line = "/c C:\\nothing.exe"
    assert run(si, vm, "C:\\Windows\\System32\\cmd.exe", line, auth).exitCode == 1
