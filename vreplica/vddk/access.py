"""Disables Storage vMotion of a VM while its disks are copied, and enables it again.

    prepare_for_access(...)       Storage vMotion of the VM is disabled
      snapshot, open_vddk_disk, ..., close, remove the snapshot
    end_access(...)               with the same identity, also after a crash; else the VM stays
                                  pinned to its datastore

The order is that of the VDDK 8.0 Programming Guide. On a single ESXi host PrepareForAccess fails,
and the failure may be ignored. The limit of 50 characters of an identity is the guide's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from vreplica.vddk.config import VddkConfig, VddkConnection, locate
from vreplica.vddk.handle import as_disk_error
from vreplica.vddk.helper import messages
from vreplica.vddk.helper.channel import start_helper
from vreplica.vddk.helper.messages import Op
from vreplica.vddk.library import Library
from vreplica.vddk.session import run_access

IDENTITY_MAX: Final = 50


def prepare_for_access(config: VddkConfig, connection: VddkConnection, identity: str) -> None:
    """Disables Storage vMotion of the VM; call it before the snapshot.

    Raises DiskAccessError; DiskBusy where another program has disabled it.
    """
    _run(config, connection, "PrepareForAccess", identity)


def end_access(config: VddkConfig, connection: VddkConnection, identity: str) -> None:
    """Enables Storage vMotion again, after the last disk is closed or after a crash."""
    _run(config, connection, "EndAccess", identity)


def _run(config: VddkConfig, connection: VddkConnection, call: str, identity: str) -> None:
    if len(identity) > IDENTITY_MAX:
        raise ValueError(f"an identity has at most {IDENTITY_MAX} characters: {identity!r}")
    subject = f"{connection.server} {connection.vmx_spec or ''}".strip()
    request: dict[str, Any] = {"call": call, "target": asdict(connection), "identity": identity}
    if not config.isolation:
        library = Library.load(config)
        with as_disk_error(subject):
            run_access(library.session, **request)
        return
    channel = start_helper(locate(config), config, subject)
    try:
        channel.ask(Op.ACCESS, messages.dump(request))
        channel.ask(Op.CLOSE)
    finally:
        channel.end()
