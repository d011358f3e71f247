"""What the library is told, and what becomes of its refusals: parameters, secrets, versions."""

from __future__ import annotations

import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vreplica.disk_errors import (
    AuthenticationFailed,
    CertificateMismatch,
    DiskAccessError,
    DiskLocked,
    DiskNotFound,
    NfcMemory,
)
from vreplica.extents import Extents
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.errors import ConnectionReadOnly
from vreplica.vddk.open import open_vddk_disk

REMOTE = VddkConnection(
    server="vc.example",
    port=8443,
    user="replicator",
    password="right",
    thumbprint_sha1="AA:BB:CC",
    vmx_spec="moref=vm-42",
    snapshot_ref="snapshot-7",
)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    return lambda: [r.getMessage() for r in caplog.records]


def test_a_local_disk_is_opened_without_credentials(
    dummy: Any, isolation: bool, lines: Any
) -> None:
    dummy.open(dummy.disk(bytes(MIB)), isolation=isolation).close()
    expected = "local readonly=1 snapshot=- modes=-"
    # In this process, local disks share one connection, which can also write.
    assert isolation is (expected in lines())


def test_everything_about_a_server_reaches_the_library(
    dummy: Any, isolation: bool, lines: Any
) -> None:
    path = str(dummy.disk(bytes(MIB)))
    config = dummy.config(isolation=isolation)
    open_vddk_disk(config, REMOTE, path).close()
    assert (
        "connect vc.example:8443 vmx=moref=vm-42 thumb=AA:BB:CC cred=1 user=replicator "
        "readonly=1 snapshot=snapshot-7 modes=-" in lines()
    )


def test_writing_to_a_server_asks_for_nbdssl_since_the_default_may_be_san(
    dummy: Any, isolation: bool, lines: Any
) -> None:
    path = str(dummy.disk(bytes(MIB)))
    config = dummy.config(isolation=isolation)
    writable = replace(REMOTE, read_only=False, snapshot_ref=None)
    open_vddk_disk(config, writable, path, read_only=False).close()
    open_vddk_disk(
        replace(config, transport_modes="hotadd"), writable, path, read_only=False
    ).close()
    told = [line for line in lines() if line.startswith("connect")]
    assert told[0].endswith("readonly=0 snapshot=- modes=nbdssl")
    assert told[1].endswith("readonly=0 snapshot=- modes=hotadd")


def test_a_read_only_connection_to_a_server_refuses_to_write(dummy: Any) -> None:
    path = str(dummy.disk(bytes(MIB)))
    with pytest.raises(ConnectionReadOnly, match=r"read-only connection to vc\.example"):
        open_vddk_disk(dummy.config(), REMOTE, path, read_only=False)


def test_a_session_cookie_is_used_instead_of_a_login(
    dummy: Any, isolation: bool, lines: Any
) -> None:
    path = str(dummy.disk(bytes(MIB)))
    config = dummy.config(isolation=isolation)
    open_vddk_disk(config, replace(REMOTE, password=None, cookie="good-cookie"), path).close()
    assert any("cred=2 user=replicator" in line for line in lines())


@pytest.mark.parametrize("secret", [{"password": "hunter2"}, {"cookie": "0f-stolen-1e"}])
def test_secrets_are_hidden_in_errors_logs_and_reprs(
    dummy: Any, isolation: bool, lines: Any, secret: dict[str, str]
) -> None:
    path = str(dummy.disk(bytes(MIB)))
    (value,) = secret.values()
    connection = replace(REMOTE, **secret)
    with pytest.raises(AuthenticationFailed) as caught:
        open_vddk_disk(dummy.config(isolation=isolation), connection, path)
    assert "<hidden> refused" in caught.value.detail
    shown = [str(caught.value), repr(caught.value), str(caught.value.to_dict()), *lines()]
    assert not [text for text in shown if value in text]
    assert value not in repr(connection)


def test_the_code_is_masked_and_the_text_is_the_library_s(dummy: Any, isolation: bool) -> None:
    path = str(dummy.disk(bytes(MIB)))
    with pytest.raises(AuthenticationFailed) as caught:
        open_vddk_disk(dummy.config(isolation=isolation), replace(REMOTE, password="wrong"), path)
    error = caught.value
    assert (error.doing, error.code) == ("VixDiskLib_ConnectEx", 35)
    assert error.reason == "dummy error 35 (code 35)"
    assert not error.retryable
    assert error.message.startswith(
        f"{path}: VixDiskLib_ConnectEx failed: dummy error 35 (code 35)"
    )


