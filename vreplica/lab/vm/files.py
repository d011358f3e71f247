"""Files of a VM: its .vmx and .vmsd, and what the API shows of all its files."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.encoding import ReferenceResolver, decode, encode
from vreplica.lab.api.managed import live
from vreplica.lab.api.names import plain_name
from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.storage.paths import nvram_file, split_path

_VM_FIELDS = (
    "name",
    "config",
    "links",
    "snapshot_count",
    "guest_settings",
    "collapse_due",
    "consolidation_needed",
)
_NVRAM_MAGIC = b"MRVN"
_NVRAM_BIOS, _NVRAM_EFI = 8_684, 270_840
"""Sizes of NVRAM files as hosts have them."""

_SNAPSHOT_FIELDS = (
    "name",
    "description",
    "number",
    "created",
    "power",
    "quiesced",
    "manifest",
    "config",
)


def vmx_text(vm: Any) -> str:
    config = vm.config
    lines = {
        ".encoding": "UTF-8",
        "config.version": "8",
        "virtualHW.version": config.version.removeprefix("vmx-"),
        "displayName": plain_name(config.name),
        "guestOS": re.sub("(_64Guest|Guest64)$", "-64", config.guestId).removesuffix("Guest"),
        "memSize": str(config.hardware.memoryMB),
        "numvcpus": str(config.hardware.numCPU),
        "cpuid.coresPerSocket": str(config.hardware.numCoresPerSocket),
        "uuid.bios": config.uuid,
        "vc.uuid": config.instanceUuid,
    }
    if config.changeTrackingEnabled:
        lines["ctkEnabled"] = "TRUE"
    if config.firmware == "efi":
        lines["firmware"] = "efi"
    lines.update(_controllers(config))
    for disk in hardware.disks_of(config):
        controller = hardware.find_device(config.hardware.device, disk.controllerKey)
        name = f"{_bus(controller)}:{disk.unitNumber}"
        lines[f"{name}.present"] = "TRUE"
        lines[f"{name}.deviceType"] = "scsi-hardDisk" if name.startswith("scsi") else "disk"
        lines[f"{name}.fileName"] = split_path(disk.backing.fileName)[1].rpartition("/")[2]
        if config.changeTrackingEnabled:
            lines[f"{name}.ctkEnabled"] = "TRUE"
    lines.update(_cards(config))
    lines.update({o.key: str(o.value) for o in config.extraConfig or ()})
    quoted = ((k, v.replace("|", "|7C").replace('"', "|22")) for k, v in lines.items())
    return "".join(f'{k} = "{v}"\n' for k, v in quoted)


def _bus(controller: Any) -> str:
    """`scsi0`, `ide1`, `sata0` or `nvme0`."""
    family = hardware.family_of(controller)
    name = "" if family is None else family.vmx_name
    return f"{name}{controller.busNumber}"


def _controllers(config: Any) -> dict[str, str]:
    lines = {}
    for item in config.hardware.device:
        family = hardware.family_of(item)
        if family is not None and family.vmx_name != "ide":
            lines[f"{_bus(item)}.present"] = "TRUE"
            model = hardware.SCSI_MODELS.get(type(item))
            if model:
                lines[f"{_bus(item)}.virtualDev"] = model
    return lines


def _cards(config: Any) -> dict[str, str]:
    lines = {}
    for number, nic in enumerate(hardware.nics_of(config)):
        name = f"ethernet{number}"
        assigned = {"manual": "static", "assigned": "vpx"}.get(nic.addressType, nic.addressType)
        lines[f"{name}.present"] = "TRUE"
        lines[f"{name}.virtualDev"] = hardware.CARD_MODELS.get(type(nic), "e1000")
        lines[f"{name}.networkName"] = nic.deviceInfo.summary
        lines[f"{name}.addressType"] = assigned
        lines[f"{name}.{'address' if assigned == 'static' else 'generatedAddress'}"] = (
            nic.macAddress
        )
    return lines


def write_vmx(vm: Any) -> None:
    """Writes the .vmx, for other programs, and the .vmsd, which RegisterVM_Task reads."""
    path = vm._site.disks.path(vm.config.files.vmPathName)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, vmx_text(vm))
    snapshots = [
        {
            **{n: encode(getattr(s, n)) for n in _SNAPSHOT_FIELDS},
            "id": s._moId,
            "parent": s.parent_snapshot._moId if s.parent_snapshot else None,
        }
        for s in vm.all_snapshots()
    ]
    state = {
        "vm": {n: encode(getattr(vm, n)) for n in _VM_FIELDS},
        "snapshots": snapshots,
        "current": vm.current._moId if vm.current else None,
    }
    _replace(path.with_suffix(".vmsd"), json.dumps(state))


def read_vmx(site: Any, ds_path: str) -> dict[str, Any]:
    """Reads what `write_vmx` wrote, with references resolved. Raises NotFound, InvalidVmConfig."""
    path = site.disks.path(ds_path)
    if not path.is_file():
        raise fault(vim.fault.NotFound, f"File {ds_path} was not found")
    try:
        state = json.loads(path.with_suffix(".vmsd").read_text())
        references = ReferenceResolver(site.objects)
        return {
            "vm": {n: decode(v, references) for n, v in state["vm"].items()},
            "snapshots": [
                {n: decode(v, references) for n, v in s.items()} for s in state["snapshots"]
            ],
            "current": state["current"],
        }
    except (OSError, ValueError, KeyError) as error:
        raise fault(
            vim.fault.InvalidVmConfig, f"{ds_path} cannot be read: {error}", property="path"
        ) from None


def _replace(path: Any, text: str) -> None:
    fresh = path.with_name(path.name + "~")
    fresh.write_text(text)
    fresh.replace(path)


def nvram_path(vm: Any) -> Path:
    """The file with the settings of the VM's firmware, beside its .vmx."""
    path: Path = vm._site.disks.path(nvram_file(vm.config))
    return path


