"""The protocol of a transport: a module of this folder that opens disks of VMs.

A module is named as the transport is in the job file, and has these functions:

    open_disk         a Disk, by an Opening
    library_problem   what keeps its library from being loaded
    host_problem      what keeps a host from serving a disk
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vreplica.disk import Disk
from vreplica.sync.job import Job
from vreplica.vsphere.model import VmDisk, VmRef
from vreplica.vsphere.session import Session


@dataclass(frozen=True, slots=True)
class Opening:
    """One disk to be opened.

    `snapshot`: moref of the snapshot that froze it, with `disk` from the snapshot's own config;
    None: the current disk of a powered-off VM. `first_of_two`: another disk will be opened while
    this one is. `on_reopen`: called after a writer's disk was opened again, before it writes.
    """

    job: Job
    session: Session
    vm: VmRef
    disk: VmDisk
    snapshot: str | None
    read_only: bool
    first_of_two: bool = False
    on_reopen: Callable[[], object] | None = None


class DiskTransport(Protocol):
    def open_disk(self, opening: Opening) -> Disk:
        """The open disk. Raises DiskError and VSphereError."""

    def library_problem(self, job: Job) -> str | None:
        """What keeps its library from being loaded, as far as files show. None: nothing."""

    def host_problem(self, opening: Opening) -> str | None:
        """What keeps the disk's host from serving it, tried without opening it. None: nothing."""
