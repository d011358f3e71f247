"""Opens disks of VixDiskLib: in this process or in a helper, once or by several handles."""

from __future__ import annotations

from functools import partial

from vreplica.vddk.binding import encoded
from vreplica.vddk.config import VddkConfig, VddkConnection, locate
from vreplica.vddk.disk import DiskBackend, VddkDisk
from vreplica.vddk.errors import ConnectionReadOnly
from vreplica.vddk.library import Library
from vreplica.vddk.raw_disk import SYNC_MODES
from vreplica.vddk.reader_pool import ReaderPool


def open_vddk_disk(
    config: VddkConfig,
    connection: VddkConnection,
    path: str,
    *,
    read_only: bool = True,
    single_link: bool = False,
) -> VddkDisk:
    """Open a disk: an absolute path of a local file, or "[datastore] dir/disk.vmdk".

    Raises LibraryProblem where no library can be used, DiskAccessError where the library refuses,
    HelperFailed where its process fails, ConnectionReadOnly on a write through a read-only
    connection to a server.
    """
    encoded(path)
    if connection.server is not None and connection.read_only and not read_only:
        raise ConnectionReadOnly(path=path, server=connection.server)

    def open_backend() -> DiskBackend:
        if config.isolation:
            # Here, as a library that runs in this process needs none of it.
            from vreplica.vddk.helper.disk import open_in_helper

            file = locate(config)
            return open_in_helper(file, config, connection, path, read_only, single_link)
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

    return VddkDisk(open_backend(), path, read_only=read_only, reopen=open_backend)
