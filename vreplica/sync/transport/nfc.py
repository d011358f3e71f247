"""Opens disks over the hosts' NFC service. It needs no library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.nfc.open import check_host_access, open_nfc_disk
from vreplica.sync.job import Job
from vreplica.sync.transport.opening import Opening
from vreplica.vsphere.session import Session


def open_disk(opening: Opening) -> Disk:
    return open_nfc_disk(
        _logged_in(opening.session),
        path=opening.disk.path,
        vm=opening.vm.moref,
        disk_key=opening.disk.key,
        read_only=opening.read_only,
        first_of_two=opening.first_of_two,
        on_reopen=opening.on_reopen,
        config=opening.job.nfc,
    )


def library_problem(job: Job) -> str | None:
    return None


def host_problem(opening: Opening) -> str | None:
    """Tries the port, the certificate and the ticket of the disk's host."""
    try:
        check_host_access(
            _logged_in(opening.session),
            path=opening.disk.path,
            vm=opening.vm.moref,
            disk_key=opening.disk.key,
            read_only=opening.read_only,
            config=opening.job.nfc,
        )
    except VReplicaError as error:
        return f"{opening.vm.name}: {error.message}. {error.advice()}"
    return None


def _logged_in(session: Session) -> Callable[[], Any]:
    def now() -> Any:
        # A copy makes no calls, and vCenter ends a session after half an hour without one.
        session.refresh()
        return session.service_instance

    return now
