"""FileManager, VirtualDiskManager and the datastore browser: files by their datastore paths."""

from __future__ import annotations

import fnmatch
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vreplica.lab.api.managed import Managed, live
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.storage.paths import split_path
from vreplica.units import KIB

info: Any = vim.host.DatastoreBrowser
_FLAT: Any = vim.vm.device.VirtualDisk.FlatVer2BackingInfo

_KINDS = (
    ("-flat.vmdk", info.FileInfo),
    (".vmdk", info.VmDiskInfo),
    (".vmx", info.VmConfigInfo),
    (".log", info.VmLogInfo),
    (".nvram", info.VmNvramInfo),
)


class _Files(Managed, vim.FileManager):
    """The part that the managers share: paths, and whether a VM uses them.

    vCenter accepts a datastore path only with a datacenter. The default for a target is the
    source's (vSphere API, VirtualDiskManager).
    """

    def existing(self, name: str, datacenter: Any) -> Path:
        self.require_datacenter(datacenter)
        path: Path = self._site.disks.path(name)
        if not path.exists():
            raise fault(vim.fault.FileNotFound, f"File {name} was not found", file=name)
        return path

    def require_datacenter(self, datacenter: Any) -> None:
        if datacenter is None:
            raise invalid_argument("datacenter")

    def new(self, name: str, *, force: bool = False) -> Path:
        path: Path = self._site.disks.path(name)
        if not path.parent.is_dir():
            raise fault(vim.fault.FileNotFound, f"File {name} was not found", file=name)
        if path.exists() and not force:
            raise fault(vim.fault.FileAlreadyExists, f"File {name} already exists", file=name)
        return path


