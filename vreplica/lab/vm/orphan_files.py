"""Files that no VM has yet, or has no more: what a task leaves that does not come to its end.

    task: note the name --> make the file --> the VM has it (state written) --> forget the name
          note the name --> the VM has it no more (state written) --> delete --> forget the name

A name is noted in the store before the file is made, or before the state lets go of it. When a
task fails, or the lab starts again after a kill, every noted file that no VM has is deleted. So
one rule covers new disks, clones, snapshots, merges, moves and removals, and a disk that
somebody detached on purpose is never touched.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from vreplica.lab.context import SiteContext
from vreplica.lab.storage.change_map import ctk_path
from vreplica.lab.vm.files import home_files

log = logging.getLogger("vreplica.lab")


class OrphanFiles:
    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self._local = threading.local()

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Around a piece of work: files that it notes are settled at its end."""
        if getattr(self._local, "noted", None) is not None:
            yield
            return
        noted: set[str] = set()
        self._local.noted = noted
        try:
            yield
        except BaseException:
            self.site.flush()
            self.sweep(noted)
            raise
        finally:
            self._local.noted = None
            if noted:
                # The state must be written before nothing is known of the files any more.
                self.site.flush()
                self.site.state_db.remove_orphan_files(noted)

    def making(self, ds_path: str) -> None:
        """A file that is about to be made; one that is there already is somebody else's."""
        if not self.site.disks.path(ds_path).exists():
            self.leaving([ds_path])

    def leaving(self, ds_paths: Iterable[str]) -> None:
        """Files that their VM is about to let go of."""
        noted = getattr(self._local, "noted", None)
        fresh = set(ds_paths) - noted if noted is not None else set()
        if noted is not None and fresh:
            noted |= fresh
            self.site.state_db.add_orphan_files(fresh)

    def settle(self) -> None:
        """At the start: delete what a kill left over."""
        left = self.site.state_db.orphan_files()
        self.sweep(left)
        self.site.state_db.remove_orphan_files(left)

    def sweep(self, ds_paths: Iterable[str]) -> None:
        vms = self.site.vms()
        owned = {link for vm in vms for link in vm.links}
        owned |= {vm.config.files.vmPathName for vm in vms}
        # Disks before their .vmx, so that a folder is empty in the end.
        for name in sorted(set(ds_paths) - owned, key=lambda p: p.endswith(".vmx")):
            log.info("%s: removing %s, which no VM has", self.site.name, name)
            path = self.site.disks.path(name)
            self.site.disks.forget(name)
            for file in _files(path):
                file.unlink(missing_ok=True)
            if path.parent.parent != self.site.directory:
                with contextlib.suppress(OSError):
                    path.parent.rmdir()


def _files(path: Path) -> list[Path]:
    """All that belongs to a name; half made, no library could tell."""
    if path.suffix == ".vmx":
        return home_files(path)
    changes = ctk_path(path)
    flat = path.with_name(f"{path.stem}-flat.vmdk")
    return [path, path.with_name(path.name + "~"), flat, changes, changes.with_suffix(".new")]
