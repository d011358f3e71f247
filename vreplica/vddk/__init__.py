"""Disks of VMware's VixDiskLib, or of the native library with the same ABI.

    from vreplica.vddk.config import VddkConfig, VddkConnection
    from vreplica.vddk.open import open_vddk_disk

    with open_vddk_disk(VddkConfig(), VddkConnection(), "/path/disk.vmdk") as disk:
        disk.read_into(0, memoryview(bytearray(65536)))

This file imports nothing: the helper process loads parts of the package, and must start fast and
without numpy.
"""
