"""Guest operations: GuestOperationsManager with its managers, over guest/files.

Every call has a VM and a login of its guest. Tools must run (GuestOperationsUnavailable), and the
login must be right (InvalidGuestLogin): the guest settings `user` (default root, or Administrator
on Windows) and `password` (default "guest").

Files are transferred over HTTPS with the VM's host, whose certificate has the thumbprint in the
summary of the host: see web/host.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vreplica.lab.api.managed import Managed, live
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.guest.files import GuestFiles, not_found

guest: Any = vim.vm.guest
_LISTED = 50
"""Files in one answer, where the caller gives no number (API: ListFilesInGuest)."""


def authenticate(vm: Any, auth: Any) -> GuestFiles:
    """Checks the login. Returns the files and programs of the guest."""
    state = vm.guest_state
    vm.host.require_connected()
    if not state.tools_running or vm.shutting_down or auth.interactiveSession:
        raise fault(
            vim.fault.GuestOperationsUnavailable,
            "The guest operations agent could not be contacted.",
        )
    if not isinstance(auth, guest.NamePasswordAuthentication):
        raise fault(
            vim.fault.OperationNotSupportedByGuest,
            "The operation is not supported by the guest operating system.",
        )
    if (auth.username, auth.password) != (state.user, state.settings["password"]):
        raise fault(
            vim.fault.InvalidGuestLogin,
            "Failed to authenticate with the guest operating system using the supplied "
            "credentials.",
        )
    files: GuestFiles = state.files
    return files


class GuestAuthManager(Managed, guest.AuthManager):
    def ValidateCredentialsInGuest(self, vm: Any, auth: Any) -> None:
        authenticate(vm, auth)


class GuestProcessManager(Managed, guest.ProcessManager):
    def StartProgramInGuest(self, vm: Any, auth: Any, spec: Any) -> int:
        files = authenticate(vm, auth)
        return files.start(
            spec.programPath,
            spec.arguments or "",
            spec.workingDirectory,
            list(spec.envVariables or ()),
            auth.username,
        )

    def ListProcessesInGuest(self, vm: Any, auth: Any, pids: Any = ()) -> Any:
        found = authenticate(vm, auth).processes()
        return [
            guest.ProcessManager.ProcessInfo(
                name=p.name,
                pid=p.pid,
                owner=p.owner,
                cmdLine=p.command_line,
                startTime=p.started,
                endTime=p.ended,
                exitCode=p.exit_code if p.ended else None,
            )
            for p in found
            if not pids or p.pid in pids
        ]

    def TerminateProcessInGuest(self, vm: Any, auth: Any, pid: int) -> None:
        authenticate(vm, auth).terminate(pid)

    def ReadEnvironmentVariableInGuest(self, vm: Any, auth: Any, names: Any = ()) -> Any:
        files = authenticate(vm, auth)
        known = {"TEMP": files.temporary} if files.windows else {"TMPDIR": files.temporary}
        return [f"{n}={v}" for n, v in known.items() if not names or n in names]


class GuestFileManager(Managed, guest.FileManager):
    def MakeDirectoryInGuest(
        self, vm: Any, auth: Any, directoryPath: str, createParentDirectories: bool
    ) -> None:
        path = authenticate(vm, auth).path(directoryPath)
        with _as_guest_faults(directoryPath):
            path.mkdir(parents=createParentDirectories)

    def DeleteFileInGuest(self, vm: Any, auth: Any, filePath: str) -> None:
        path = authenticate(vm, auth).path(filePath)
        with _as_guest_faults(filePath):
            path.unlink()

    def DeleteDirectoryInGuest(
        self, vm: Any, auth: Any, directoryPath: str, recursive: bool
    ) -> None:
        path = authenticate(vm, auth).path(directoryPath)
        with _as_guest_faults(directoryPath):
            shutil.rmtree(path) if recursive else path.rmdir()

    def MoveFileInGuest(
        self, vm: Any, auth: Any, srcFilePath: str, dstFilePath: str, overwrite: bool
    ) -> None:
        files = authenticate(vm, auth)
        source, target = files.path(srcFilePath), files.path(dstFilePath)
        if not source.is_file():
            raise not_found(srcFilePath)
        if target.exists() and not overwrite:
            raise _exists(dstFilePath)
        with _as_guest_faults(dstFilePath):
            source.replace(target)

    def CreateTemporaryFileInGuest(
        self, vm: Any, auth: Any, prefix: str, suffix: str, directoryPath: str | None = None
    ) -> str:
        files, path = self._temporary(vm, auth, prefix, suffix, directoryPath)
        with _as_guest_faults(directoryPath or ""):
            path.touch(mode=0o600, exist_ok=False)
        return files.guest_path(path)

    def CreateTemporaryDirectoryInGuest(
        self, vm: Any, auth: Any, prefix: str, suffix: str, directoryPath: str | None = None
    ) -> str:
        files, path = self._temporary(vm, auth, prefix, suffix, directoryPath)
        with _as_guest_faults(directoryPath or ""):
            path.mkdir(mode=0o700)
        return files.guest_path(path)

    def _temporary(
        self, vm: Any, auth: Any, prefix: str, suffix: str, folder: str | None
    ) -> tuple[GuestFiles, Path]:
        files = authenticate(vm, auth)
        name = f"{prefix or ''}vmware{secrets.token_hex(3)}{suffix or ''}"
        if re.search(r"[\\/]", name):
            raise invalid_argument("prefix")
        return files, files.path(folder or files.temporary) / name

    def ListFilesInGuest(
        self,
        vm: Any,
        auth: Any,
        filePath: str,
        index: int | None = None,
        maxResults: int | None = None,
        matchPattern: str | None = None,
    ) -> Any:
        path = authenticate(vm, auth).path(filePath)
        if not path.exists():
            raise not_found(filePath)
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        if matchPattern:
            found = [p for p in found if re.fullmatch(matchPattern, p.name)]
        first = index or 0
        last = first + (_LISTED if maxResults is None else maxResults)
        info: Any = guest.FileManager
        return info.ListFileInfo(
            files=[
                info.FileInfo(
                    path=p.name if path.is_dir() else filePath,
                    type="directory" if p.is_dir() else "file",
                    size=p.stat().st_size,
                    attributes=_attributes(p),
                )
                for p in found[first:last]
            ],
            remaining=max(0, len(found) - last),
        )

    def ChangeFileAttributesInGuest(
        self, vm: Any, auth: Any, guestFilePath: str, fileAttributes: Any
    ) -> None:
        path = authenticate(vm, auth).path(guestFilePath)
        if not path.exists():
            raise not_found(guestFilePath)
        set_attributes(path, fileAttributes)

    def InitiateFileTransferFromGuest(self, vm: Any, auth: Any, guestFilePath: str) -> Any:
        path = authenticate(vm, auth).path(guestFilePath)
        if not path.is_file():
            raise not_found(guestFilePath)
        return guest.FileManager.FileTransferInformation(
            attributes=_attributes(path),
            size=path.stat().st_size,
            url=self._site.host_servers.web(vm.host).offer("GET", path),
        )

    def InitiateFileTransferToGuest(
        self,
        vm: Any,
        auth: Any,
        guestFilePath: str,
        fileAttributes: Any,
        fileSize: int,
        overwrite: bool,
    ) -> str:
        path = authenticate(vm, auth).path(guestFilePath)
        if path.is_dir() or not path.parent.is_dir():
            raise not_found(guestFilePath)
        if path.exists() and not overwrite:
            raise _exists(guestFilePath)

        def done(received: Path) -> None:
            set_attributes(received, fileAttributes)

        web = self._site.host_servers.web(vm.host)
        return str(web.offer("PUT", path, size=fileSize, done=done))


class GuestOperationsManager(Managed, guest.GuestOperationsManager):
    @live
    def authManager(self) -> Any:
        return self._site.objects["guestOperationsAuthManager"]

    @live
    def processManager(self) -> Any:
        return self._site.objects["guestOperationsProcessManager"]

    @live
    def fileManager(self) -> Any:
        return self._site.objects["guestOperationsFileManager"]


MANAGERS = {
    "guestOperationsAuthManager": GuestAuthManager,
    "guestOperationsProcessManager": GuestProcessManager,
    "guestOperationsFileManager": GuestFileManager,
}


# -- files ----------------------------------------------------------------------------------


def _exists(path: str) -> Any:
    return fault(vim.fault.FileAlreadyExists, f"File {path} exists already", file=path)


@contextmanager
def _as_guest_faults(path: str) -> Iterator[None]:
    """Turns errors of the file system into the faults that Tools report."""
    try:
        yield
    except FileNotFoundError:
        raise not_found(path) from None
    except FileExistsError:
        raise _exists(path) from None
    except NotADirectoryError:
        raise fault(vim.fault.NotADirectory, f"{path} is not a directory", file=path) from None
    except OSError as error:
        raise fault(vim.fault.FileFault, f"{path}: {error.strerror}", file=path) from None


def _attributes(path: Path) -> Any:
    found = path.stat()
    return guest.FileManager.PosixFileAttributes(
        modificationTime=datetime.fromtimestamp(found.st_mtime, UTC),
        accessTime=datetime.fromtimestamp(found.st_atime, UTC),
        ownerId=0,
        groupId=0,
        permissions=found.st_mode & 0o7777,
    )


def set_attributes(path: Path, attributes: Any) -> None:
    """Sets the times and permissions that are given."""
    found = path.stat()
    permissions = getattr(attributes, "permissions", None)
    if permissions is not None:
        path.chmod(permissions & 0o7777)
    changed, used = attributes.modificationTime, attributes.accessTime
    if changed or used:
        os.utime(
            path,
            (
                used.timestamp() if used else found.st_atime,
                changed.timestamp() if changed else found.st_mtime,
            ),
        )
