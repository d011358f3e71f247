"""Datastore paths, and the files that they mean: a datastore is a folder in the site's folder.

"[ds1] web/web-000001.vmdk"  <->  DIR/site-a/ds1/web/web-000001.vmdk
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.context import SiteContext

HOSTS_MAP = "hosts.map"
"""In the folder of a lab: tells the native library the sites and the folders of datastores."""

_PATH = re.compile(r"\[([^\]]+)\]\s*(.*)")


def split_path(ds_path: str) -> tuple[str, str]:
    """`[ds] dir/x.vmdk` -> (ds, dir/x.vmdk). Raises InvalidDatastorePath."""
    match = _PATH.fullmatch((ds_path or "").strip())
    if match is None or any(part == ".." for part in match[2].split("/")):
        raise fault(
            vim.fault.InvalidDatastorePath,
            f"Invalid datastore path '{ds_path}'.",
            datastorePath=ds_path or "",
        )
    return match[1], match[2].strip("/")


def update_hosts_map(path: Path, site: str, datastores: dict[str, Path]) -> None:
    """Replaces the datastores of one site. `site`: its address and port, as in the map.

    Of two datastores with one name the map can hold only one.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if not line.startswith(f"datastore\t{site}\t")]
    kept += [f"datastore\t{site}\t{name}\t{folder}" for name, folder in datastores.items()]
    text = "".join(f"{line}\n" for line in kept)
    if path.exists() and text == path.read_text():
        return
    fresh = path.with_name(f"{path.name}~")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def nvram_file(config: Any) -> str:
    """The datastore path of the NVRAM file: extraConfig names it, beside the .vmx."""
    vmx = config.files.vmPathName
    named = next((o.value for o in config.extraConfig or () if o.key == "nvram"), None)
    folder, _, name = vmx.rpartition("/")
    return f"{folder}/{named or name.removesuffix('.vmx') + '.nvram'}"


def _locked(name: str) -> Any:
    text = f"Unable to access file {name} since it is locked"
    return fault(vim.fault.FileLocked, text, file=name)


class DatastorePaths:
    """Translates the datastore paths of one site, and finds free names."""

    def __init__(self, site: SiteContext) -> None:
        self.site = site

    def folder(self, datastore: str) -> Path:
        return self.site.directory / datastore

    def path(self, ds_path: str) -> Path:
        """The file of a datastore path. Raises InvalidDatastorePath, InvalidDatastore."""
        name, rest = split_path(ds_path)
        if not self.folder(name).is_dir():
            raise fault(vim.fault.InvalidDatastore, f"Invalid datastore '{name}'.", name=name)
        return self.folder(name) / rest

    def ds_path(self, path: Path) -> str:
        """The datastore path of a file."""
        datastore, *rest = path.relative_to(self.site.directory).parts
        return f"[{datastore}] {'/'.join(rest)}"

    def sibling(self, ds_path: str, name: str) -> str:
        """The datastore path of a file in the same folder."""
        return ds_path.rpartition("/")[0] + "/" + name

    def parent_of(self, ds_path: str, hint: str) -> str:
        """The parent that a parentFileNameHint names, by a relative or an absolute path."""
        below = Path(os.path.normpath(self.path(ds_path).parent / hint))
        return self.ds_path(below)

    def require_readable(self, path: Path, name: str) -> None:
        """Raises FileLocked for the NVRAM file of a running VM, unless a setting allows it."""
        if path.suffix != ".nvram" or not self.site.settings.nvram_locked:
            return
        for vm in self.site.vms():
            if vm.power != "poweredOff" and path == self.path(nvram_file(vm.config)):
                raise _locked(name)

    def require_unused(self, path: Path, name: str) -> None:
        """Raises FileLocked for a file of a registered VM, extents and change maps included."""
        self.require_readable(path, name)
        part_of = path.with_name(re.sub(r"-(flat|ctk)\.vmdk$", ".vmdk", path.name))
        for vm in self.site.vms():
            used = [*vm.links, vm.config.files.vmPathName]
            for file in (self.path(u) for u in used):
                if file == part_of or path in file.parents:
                    raise _locked(name)

    def free_name(self, ds_path: str) -> str:
        """`[ds] d/x.vmdk`, or with _1, _2, ... where that exists."""
        path = self.path(ds_path)
        number = 0
        while path.exists():
            number += 1
            path = path.with_name(f"{self.path(ds_path).stem}_{number}{path.suffix}")
        return self.ds_path(path)

    def free_folder(self, store: str, name: str, taken: Collection[str] = ()) -> str:
        """`[store] name`, or with _1, _2, ... where that exists or is in `taken`."""
        folder, number = f"[{store}] {name}", 0
        while folder in taken or self.path(folder).exists():
            number += 1
            folder = f"[{store}] {name}_{number}"
        return folder

    def next_link_name(self, ds_path: str) -> str:
        """The next free name `x-000001.vmdk` for a new link on a disk."""
        path = self.path(ds_path)
        stem = re.sub(r"-\d{6}$", "", path.stem)
        number = 1
        while (made := path.with_name(f"{stem}-{number:06d}.vmdk")).exists():
            number += 1
        return self.ds_path(made)
