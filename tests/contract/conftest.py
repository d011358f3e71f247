"""The kinds of disk that pass the contract. To join, register how one is made:

    @kind("nfc")
    def nfc(folder: Path, capacity: int, content: Content) -> Opener:
        ... make a disk with that content below `folder` ...
        return lambda read_only: open_it(..., read_only=read_only)

An opener may be called again after the disk was closed, and then shows what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vreplica.disk import Disk, MemoryDisk
from vreplica.lab.nfc import LibraryStore, MemoryStore
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc.config import NfcMode
from vreplica.nfc.open import open_nfc_disk
from vreplica.units import KIB, MIB
from vreplica.vddk.abi import DiskType
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk

Content = Mapping[int, bytes]
"""offset -> bytes; the rest of the disk is zero"""

Opener = Callable[[bool], Disk]
"""(read_only) -> an open disk"""

Make = Callable[[Path, int, Content], Opener]

KINDS: dict[str, Make] = {}


def kind(name: str) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        KINDS[name] = make
        return make

    return register


@kind("memory")
def memory(_folder: Path, capacity: int, content: Content) -> Opener:
    first = MemoryDisk(capacity)
    for offset, data in content.items():
        first.write_from(offset, memoryview(data))

    def opener(read_only: bool) -> MemoryDisk:
        disk = MemoryDisk(capacity, read_only=read_only)
        disk._pieces, disk._written = first._pieces, first._written
        return disk

    return opener


# -- VixDiskLib, over every way that a disk can lie in files --------------------------------


def create(path: Path, disk_type: DiskType, capacity: int, content: Content) -> None:
    library = Library.load(VddkConfig())
    library.create(path, capacity, disk_type)
    fill(library, path, content)


def fill(library: Library, path: Path, content: Content) -> None:
    with library.open(path, read_only=False) as disk:
        for offset, data in content.items():
            disk.write_from(offset, memoryview(data))


def single(disk_type: DiskType, folder: Path, capacity: int, content: Content) -> Path:
    path = folder / "disk.vmdk"
    create(path, disk_type, capacity, content)
    return path


def chain(base_type: DiskType, folder: Path, capacity: int, content: Content) -> Path:
    """Three links. Lower links hold other bytes where a higher one has the content."""
    library = Library.load(VddkConfig())
    items = sorted(content.items())
    stale = {offset: bytes([0xEE]) * len(data) for offset, data in items}
    base, middle, top = (folder / n for n in ("disk.vmdk", "disk-000001.vmdk", "disk-000002.vmdk"))
    create(base, base_type, capacity, {**stale, **dict(items[0::3])})
    for parent, child, part in ((base, middle, items[1::3]), (middle, top, items[2::3])):
        with library.open(parent) as opened:
            library.create_child(opened, child)
        fill(library, child, dict(part))
    return top


LAYOUTS = {
    "sparse": partial(single, DiskType.MONOLITHIC_SPARSE),
    "flat": partial(single, DiskType.MONOLITHIC_FLAT),
    "split-sparse": partial(single, DiskType.SPLIT_SPARSE),
    "split-flat": partial(single, DiskType.SPLIT_FLAT),
    "vmfs-flat": partial(single, DiskType.VMFS_FLAT),
    "vmfs-thin": partial(single, DiskType.VMFS_THIN),
    "delta-on-flat": partial(chain, DiskType.MONOLITHIC_FLAT),
    "delta-on-sparse": partial(chain, DiskType.MONOLITHIC_SPARSE),
    "delta-on-thin": partial(chain, DiskType.VMFS_THIN),
}


def vddk(
    lay_out: Callable[[Path, int, Content], Path],
    isolation: bool,
    folder: Path,
    capacity: int,
    content: Content,
) -> Opener:
    path = str(lay_out(folder, capacity, content))
    config = VddkConfig(isolation=isolation)
    return lambda read_only: open_vddk_disk(config, VddkConnection(), path, read_only=read_only)


for _layout, _lay_out in LAYOUTS.items():
    kind(f"vddk-{_layout}")(partial(vddk, _lay_out, False))

# The way through the helper does not depend on the layout: one of each family.
for _layout in ("sparse", "flat", "delta-on-thin"):
    kind(f"vddk-isolated-{_layout}")(partial(vddk, LAYOUTS[_layout], True))


@kind("vddk-server")
def vddk_server(folder: Path, capacity: int, content: Content) -> Opener:
    """Over the lab's map of servers, with transport mode nbdssl and so with async requests."""
    LAYOUTS["delta-on-thin"](folder, capacity, content)
    thumbprint = ":".join(["A1"] * 20)
    (folder / "hosts.map").write_text(
        f"vcenter\tvc.lab\t443\t{thumbprint}\troot\tsecret\ndatastore\tvc.lab\t443\tds1\t{folder}\n"
    )
    settings = folder / "vixdisklib.conf"
    settings.write_text(f"vreplica.lab.root={folder}\n")

    def opener(read_only: bool) -> Disk:
        connection = VddkConnection(
            server="vc.lab",
            user="root",
            password="secret",
            thumbprint_sha1=thumbprint,
            vmx_spec="moref=vm-1",
            read_only=read_only,
        )
        config, path = VddkConfig(config_file=settings), "[ds1] disk-000002.vmdk"
        disk = open_vddk_disk(config, connection, path, read_only=read_only)
        assert disk.transport_mode == "nbdssl"
        return disk

    return opener


# -- NFC, from a lab host, over memory and over files ---------------------------------------

CLEAN_UP: list[Callable[[], None]] = []
"""Called after the test, once its disks are closed."""

NFC_PATH = "[ds1] vm/disk.vmdk"


def nfc(store: Callable[..., Any], mode: NfcMode, buffer: int, *made: Any) -> Opener:
    folder = made[0]
    host = StandaloneHost(folder, store(*made))
    host.server.start()
    CLEAN_UP.append(host.server.stop)
    config = host.config(mode=mode, buffer_bytes=buffer)
    return lambda read_only: open_nfc_disk(host, path=NFC_PATH, read_only=read_only, config=config)


def nfc_memory(_folder: Path, capacity: int, content: Content) -> MemoryStore:
    store = MemoryStore()
    store.disks[NFC_PATH] = MemoryDisk(capacity)
    for offset, data in content.items():
        store.disks[NFC_PATH].write_from(offset, memoryview(data))
    return store


def nfc_files(layout: str, folder: Path, capacity: int, content: Content) -> LibraryStore:
    path = LAYOUTS[layout](folder, capacity, content)
    return LibraryStore(lambda _path, _read_only: path)


kind("nfc-nbd")(partial(nfc, nfc_memory, "nbd", MIB))
kind("nfc-nbdssl")(partial(nfc, nfc_memory, "nbdssl", MIB))
kind("nfc-fragments")(partial(nfc, nfc_memory, "nbdssl", 64 * KIB))
for _layout in ("vmfs-thin", "delta-on-thin"):
    kind(f"nfc-{_layout}")(partial(nfc, partial(nfc_files, _layout), "nbdssl", MIB))


# -- fixtures -------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def make_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Opener]]:
    """`make_disk(capacity, content)` -> opener. What it opened is closed after the test."""
    opened: list[Disk] = []

    def make(capacity: int, content: Content | None = None) -> Opener:
        opener = KINDS[request.param](tmp_path, capacity, content or {})

        def remember(read_only: bool = False) -> Disk:
            opened.append(opener(read_only))
            return opened[-1]

        return remember

    yield make
    for disk in opened:
        disk.close()
    while CLEAN_UP:
        CLEAN_UP.pop()()