class FileManager(_Files):
    def MakeDirectory(
        self, name: str, datacenter: Any = None, createParentDirectories: bool = False
    ) -> None:
        self.require_datacenter(datacenter)
        path = self._site.disks.path(name)
        if path.exists():
            raise fault(vim.fault.FileAlreadyExists, f"File {name} already exists", file=name)
        try:
            path.mkdir(parents=createParentDirectories)
        except FileNotFoundError:
            raise fault(vim.fault.FileNotFound, f"File {name} was not found", file=name) from None

    def DeleteDatastoreFile_Task(self, name: str, datacenter: Any = None) -> None:
        path = self.existing(name, datacenter)
        self._site.disks.require_unused(path, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def MoveDatastoreFile_Task(
        self,
        sourceName: str,
        sourceDatacenter: Any,
        destinationName: str,
        destinationDatacenter: Any = None,
        force: bool = False,
    ) -> None:
        source = self.existing(sourceName, sourceDatacenter)
        self._site.disks.require_unused(source, sourceName)
        shutil.move(source, self.new(destinationName, force=force))

    def CopyDatastoreFile_Task(
        self,
        sourceName: str,
        sourceDatacenter: Any,
        destinationName: str,
        destinationDatacenter: Any = None,
        force: bool = False,
    ) -> None:
        source = self.existing(sourceName, sourceDatacenter)
        self._site.disks.require_readable(source, sourceName)
        target = self.new(destinationName, force=force)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


class VirtualDiskManager(Managed, vim.VirtualDiskManager):
    """Makes, copies, extends and removes virtual disks without a VM."""

    def _files(self) -> Any:
        return self._site.content.fileManager

    def CreateVirtualDisk_Task(self, name: str, datacenter: Any, spec: Any) -> str:
        self._files().require_datacenter(datacenter)
        self._files().new(name)
        size = getattr(spec, "capacityKb", None)
        if not size or size <= 0:
            raise invalid_argument("spec.capacityKb")
        if spec.diskType not in ("thin", "preallocated", "thick", "eagerZeroedThick"):
            raise fault(vim.fault.InvalidDiskFormat, f"{spec.diskType} is not supported")
        self._site.disks.create(name, size * KIB, thin=spec.diskType == "thin")
        return name

    def DeleteVirtualDisk_Task(self, name: str, datacenter: Any = None) -> None:
        path = self._files().existing(name, datacenter)
        self._site.disks.require_unused(path, name)
        self._site.disks.check_unlocked(name)
        self._site.disks.unlink(name)

    def CopyVirtualDisk_Task(
        self,
        sourceName: str,
        sourceDatacenter: Any,
        destName: str,
        destDatacenter: Any = None,
        destSpec: Any = None,
        force: bool = False,
    ) -> None:
        self._files().existing(sourceName, sourceDatacenter)
        self._files().new(destName)
        thin = destSpec is None or destSpec.diskType == "thin"
        self._site.disks.copy(sourceName, destName, thin=thin)

    def ExtendVirtualDisk_Task(
        self,
        name: str,
        datacenter: Any = None,
        newCapacityKb: int = 0,
        eagerZero: bool = False,
    ) -> None:
        path = self._files().existing(name, datacenter)
        self._site.disks.require_unused(path, name)
        if newCapacityKb * KIB < self._site.disks.capacity(name):
            raise invalid_argument("newCapacityKb")
        self._site.disks.grow(name, newCapacityKb * KIB)

    def QueryVirtualDiskUuid(self, name: str, datacenter: Any = None) -> Any:
        self._files().existing(name, datacenter)
        with self._site.disks.open(name) as disk:
            return disk.info.uuid

    def SetVirtualDiskUuid(self, name: str, datacenter: Any, uuid: str) -> None:
        self._files().existing(name, datacenter)
        with self._site.disks.open(name, read_only=False) as disk:
            disk.write_metadata("uuid", uuid)


class DatastoreBrowser(Managed, vim.host.DatastoreBrowser):
    """The browser of one datastore, the only item of `datastore`."""

    datastore: Any

    def SearchDatastore_Task(self, datastorePath: str, searchSpec: Any = None) -> Any:
        return self._search(datastorePath, searchSpec)

    def SearchDatastoreSubFolders_Task(self, datastorePath: str, searchSpec: Any = None) -> Any:
        root = self._folder(datastorePath)
        found = [root, *(p for p in sorted(root.rglob("*")) if p.is_dir())]
        return info.SearchResults.Array([self._result(p, searchSpec) for p in found])

    def _search(self, name: str, spec: Any) -> Any:
        return self._result(self._folder(name), spec)

    def _folder(self, name: str) -> Path:
        store = split_path(name)[0]
        if all(d.folder != store for d in self.datastore):
            raise fault(vim.fault.InvalidDatastore, f"Invalid datastore '{store}'.", name=store)
        path: Path = self._site.disks.path(name)
        if not path.is_dir():
            raise fault(vim.fault.FileNotFound, f"File {name} was not found", file=name)
        return path

    def _result(self, folder: Path, spec: Any) -> Any:
        patterns = list(spec.matchPattern or ()) if spec is not None else []
        queries = list(spec.query or ()) if spec is not None else []
        details = spec.details if spec is not None else None
        typed = bool(queries) or bool(details is not None and details.fileType)
        files = []
        for path in sorted(folder.iterdir()):
            if patterns and not any(fnmatch.fnmatch(path.name, p) for p in patterns):
                continue
            kind = _kind_of(path)
            query = next((q for q in queries if _QUERIES.get(type(q)) is kind), None)
            if queries and query is None:
                continue
            described = _described(path, kind if typed else info.FileInfo, details)
            if kind is info.VmDiskInfo and query is not None and query.details is not None:
                self._describe_disk(described, path, query.details)
            files.append(described)
        text = self._site.disks.ds_path(folder)
        store = self._site.datastore(split_path(text)[0])
        return info.SearchResults(datastore=store, folderPath=text, file=files)

    def _describe_disk(self, described: Any, path: Path, details: Any) -> None:
        """Adds what a VmDiskFileQuery asks for."""
        text = path.read_bytes()[:4096]
        if details.diskType:
            described.diskType = _FLAT
        if details.capacityKb:
            described.capacityKb = self._site.disks.capacity(self._site.disks.ds_path(path)) // KIB
        if details.thin:
            described.thin = b"thinProvisioned" in text


class HostDatastoreBrowser(DatastoreBrowser):
    """The browser of all datastores of a host."""

    _persistent = False
    host: Any

    @live
    def datastore(self) -> Any:
        return list(self.host.datastore)


_QUERIES = {
    info.VmDiskQuery: info.VmDiskInfo,
    info.VmConfigQuery: info.VmConfigInfo,
    info.FolderQuery: info.FolderInfo,
    info.VmLogQuery: info.VmLogInfo,
}


def _kind_of(path: Path) -> Any:
    if path.is_dir():
        return info.FolderInfo
    return next((kind for ending, kind in _KINDS if path.name.endswith(ending)), info.FileInfo)


def _described(path: Path, kind: Any, details: Any) -> Any:
    """A file with the details that were asked for: without any, only its name."""
    made, found = kind(path=path.name), path.stat()
    if details is not None and details.fileSize:
        made.fileSize = found.st_size
    if details is not None and details.modification:
        made.modification = datetime.fromtimestamp(found.st_mtime, UTC)
    return made
