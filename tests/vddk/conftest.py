"""A small libvixDiskLib that is built for the tests, and can be told to misbehave (dummy.c)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.open import open_vddk_disk

SOURCE = Path(__file__).with_name("dummy.c")


@dataclass(frozen=True)
class Dummy:
    """The library's folder, and a place for its disks, which are raw files."""

    libdir: Path
    folder: Path

    def config(self, *, isolation: bool = True, **settings: object) -> VddkConfig:
        return VddkConfig(libdir=self.libdir, isolation=isolation, **settings)  # type: ignore[arg-type]

    def disk(self, content: bytes, name: str = "disk.raw") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def fault(self, path: Path, *faults: str) -> None:
        """`"read segv"`, `"open 15"`...: see dummy.c. Without any: it behaves again."""
        Path(f"{path}.fault").write_text("".join(f"{line}\n" for line in faults))

    def open(self, path: Path, *, read_only: bool = True, **settings: object) -> VddkDisk:
        config = self.config(**settings)  # type: ignore[arg-type]
        return open_vddk_disk(config, VddkConnection(), str(path), read_only=read_only)


Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build_dummy(tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build_dummy("-DOLD", soname="so.6")`: a fresh libdir with such a library in lib64/."""
    gcc = tool("gcc", "gcc")

    def build(*flags: str, soname: str = "so.8") -> Path:
        libdir = tmp_path_factory.mktemp("vddk")
        (libdir / "lib64").mkdir()
        target = libdir / "lib64" / f"libvixDiskLib.{soname}"
        command = [gcc, "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror", *flags]
        subprocess.run([*command, "-o", str(target), str(SOURCE)], check=True)
        return libdir

    return build


@pytest.fixture(scope="session")
def dummy_libdir(build_dummy: Build) -> Path:
    return build_dummy()


@pytest.fixture
def dummy(dummy_libdir: Path, tmp_path: Path) -> Dummy:
    return Dummy(dummy_libdir, tmp_path)


@pytest.fixture(params=[False, True], ids=["in-process", "isolated"])
def isolation(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)
