"""Datastores of a site, as the API shows them."""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.managed import cached, live
from vreplica.lab.api.managed_entity import ManagedEntity, duplicate_name
from vreplica.lab.api.names import named
from vreplica.lab.api.vmodl import vim
from vreplica.lab.storage.datastore_names import datacenter_of
from vreplica.units import TIB


class Datastore(ManagedEntity, vim.Datastore):
    """A datastore: a folder in the site's folder, with a capacity that is a setting."""

    capacity: int
    accessible: bool
    uuid: str
    folder: str = ""
    """The folder of its files, which stored paths name. It never changes."""

    def loaded(self) -> None:
        # Labs of version 0.1 could not rename a datastore.
        self.__dict__.setdefault("folder", self.name)

    def require_unique(self, name: str) -> None:
        """Names of datastores are unique in a datacenter, whatever folder they are in."""
        taken = named((d for d in datacenter_of(self).datastore if d is not self), name)
        if taken is not None:
            raise duplicate_name(name, taken)

    def Rename_Task(self, newName: str) -> None:
        super().Rename_Task(newName)
        self._site.datastores_changed()

    def RenameDatastore(self, newName: str) -> None:
        self.Rename_Task(newName)

    @property
    def url(self) -> str:
        return f"ds:///vmfs/volumes/{self.uuid}/"

    @live
    def summary(self) -> Any:
        free = max(0, self.capacity - self._site.disks.used(self.folder))
        return vim.Datastore.Summary(
            datastore=self,
            name=self.name,
            url=self.url,
            capacity=self.capacity,
            freeSpace=free,
            uncommitted=0,
            accessible=self.accessible,
            multipleHostAccess=len(self.hosts()) > 1,
            type="VMFS",
            maintenanceMode="normal",
        )

    @live
    def info(self) -> Any:
        free = max(0, self.capacity - self._site.disks.used(self.folder))
        return vim.host.VmfsDatastoreInfo(
            name=self.name,
            url=self.url,
            freeSpace=free,
            maxFileSize=62 * TIB,
            maxVirtualDiskCapacity=62 * TIB,
            maxMemoryFileSize=62 * TIB,
            timestamp=self._site.now(),
            vmfs=vim.host.VmfsVolume(
                type="VMFS",
                name=self.name,
                capacity=self.capacity,
                blockSizeMb=1,
                maxBlocks=0,
                majorVersion=6,
                version="6.82",
                uuid=self.uuid,
                extent=[vim.host.ScsiDisk.Partition(diskName="naa.6000", partition=1)],
                vmfsUpgradable=False,
            ),
        )

    @live
    def vm(self) -> Any:
        return [v for v in self._site.vms() if self in v.datastore]

    @cached
    def host(self) -> Any:
        mount = vim.host.MountInfo(path=self.url[5:], accessMode="readWrite", accessible=True)
        return [vim.Datastore.HostMount(key=h, mountInfo=mount) for h in self.hosts()]

    def hosts(self) -> list[Any]:
        return [h for h in self._site.hosts() if self in h.datastore]

    @cached
    def capability(self) -> Any:
        return vim.Datastore.Capability(
            directoryHierarchySupported=True,
            rawDiskMappingsSupported=True,
            perFileThinProvisioningSupported=True,
        )

    @cached
    def browser(self) -> Any:
        return self._site.objects.get(f"datastoreBrowser-{self._moId}")

    def RefreshDatastore(self) -> None:
        self.touch()

    def RefreshDatastoreStorageInfo(self) -> None:
        self.touch()
