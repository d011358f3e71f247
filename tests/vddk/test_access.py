"""PrepareForAccess and EndAccess: calls about a VM, without a disk."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from vreplica.disk_errors import DiskBusy
from vreplica.vddk.access import end_access, prepare_for_access
from vreplica.vddk.config import VddkConnection

REMOTE = VddkConnection(
    server="vc.example", user="replicator", password="right", vmx_spec="moref=vm-42"
)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    return lambda: [r.getMessage() for r in caplog.records]


def test_preparing_and_ending_name_vm_and_identity(dummy: Any, isolation: bool, lines: Any) -> None:
    config = dummy.config(isolation=isolation)
    prepare_for_access(config, REMOTE, "vreplica-job-1")
    end_access(config, REMOTE, "vreplica-job-1")
    assert "prepare moref=vm-42 by vreplica-job-1 as replicator" in lines()
    assert "end moref=vm-42 by vreplica-job-1" in lines()


def test_another_holder_is_a_reason_to_try_again(dummy: Any, isolation: bool) -> None:
    config = dummy.config(isolation=isolation)
    with pytest.raises(
        DiskBusy, match=r"vc\.example moref=vm-42: VixDiskLib_PrepareForAccess"
    ) as e:
        prepare_for_access(config, REMOTE, "second")
    assert e.value.retryable


def test_an_identity_that_the_server_would_cut_is_refused(dummy: Any) -> None:
    with pytest.raises(ValueError, match="at most 50 characters"):
        end_access(dummy.config(), REMOTE, "x" * 51)
