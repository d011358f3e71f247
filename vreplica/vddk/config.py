"""Settings of VDDK, and the search for the library file.

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
    """Settings of the library: how it is found and run.

    libdir: the unpacked VDDK (vmware-vix-disklib-distrib). None: the environment variable
        VREPLICA_VDDK_LIBDIR, else the native library of this package.
    config_file: for InitEx; lines of name=value.
    isolation: run the library in a helper process for each disk. An open takes some 40 ms more,
        and a copy between two local disks 1.2 (full) to 1.9 times (rescan) as long
        (docs/benchmarks.md). Without it a crash of the library ends the whole program, so
        VMware's library should stay isolated.
    transport_modes: e.g. "nbdssl:nbd". None: the library's own order to read, nbdssl to write,
        since its own order may choose SAN, which has special rules for writes.
    io_depth: async requests in flight on one disk, at most 1 MiB each.
    timeout_s: how long one request to a helper may take before the helper is killed. VDDK's own
        limits (180 s a request, 600 s a write by default) should end first.
    """

    libdir: Path | None = None
    config_file: Path | None = None
    isolation: bool = True
    transport_modes: str | None = None
    io_depth: int = 8
    timeout_s: float = 900.0


@dataclass(frozen=True, slots=True)
class VddkConnection:
    """The server and VM of a disk. server None: a file of this machine; the rest does not count.

    vmx_spec: "moref=vm-123". snapshot_ref: "snapshot-47".
    thumbprint_sha1: of the server's certificate, "AA:BB:...".
    read_only: the library refuses every open for writing; leave it on for sources. A local
        connection follows the open.
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
    """A library file, with the libdir for InitEx and the major number of its soname."""

    path: Path
    root: Path
    major: int


def bundled_libdir() -> Path | None:
    """Returns the folder of this package's native library, also for editable installs."""
    beside = Path(__file__).parents[1] / "_native"
    # An editable install keeps compiled files in site-packages, away from the sources.
    # (importlib.metadata knows the place too, but loads the email package.)
    installed = (Path(folder, "vreplica", "_native") for folder in sys.path)
    return next((libdir for libdir in (beside, *installed) if libdir.is_dir()), None)


def libdir_of(config: VddkConfig) -> Path:
    """Returns the folder to search. Raises LibraryNotFound where there is none."""
    if config.libdir is not None:
        return config.libdir
    if named := os.environ.get(ENV_LIBDIR):
        return Path(named)
    if (bundled := bundled_libdir()) is not None:
        return bundled
    raise LibraryNotFound(libdir="(none named)", tried="the native library of this package")


def locate(config: VddkConfig) -> LibraryFile:
    """Finds the newest library in the configured folder. Raises LibraryNotFound."""
    libdir = libdir_of(config).expanduser().absolute()
    if libdir.name == "lib64" and not (libdir / "lib64").is_dir():
        # With lib64 itself as libdir, VDDK would look for its plugins in lib64/lib64.
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
    """Returns the major number of the real file where its name has one: .so.8 may link to .so.9."""
    for candidate in (path.resolve(), path):
        if match := _SONAME.search(candidate.name):
            return int(match[1])
    raise ValueError(f"{path} has no version in its name")
