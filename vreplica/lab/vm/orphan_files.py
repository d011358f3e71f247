"""Removes files that a failed or killed task leaves: no VM has them yet, or any more.

    task: note the name --> make the file --> the VM has it (state written) --> forget the name
          note the name --> the VM has it no more (state written) --> delete --> forget the name

A name is noted in state.db before the file is made, or before the state drops it. When a task
fails, or the lab starts after a kill, every noted file that no VM has is deleted. This one rule
covers new disks, clones, snapshots, merges, moves and removals. A disk that was detached on
purpose is never noted, and so never deleted.
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
    """Notes the files that a task makes or removes, and deletes those that no VM has."""

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self._local = threading.local()

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Surrounds a piece of work. If it fails, the files that it noted are removed."""
        if getattr(self._local, "noted", None) is not None:
            yield
            return
        noted: set[str] = set()
        self._local.noted = noted
        try:
            yield
        except BaseException:
            self.site.flush()
            self.remove_unowned(noted)
            raise
        finally:
            self._local.noted = None
            if noted:
                # The state must be stored before the names are forgotten.
                self.site.flush()
                self.site.state_db.remove_orphan_files(noted)

    def note_new(self, ds_path: str) -> None:
        """Notes a file before it is made. A file that exists already is not the task's."""
        if not self.site.disks.path(ds_path).exists():
            self.note_removed([ds_path])

    def note_removed(self, ds_paths: Iterable[str]) -> None:
        """Notes files before the state of their VM drops them."""
        noted = getattr(self._local, "noted", None)
        fresh = set(ds_paths) - noted if noted is not None else set()
        if noted is not None and fresh:
            noted |= fresh
            self.site.state_db.add_orphan_files(fresh)

    def remove_leftovers(self) -> None:
        """Deletes the files that a kill left. Called at the start of the lab."""
        left = self.site.state_db.orphan_files()
        self.remove_unowned(left)
        self.site.state_db.remove_orphan_files(left)

    def remove_unowned(self, ds_paths: Iterable[str]) -> None:
        """Deletes the files among `ds_paths` that no VM has."""
        vms = self.site.vms()
        owned = {link for vm in vms for link in vm.links}
        owned |= {vm.config.files.vmPathName for vm in vms}
        # Disks before their .vmx, so that a folder is empty in the end.
        for name in sorted(set(ds_paths) - owned, key=lambda p: p.endswith(".vmx")):
            log.info("%s: removing %s, which no VM has", self.site.name, name)
            path = self.site.disks.path(name)
            self.site.disks.forget_kind(name)
            for file in _files(path):
                file.unlink(missing_ok=True)
            if path.parent.parent != self.site.directory:
                with contextlib.suppress(OSError):
                    path.parent.rmdir()


def _files(path: Path) -> list[Path]:
    """All files of a disk or of a VM, by their names: a half-made one cannot be read."""
    if path.suffix == ".vmx":
        return home_files(path)
    changes = ctk_path(path)
    flat = path.with_name(f"{path.stem}-flat.vmdk")
    return [path, path.with_name(path.name + "~"), flat, changes, changes.with_suffix(".new")]