def write_nvram(vm: Any) -> None:
    """Makes the NVRAM file where it is missing, and counts the boot in it.

    A host makes it at the first power-on; firmware writes to it at every boot.
    """
    path = nvram_path(vm)
    size = _NVRAM_EFI if vm.config.firmware == "efi" else _NVRAM_BIOS
    old = path.read_bytes() if path.exists() else b""
    boots = int.from_bytes(old[8:16], "little") + 1 if old.startswith(_NVRAM_MAGIC) else 1
    body = old[16:] if len(old) == size else secrets.token_bytes(size - 16)
    path.write_bytes(_NVRAM_MAGIC.ljust(8, b"\0") + boots.to_bytes(8, "little") + body)


def home_files(vmx: Path) -> list[Path]:
    """The files of a VM that are not disks, including half-written ones."""
    kinds = (".vmx", ".vmx~", ".vmsd", ".vmsd~", ".nvram", ".log", ".zip")
    folder = vmx.parent
    return [f for f in folder.iterdir() if f.suffix in kinds] if folder.is_dir() else []


def copy_home(vmx: Path, target: Path) -> None:
    """Copies the files of a VM that are not disks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for file in home_files(vmx):
        shutil.copy2(file, target.with_name(file.name))


def remove_home(vm: Any) -> None:
    """Removes the files of a VM that are not disks, and its folder if that is empty then."""
    vmx = vm._site.disks.path(vm.config.files.vmPathName)
    for file in home_files(vmx):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        vmx.parent.rmdir()


class FileMethods:
    """The properties of a VirtualMachine about its files. Sizes change without notice."""

    _site: Any
    host: Any
    config: Any
    links: dict[str, str]

    all_snapshots: Any

    def files(self) -> list[tuple[str, str, int]]:
        """(datastore path, kind, bytes)."""
        disks, found = self._site.disks, []
        vmx = disks.path(self.config.files.vmPathName)
        for path, kind in (
            (vmx, "config"),
            (vmx.with_suffix(".vmsd"), "snapshotList"),
            (disks.path(nvram_file(self.config)), "nvram"),
        ):
            if path.exists():
                found.append((disks.ds_path(path), kind, path.stat().st_size))
        for link in self.links:
            path = disks.path(link)
            extent = path.with_name(path.stem + "-flat.vmdk")
            for file, kind in ((path, "diskDescriptor"), (extent, "diskExtent")):
                if file.exists():
                    found.append((disks.ds_path(file), kind, file.stat().st_blocks * 512))
        return found

    @live
    def layoutEx(self) -> Any:
        layout: Any = vim.vm.FileLayoutEx
        files = [
            layout.FileInfo(
                key=i, name=name, type=kind, size=size, uniqueSize=size, accessible=True
            )
            for i, (name, kind, size) in enumerate(self.files())
        ]
        keys = {f.name: f.key for f in files}

        def chain(path: str) -> list[Any]:
            units = []
            while path:
                extent = path.removesuffix(".vmdk") + "-flat.vmdk"
                units.append([keys[n] for n in (path, extent) if n in keys])
                path = self.links.get(path, "")
            return [layout.DiskUnit(fileKey=u) for u in reversed(units) if u]

        def disks(config: Any) -> list[Any]:
            return [
                layout.DiskLayout(key=d.key, chain=chain(d.backing.fileName))
                for d in hardware.disks_of(config)
            ]

        return layout(
            file=files,
            disk=disks(self.config),
            snapshot=[
                layout.SnapshotLayout(key=s, dataKey=-1, disk=disks(s.config))
                for s in self.all_snapshots()
            ],
            timestamp=self.host.now(),
        )

    def storage_summary(self) -> Any:
        total = sum(d.capacityInBytes for d in hardware.disks_of(self.config))
        used = sum(size for _, _, size in self.files())
        return vim.vm.Summary.StorageSummary(
            committed=used,
            uncommitted=max(0, total - used),
            unshared=used,
            timestamp=self.host.now(),
        )

    @live
    def storage(self) -> Any:
        summary = self.storage_summary()
        datastore = self._site.datastore(split_path(self.config.files.vmPathName)[0])
        return vim.vm.StorageInfo(
            perDatastoreUsage=[
                vim.vm.StorageInfo.UsageOnDatastore(
                    datastore=datastore,
                    committed=summary.committed,
                    uncommitted=summary.uncommitted,
                    unshared=summary.unshared,
                )
            ],
            timestamp=self.host.now(),
        )

    @live
    def layout(self) -> Any:
        disks = [
            vim.vm.FileLayout.DiskLayout(key=d.key, diskFile=[d.backing.fileName])
            for d in hardware.disks_of(self.config)
        ]
        return vim.vm.FileLayout(disk=disks, configFile=[], logFile=[])
