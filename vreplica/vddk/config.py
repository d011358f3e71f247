"""What a user says about VDDK, and where the library file is found.

libdir/                     what VDDK programs call "libdir", and InitEx is told
  lib64/
    libvixDiskLib.so.8      tried for 9, 8, 7, 6; then the same names without lib64/
"""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from vreplica.vddk import abi
from vreplica.vddk.errors import LibraryNotFound
from vreplica.vddk.session import LOG, PANIC, WARN

ENV_LIBDIR: Final = "VREPLICA_VDDK_LIBDIR"

LEVELS: Final = {LOG: logging.DEBUG, WARN: logging.WARNING, PANIC: logging.ERROR}
"""Level of the library's log -> level of `logging`."""

_SONAME = re.compile(r"libvixDiskLib\.so\.(\d+)")


@dataclass(frozen=True, slots=True)
class VddkConfig:
    """How the library is found and run.

    libdir: the unpacked VDDK (vmware-vix-disklib-distrib). None: the environment variable
        VREPLICA_VDDK_LIBDIR, else the native library of this package.
    config_file: for InitEx; lines of name=value.
    isolation: run the library in a helper process for each disk. It costs some 40 ms an open, and
        a copy between two local disks takes 1.2 (full) to 1.9 times (rescan) as long
        (docs/benchmarks.md). Turned off, a crash of the library is a crash of the whole
        program; VMware's library should stay isolated.
    transport_modes: e.g. "nbdssl:nbd". None: the library's own order to read, nbdssl to write,
        since its own order may choose SAN, which has rules of its own for writes.
    io_depth: async requests in flight on one disk, at most 1 MiB each.
    timeout_s: how long one request to a helper may take before the helper is given up. VDDK's
        own limits (180 s a request, 600 s a write by default) should end first.
    """

    libdir: Path | None = None
    config_file: Path | None = None
    isolation: bool = True
    transport_modes: str | None = None
    io_depth: int = 8
    timeout_s: float = 900.0


@dataclass(frozen=True, slots=True)
class VddkConnection:
    """Whose disks. `server` None: files of this machine, and nothing else counts.

    vmx_spec: "moref=vm-123". snapshot_ref: "snapshot-47".
    thumbprint_sha1: of the server's certificate, "AA:BB:...".
    read_only: the library then refuses every open for writing; keep it for sources. Local
        connections are as the open asks.
    cookie: a session's `vmware_soap_session`, used instead of logging in.
    """

    server: str | None = None
    port: int = 443
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    thumbprint_sha1: str | None = None
    vmx_spec: str | None = None
    snapshot_ref: str | None = None
    read_only: bool = True
    cookie: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in fields(self):
            if "\0" in str(getattr(self, name.name)):
                raise ValueError(f"a NUL in {name.name}")


@dataclass(frozen=True, slots=True)
class LibraryFile:
    """A library that was found: its file, the libdir for InitEx, the major of its soname."""

    path: Path
    root: Path
    major: int


def bundled_libdir() -> Path | None:
    """Where this package's native library was installed, also for editable installs."""
    beside = Path(__file__).parents[1] / "_native"
    # An editable install keeps compiled files in site-packages, away from the sources. (Asking
    # importlib.metadata would say the same, and load the email package for it.)
    installed = (Path(folder, "vreplica", "_native") for folder in sys.path)
    return next((libdir for libdir in (beside, *installed) if libdir.is_dir()), None)


def libdir_of(config: VddkConfig) -> Path:
    """The folder that is searched. Raises LibraryNotFound where there is none to search."""
    if config.libdir is not None:
        return config.libdir
    if named := os.environ.get(ENV_LIBDIR):
        return Path(named)
    if (bundled := bundled_libdir()) is not None:
        return bundled
    raise LibraryNotFound(libdir="(none named)", tried="the native library of this package")


def locate(config: VddkConfig) -> LibraryFile:
    """The newest library in the configured folder. Raises LibraryNotFound."""
    libdir = libdir_of(config).expanduser().absolute()
    if libdir.name == "lib64" and not (libdir / "lib64").is_dir():
        # Told lib64 itself, VDDK would look for its plugins in lib64/lib64.
        libdir = libdir.parent
    names = [f"{sub}libvixDiskLib.so.{n}" for sub in ("lib64/", "") for n in abi.MAJORS]
    for name in names:
        path = libdir / name
        if path.exists():
            return LibraryFile(path=path, root=libdir, major=_major(path))
    raise LibraryNotFound(
        libdir=str(libdir), tried="libvixDiskLib.so.{9,8,7,6} in lib64/ and beside it"
    )


def _major(path: Path) -> int:
    """From the real file where its name has a version: people link .so.8 to .so.9."""
    for candidate in (path.resolve(), path):
        if match := _SONAME.search(candidate.name):
            return int(match[1])
    raise ValueError(f"{path} has no version in its name")
