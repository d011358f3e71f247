"""Opens disks of VixDiskLib, in this process or in a helper process."""

from __future__ import annotations

import logging
from functools import partial

from vreplica.vddk.binding import encoded
from vreplica.vddk.config import VddkConfig, VddkConnection, locate
from vreplica.vddk.disk import DiskBackend, VddkDisk
from vreplica.vddk.errors import ConnectionReadOnly
from vreplica.vddk.library import Library
from vreplica.vddk.raw_disk import SYNC_MODES
from vreplica.vddk.reader_pool import ReaderPool

log = logging.getLogger("vreplica.vddk")


def open_vddk_disk(
    config: VddkConfig,
    connection: VddkConnection,
    path: str,
    *,
    read_only: bool = True,
    single_link: bool = False,
) -> VddkDisk:
    """Opens a disk: an absolute path of a local file, or "[datastore] dir/disk.vmdk".

    single_link: only this link of the chain.

    Raises LibraryProblem where no library can be used, DiskAccessError where the library refuses,
    HelperFailed where its process fails, ConnectionReadOnly for writing over a read-only
    connection.
    """
    encoded(path)
    if connection.server is not None and connection.read_only and not read_only:
        raise ConnectionReadOnly(path=path, server=connection.server)

    def open_backend() -> DiskBackend:
        if config.isolation:
            # Imported here, since a library in this process does not need it.
            from vreplica.vddk.helper.disk import open_in_helper

            file = locate(config)
            return open_in_helper(
                file, config, connection, path, read_only=read_only, single_link=single_link
            )
        open_handle = partial(
            Library.load(config).open,
            path,
            connection,
            read_only=read_only,
            single_link=single_link,
            transport_modes=config.transport_modes,
            io_depth=config.io_depth,
        )
        first = open_handle()
        if read_only and first.transport_mode in SYNC_MODES:
            return ReaderPool(first, open_handle)
        return first

    disk = VddkDisk(open_backend(), path, read_only=read_only, reopen=open_backend)
    where = f"helper process {disk.helper_pid}" if disk.helper_pid else "this process"
    log.debug("%s: open over %s in %s", path, disk.transport_mode, where)
    return disk
