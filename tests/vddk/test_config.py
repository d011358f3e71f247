"""Where the library is found, and that it is initialised once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vreplica.disk_errors import DiskAccessError, InvalidRequest, OperationUnsupported
from vreplica.errors import VReplicaError
from vreplica.units import MIB
from vreplica.vddk.config import ENV_LIBDIR, VddkConfig, VddkConnection, bundled_libdir, locate
from vreplica.vddk.errors import (
    AlreadyInitialised,
    HelperFailed,
    LibraryNotFound,
    LibraryProblem,
    class_of,
)
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def found(folder: Path) -> tuple[str, int]:
    file = locate(VddkConfig(libdir=folder))
    return str(file.path.relative_to(file.root)), file.major


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lib64/libvixDiskLib.so.6", "lib64/libvixDiskLib.so.8"], "lib64/libvixDiskLib.so.8"),
        (["lib64/libvixDiskLib.so.9", "lib64/libvixDiskLib.so.8"], "lib64/libvixDiskLib.so.9"),
        (["libvixDiskLib.so.7"], "libvixDiskLib.so.7"),
        (["lib64/libvixDiskLib.so.6", "libvixDiskLib.so.9"], "lib64/libvixDiskLib.so.6"),
    ],
)
def test_the_newest_library_in_lib64_is_taken(
    tmp_path: Path, names: list[str], expected: str
) -> None:
    assert found(make(tmp_path, *names)) == (expected, int(expected[-1]))


def test_lib64_itself_is_understood_and_its_parent_told_to_the_library(tmp_path: Path) -> None:
    make(tmp_path, "lib64/libvixDiskLib.so.8")
    assert locate(VddkConfig(libdir=tmp_path / "lib64")).root == tmp_path


def test_the_version_is_that_of_the_real_file(tmp_path: Path) -> None:
    make(tmp_path, "lib64/libvixDiskLib.so.9.0.1")
    (tmp_path / "lib64/libvixDiskLib.so.8").symlink_to("libvixDiskLib.so.9.0.1")
    assert found(tmp_path) == ("lib64/libvixDiskLib.so.8", 9)


def test_other_versions_are_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "lib64/libvixDiskLib.so.5", "lib64/libvixDiskLib.so")
    with pytest.raises(LibraryNotFound):
        locate(VddkConfig(libdir=tmp_path))


def test_the_environment_names_a_library_where_the_configuration_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = make(tmp_path / "named", "lib64/libvixDiskLib.so.8")
    other = make(tmp_path / "other", "lib64/libvixDiskLib.so.8")
    monkeypatch.setenv(ENV_LIBDIR, str(named))
    assert locate(VddkConfig()).root == named
    assert locate(VddkConfig(libdir=other)).root == other


def test_the_native_library_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_LIBDIR, raising=False)
    file = locate(VddkConfig())
    assert file.root == bundled_libdir()
    assert file.path.name == "libvixDiskLib.so.8"


def test_a_library_is_initialised_once_a_process(
    build_dummy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    config = VddkConfig(libdir=build_dummy(), config_file=tmp_path / "a.conf")
    library = Library.load(config)
    assert Library.load(config) is library
    assert Library.load(VddkConfig(libdir=config.libdir)) is library
    assert len([r for r in caplog.records if r.getMessage().startswith("init ")]) == 1
    other = VddkConfig(libdir=config.libdir, config_file=tmp_path / "b.conf")
    with pytest.raises(AlreadyInitialised, match=r"a\.conf, not .*b\.conf"):
        Library.load(other)


def test_helpers_may_each_have_a_config_file_of_their_own(
    dummy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    path = str(dummy.disk(bytes(MIB)))
    disks = [
        open_vddk_disk(dummy.config(config_file=tmp_path / name), VddkConnection(), path)
        for name in ("a.conf", "b.conf")
    ]
    for disk in disks:
        disk.close()
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("init ")]
    assert [str(tmp_path / n) in t for n, t in zip(("a.conf", "b.conf"), told, strict=True)] == [
        True,
        True,
    ]


def test_a_library_that_refuses_to_start_may_be_tried_again(
    build_dummy: Any, dummy: Any, tmp_path: Path, isolation: bool
) -> None:
    path = str(dummy.disk(bytes(MIB)))
    config = VddkConfig(
        libdir=build_dummy(), config_file=tmp_path / "refused.conf", isolation=isolation
    )
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="VixDiskLib_InitEx"):
            open_vddk_disk(config, VddkConnection(), path)
    open_vddk_disk(replace(config, config_file=None), VddkConnection(), path).close()


def test_a_missing_optional_function_is_not_supported(dummy: Any, tmp_path: Path) -> None:
    library = Library.load(dummy.config())
    with pytest.raises(OperationUnsupported, match="VixDiskLib_Unlink") as caught:
        library.unlink(tmp_path / "x.vmdk")
    assert caught.value.code == 6


def subclasses(cls: type[VReplicaError]) -> Iterator[type[VReplicaError]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_every_error_says_what_to_do() -> None:
    for base in (DiskAccessError, LibraryProblem, HelperFailed):
        for cls in subclasses(base):
            assert cls.remedy, cls


def test_every_code_belongs_to_one_class() -> None:
    codes = [code for cls in subclasses(DiskAccessError) for code in vars(cls).get("codes", ())]
    assert len(codes) == len(set(codes))
    assert class_of(36).__name__ == "HostConnection"
    assert class_of(14014).__name__ == "HostLeaving"
    assert class_of(16007).__name__ == "DiskOutOfRange"
    assert class_of(9999).__name__ == "DiskAccessError"
    assert class_of(1, "nothing special").__name__ == "DiskAccessError"
    assert class_of(8, "certificate").__name__ == "DiskFull", "only where VDDK says no more"
