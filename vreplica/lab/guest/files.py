r"""The files and programs of a guest, as far as guest operations reach them.

    /tmp/out.txt        SITE/guestfs/vm-1015/tmp/out.txt        a folder is the file system
    C:\Temp\out.txt     SITE/guestfs/vm-1015/C/Temp/out.txt

    programs            {"/opt/check": ["python3", "-c", "..."]}    commands are the programs

A guest has no programs until LabControl.set_programs gives it some: a path in the guest, and a
command of this machine. The command is run in the folder, with the arguments. An argument that
names a file of the guest is replaced by the file's path in the folder; GUEST_ROOT is the folder.
There is no sandbox: the command has the rights of the lab's user.

A file of the guest that begins with #! is run by the program that it names. Output is redirected
as by a shell: on Linux, where Tools start programs through one, and by cmd.exe. Pipes and the
rest of a shell do not work.

The folder belongs to the lab: it is not on the virtual disk, so copies of the disk do not have it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from vreplica.lab.api.vmodl import MethodFault, fault, invalid_argument, vim, vmodl
from vreplica.lab.context import VmContext
from vreplica.lab.guest.os_names import guest_family

ENDED_KEPT = timedelta(minutes=5)
"""How long Tools list a program that has ended (API: ListProcessesInGuest)."""

_REDIRECT = r"\s*(?:(?P<fd>[012]?)(?P<op>>>|>|<)\s*(?:&(?P<dup>[12]))?|"
_POSIX = re.compile(
    _REDIRECT + r"""(?P<word>(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s<>"'\\|;&`$])+))"""
)
_WINDOWS = re.compile(_REDIRECT + r"""(?P<word>(?:"[^"]*"|[^\s<>"|&])+))""")
_SHELLS = ("/bin/sh", "/bin/bash", "/usr/bin/bash")


@dataclass
class ShellCommand:
    """A command line, parsed: its words and its redirections."""

    words: list[str] = field(default_factory=list)
    files: list[tuple[int, str, str]] = field(default_factory=list)
    """(descriptor, mode, path in the guest), in order. The path `&1` copies descriptor 1."""


@dataclass
class GuestProcess:
    """A program that was started in the guest."""

    pid: int
    name: str
    owner: str
    command_line: str
    started: datetime
    ended: datetime | None = None
    exit_code: int | None = None
    child: subprocess.Popen[bytes] | None = None


def not_found(path: str) -> Any:
    """The fault FileNotFound, to be raised."""
    return fault(vim.fault.FileNotFound, f"File {path} was not found", file=path)


class GuestFiles:
    """The file system and the processes of one guest."""

    def __init__(self, vm: VmContext) -> None:
        self.vm = vm
        self._lock = threading.Lock()
        self._processes: dict[int, GuestProcess] = {}
        self._next_pid = 1000

    @property
    def windows(self) -> bool:
        return guest_family(self.vm.config.guestId) == "windows"

    @property
    def folder(self) -> Path:
        made: Path = self.vm._site.directory / "guestfs" / self.vm._moId
        return made

    @property
    def root(self) -> Path:
        """The folder, made with the folders that every guest has."""
        folder = self.folder
        if not folder.exists():
            for name in ("C/Windows/Temp", "C/Temp") if self.windows else ("tmp", "root", "etc"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def temporary(self) -> str:
        return "C:\\Windows\\Temp" if self.windows else "/tmp"  # noqa: S108  the guest's

    def path(self, guest_path: str) -> Path:
        """The path on this machine of a file in the guest. Raises InvalidArgument."""
        drive, parts = "", guest_path.split("/")
        if self.windows:
            match = re.fullmatch(r"([A-Za-z]):[\\/](.*)", guest_path)
            if match is None:
                raise invalid_argument("filePath")
            drive, parts = match[1].upper(), re.split(r"[\\/]", match[2])
        elif not guest_path.startswith("/"):
            raise invalid_argument("filePath")
        if ".." in parts or "\0" in guest_path:
            raise invalid_argument("filePath")
        return self.root.joinpath(drive, *(p for p in parts if p not in ("", ".")))

    def guest_path(self, path: Path) -> str:
        parts = path.relative_to(self.root).parts
        if self.windows:
            return f"{parts[0]}:\\" + "\\".join(parts[1:])
        return "/" + "/".join(parts)

    # -- programs ---------------------------------------------------------------------------

    def program(self, path: str) -> list[str] | None:
        """The command for a program of the guest, or None."""
        programs: dict[str, list[str]] = self.vm.guest_state.settings["programs"]
        if self.windows:
            return next((c for p, c in programs.items() if p.lower() == path.lower()), None)
        return programs.get(path)

    def resolve(self, path: str) -> list[str] | None:
        """Like `program`, also for a script with a #! line. Raises GuestPermissionDenied."""
        found = self.program(path)
        if found is not None:
            return found
        try:
            file = self.path(path)
            first = file.read_bytes()[:200].partition(b"\n")[0].decode(errors="replace")
        except (OSError, vmodl.fault.InvalidArgument):
            return None
        if not first.startswith("#!"):
            return None
        if not os.access(file, os.X_OK) or not file.stat().st_mode & 0o111:
            raise fault(vim.fault.GuestPermissionDenied, "Permission denied.")
        words = first[2:].split()
        interpreter = self.program(words[0]) if words else None
        return None if interpreter is None else [*interpreter, *words[1:], str(file)]

    def start(
        self,
        path: str,
        arguments: str,
        directory: str | None,
        environment: Sequence[str],
        owner: str,
    ) -> int:
        """Starts a program. Returns its pid. Raises FileNotFound, InvalidArgument."""
        folder = self.path(directory) if directory else self.root
        if not folder.is_dir():
            raise not_found(directory or "")
        command, shell = self.parse(path, arguments)
        found = self.resolve(command.words[0]) if command.words else None
        if found is None and not shell:
            raise not_found(path)
        process = GuestProcess(
            self._new_pid(),
            re.split(r"[\\/]", path)[-1],
            owner,
            f"{path} {arguments}",
            self.vm.host.now(),
        )
        if found is None:
            process.exit_code, process.ended = (1 if self.windows else 127), self.vm.host.now()
            self._remember(process)
            return process.pid
        variables = dict(e.split("=", 1) for e in environment if "=" in e)
        inherited = {n: os.environ[n] for n in ("PATH", "HOME", "LANG") if n in os.environ}
        with contextlib.ExitStack() as files:
            streams = self._open(command, files)
            try:
                process.child = subprocess.Popen(
                    [*found, *(self._word(w) for w in command.words[1:])],
                    cwd=folder,
                    env={**inherited, "GUEST_ROOT": str(self.root), **variables},
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=streams[2],
                    start_new_session=True,
                )
            except OSError as error:
                raise fault(
                    vmodl.fault.SystemError, f"{found[0]}: {error.strerror}", reason="program"
                ) from None
        self._remember(process)
        threading.Thread(target=self._wait, args=(process,), daemon=True).start()
        return process.pid

    def run(self, path: str, arguments: str, timeout_s: float) -> int:
        """Starts a program and waits for its end. Returns its exit code.

        As a shell: 126 or 127 where it cannot be started, 124 where it was ended by the timeout.
        """
        try:
            pid = self.start(path, arguments, None, (), "root")
        except vim.fault.GuestPermissionDenied:
            return 126
        except MethodFault:
            return 127
        child = self._processes[pid].child
        try:
            return child.wait(timeout_s) if child is not None else 127
        except subprocess.TimeoutExpired:
            self.terminate(pid)
            return 124

    def _remember(self, process: GuestProcess) -> None:
        with self._lock:
            self._processes[process.pid] = process

    def _new_pid(self) -> int:
        with self._lock:
            self._next_pid += 1
            return self._next_pid

    def _word(self, word: str) -> str:
        with contextlib.suppress(vmodl.fault.InvalidArgument):
            file = self.path(word)
            if file.is_file():
                return str(file)
        return word

    def _open(self, command: ShellCommand, files: contextlib.ExitStack) -> list[Any]:
        streams: list[Any] = [subprocess.DEVNULL] * 3
        for descriptor, mode, path in command.files:
            if path.startswith("&"):
                streams[descriptor] = streams[int(path[1:])]
                continue
            if path.lower() in ("/dev/null", "nul"):
                streams[descriptor] = subprocess.DEVNULL
                continue
            try:
                opened: IO[bytes] = self.path(path).open(mode)
            except OSError:
                raise not_found(path) from None
            streams[descriptor] = files.enter_context(opened)
        return streams

    def parse(self, path: str, arguments: str) -> tuple[ShellCommand, bool]:
        """(command to run, whether a shell of the guest starts it)."""
        name = re.split(r"[\\/]", path)[-1].lower()
        if self.program(path) is None:
            inner = re.fullmatch(r"\s*/[cC]\s+(.*)", arguments, re.DOTALL)
            if self.windows and name == "cmd.exe" and inner:
                text = inner[1].strip()
                # cmd.exe removes the quotes around a whole command.
                if text.startswith('"') and text.endswith('"') and re.search(r"[ <>]", text):
                    text = text[1:-1]
                return self.command(text), True
            if not self.windows and path in _SHELLS:
                outer = self.command(arguments)
                if outer.words[:1] == ["-c"] and len(outer.words) == 2:
                    command = self.command(outer.words[1])
                    command.files = [*outer.files, *command.files]
                    return command, True
        if self.windows:
            return ShellCommand([path, *re.findall(r'"[^"]*"|\S+', arguments)]), False
        command = self.command(arguments)
        command.words.insert(0, path)
        return command, False

    def command(self, text: str) -> ShellCommand:
        """Parses words and redirections. Raises NotSupported for the rest of a shell."""
        made, at, redirect = ShellCommand(), 0, None
        pattern = _WINDOWS if self.windows else _POSIX
        text = text.rstrip()
        while at < len(text):
            match = pattern.match(text, at)
            if match is None:
                raise fault(
                    vmodl.fault.NotSupported,
                    f"A guest of the lab knows only redirections: {text[at : at + 40]!r}",
                )
            at = match.end()
            if match["op"]:
                output = match["op"] != "<"
                descriptor = int(match["fd"] or (1 if output else 0))
                mode = {"<": "rb", ">": "wb", ">>": "ab"}[match["op"]]
                if match["dup"]:
                    made.files.append((descriptor, mode, f"&{match['dup']}"))
                else:
                    redirect = (descriptor, mode)
                continue
            raw = match["word"]
            word = raw.replace('"', "") if self.windows else "".join(shlex.split(raw))
            if redirect is None:
                made.words.append(word)
            else:
                made.files.append((*redirect, word))
                redirect = None
        return made

    # -- processes --------------------------------------------------------------------------

    def _wait(self, process: GuestProcess) -> None:
        assert process.child is not None
        code = process.child.wait()
        process.exit_code = code if code >= 0 else 128 - code
        process.ended = self.vm.host.now()

    def processes(self) -> list[GuestProcess]:
        with self._lock:
            old = self.vm.host.now() - ENDED_KEPT
            gone = [p for p, v in self._processes.items() if v.ended and v.ended < old]
            for pid in gone:
                del self._processes[pid]
            return list(self._processes.values())

    def terminate(self, pid: int) -> None:
        process = self._processes.get(pid)
        if process is None or process.ended:
            raise fault(vim.fault.GuestProcessNotFound, f"There is no process {pid}", pid=pid)
        self._kill(process)

    def _kill(self, process: GuestProcess) -> None:
        if process.child is not None and process.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.child.pid, signal.SIGKILL)
            process.child.wait()

    def end(self) -> None:
        """Ends all processes: the guest has stopped."""
        with self._lock:
            processes, self._processes = self._processes, {}
        for process in processes.values():
            self._kill(process)