@pytest.mark.parametrize(
    ("fault", "expected", "retryable"),
    [
        ("open 15", DiskLocked, True),
        ("open 4", DiskNotFound, False),
        ("open thumb", CertificateMismatch, False),
        ("open nfc", NfcMemory, True),
        ("open 1", DiskAccessError, False),
    ],
)
def test_refusals_become_errors_by_meaning(
    dummy: Any, isolation: bool, fault: str, expected: type[DiskAccessError], retryable: bool
) -> None:
    path = dummy.disk(bytes(MIB))
    dummy.fault(path, fault)
    with pytest.raises(DiskAccessError) as caught:
        dummy.open(path, isolation=isolation)
    error = caught.value
    assert type(error) is expected
    assert error.retryable is retryable
    assert error.remedy
    assert error.path == str(path)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is expected
    assert str(copy) == str(error)


def test_a_nul_is_refused_without_showing_what_it_was_in(dummy: Any, isolation: bool) -> None:
    config = dummy.config(isolation=isolation)
    with pytest.raises(ValueError, match="a NUL") as caught:
        open_vddk_disk(config, VddkConnection(), "/d/a.vmdk\0.txt")
    with pytest.raises(ValueError, match="a NUL in password") as caught:
        replace(REMOTE, password="hunter2\0")
    assert "hunter2" not in str(caught.value)


def test_names_that_are_not_utf_8_keep_their_bytes(dummy: Any, isolation: bool) -> None:
    path = dummy.disk(bytes(MIB), os.fsdecode(b"latin-\xe9.raw"))
    dummy.open(path, isolation=isolation).close()
    dummy.fault(path, "open 15")
    with pytest.raises(DiskLocked) as caught:
        dummy.open(path, isolation=isolation)
    assert "latin-\N{REPLACEMENT CHARACTER}.raw" in str(caught.value), "can be printed"


def test_a_certificate_mismatch_shows_both_thumbprints(dummy: Any, isolation: bool) -> None:
    path = dummy.disk(bytes(MIB))
    dummy.fault(path, "open thumb")
    with pytest.raises(CertificateMismatch, match=r"actual AA:BB expected CC:DD"):
        dummy.open(path, isolation=isolation)


def test_a_failed_transfer_says_at_which_byte(dummy: Any, isolation: bool) -> None:
    path = dummy.disk(bytes(8 * MIB))
    with dummy.open(path, isolation=isolation) as disk:
        dummy.fault(path, "read 8")
        with pytest.raises(DiskAccessError) as caught:
            disk.read_into(3 * MIB, memoryview(bytearray(2 * MIB)))
    assert caught.value.where.offset_bytes == 3 * MIB


# -- other versions of the library ----------------------------------------------------------


@pytest.fixture(scope="module")
def old_libdir(build_dummy: Any) -> Path:
    """6.5: no AllocateConnectParams, no QueryAllocatedBlocks, an Info of 56 bytes."""
    return Path(build_dummy("-DOLD", soname="so.6"))


def test_a_6_5_library_reads_with_a_struct_of_our_own(
    dummy: Any, old_libdir: Path, isolation: bool, lines: Any
) -> None:
    content = bytes(range(256)) * 8192
    config = VddkConfig(libdir=old_libdir, isolation=isolation)
    with open_vddk_disk(config, REMOTE, str(dummy.disk(content))) as disk:
        buffer = memoryview(bytearray(len(content)))
        disk.read_into(0, buffer)
        assert buffer == content
        assert disk.info.logical_sector_size is None, "not in the struct before 7.0"
        assert disk.info.physical_sector_size is None
        assert disk.info.uuid == "60 00 C2 91"
        assert disk.info.bios_geometry == (7, 8, 9)
        assert disk.allocated() == Extents.of(0, len(content))
        assert any("does not have the function" in line for line in lines())
    assert any("user=replicator" in line for line in lines())


def test_sector_sizes_are_read_from_7_0_on(dummy: Any, isolation: bool) -> None:
    with dummy.open(dummy.disk(bytes(MIB)), isolation=isolation) as disk:
        assert (disk.info.logical_sector_size, disk.info.physical_sector_size) == (512, 4096)


def test_a_disk_that_is_refused_leaves_no_login_behind(
    dummy: Any, isolation: bool, lines: Any
) -> None:
    path = dummy.disk(bytes(MIB))
    dummy.fault(path, "open 15")
    with pytest.raises(DiskLocked):
        open_vddk_disk(dummy.config(isolation=isolation), REMOTE, str(path))
    assert "disconnect" in lines()
