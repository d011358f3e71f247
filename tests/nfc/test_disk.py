"""NfcDisk against a lab host: contents, pipelining, trouble and recovery."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from vreplica import disk_errors
from vreplica.disk import MemoryDisk
from vreplica.errors import DiskClosed, Misaligned, OutOfRange, ReadOnlyDisk
from vreplica.extents import Extents
from vreplica.lab.nfc import HostProfile, NfcFaultRule
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.config import NfcMode, NfcTimeouts
from vreplica.nfc.disk import NfcDisk, NfcDiskInfo
from vreplica.nfc.open import open_nfc_disk
from vreplica.units import BLOCK, KIB, MIB, SECTOR
from vreplica.vsphere.errors import HostUnreachable

PATH = "[ds1] web01/web01.vmdk"
CAPACITY = 32 * MIB + 3 * SECTOR


@pytest.fixture
def host(tmp_path: Path) -> Iterator[StandaloneHost]:
    with StandaloneHost(tmp_path) as solo:
        solo.store.disks[PATH] = MemoryDisk(CAPACITY)
        solo.store.ddb[PATH] = {"adapterType": "lsilogic", "uuid": "60 00 C2 9a"}
        yield solo


def content(host: StandaloneHost, offset: int, length: int) -> bytes:
    data = bytearray(length)
    host.store.disks[PATH].read_into(offset, memoryview(data))
    return bytes(data)


def fill(host: StandaloneHost) -> bytes:
    data = os.urandom(16 * MIB)
    host.store.disks[PATH].write_from(0, memoryview(data))
    return data


def open_(host: StandaloneHost, *, read_only: bool = False, **settings: object) -> NfcDisk:
    config = host.config(**settings)
    return open_nfc_disk(host, path=PATH, read_only=read_only, config=config)


@pytest.mark.parametrize("mode", ["nbd", "nbdssl"])
def test_what_is_written_is_on_the_host_and_comes_back(host: StandaloneHost, mode: NfcMode) -> None:
    data = os.urandom(5 * MIB + SECTOR)
    with closing(open_(host, mode=mode)) as disk:
        disk.write_from(3 * SECTOR, memoryview(data))
        back = bytearray(len(data))
        disk.read_into(3 * SECTOR, memoryview(back))
        assert back == data
        assert disk.transport_mode == mode
    assert content(host, 3 * SECTOR, len(data)) == data


def test_info_comes_from_the_open_reply_and_the_disk_database(host: StandaloneHost) -> None:
    with closing(open_(host, read_only=True)) as disk:
        assert disk.info == NfcDiskInfo(CAPACITY, (4, 255, 63), "lsilogic", "60 00 C2 9a")
        assert disk.metadata("no.such.key") is None
        assert disk.host == "127.0.0.1"


def test_fragments_in_any_order_are_put_in_place(host: StandaloneHost) -> None:
    data = fill(host)
    with closing(open_(host, read_only=True, buffer_bytes=64 * KIB, io_bytes=4 * MIB)) as disk:
        back = bytearray(8 * MIB)
        disk.read_into(SECTOR, memoryview(back))
        assert back == data[SECTOR : SECTOR + len(back)]


def test_requests_are_checked_before_anything_is_sent(host: StandaloneHost) -> None:
    with closing(open_(host, read_only=True)) as disk:
        with pytest.raises(OutOfRange):
            disk.read_into(CAPACITY, memoryview(bytearray(SECTOR)))
        with pytest.raises(Misaligned):
            disk.read_into(1, memoryview(bytearray(SECTOR)))
        with pytest.raises(ReadOnlyDisk):
            disk.write_from(0, memoryview(bytes(SECTOR)))
    with pytest.raises(DiskClosed):
        disk.read_into(0, memoryview(bytearray(SECTOR)))


def test_allocated_covers_the_data_the_tail_and_own_writes(host: StandaloneHost) -> None:
    host.store.disks[PATH].write_from(5 * BLOCK + SECTOR, memoryview(b"x" * SECTOR))
    with closing(open_(host)) as disk:
        tail = (CAPACITY - CAPACITY % BLOCK, CAPACITY)
        assert disk.allocated() == Extents.from_pairs([(5 * BLOCK, 6 * BLOCK), tail])
        disk.write_from(8 * BLOCK, memoryview(b"y" * SECTOR))
        assert disk.allocated().covers(Extents.of(8 * BLOCK, 8 * BLOCK + SECTOR))


def test_where_the_host_cannot_say_all_is_allocated(host: StandaloneHost) -> None:
    host.server.faults.add(NfcFaultRule("error", "allocated", code=6))
    with closing(open_(host, read_only=True)) as disk:
        assert disk.allocated() == Extents.of(0, CAPACITY)


# -- opening ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (4, disk_errors.DiskNotFound),
        (15, disk_errors.DiskLocked),
        (8, disk_errors.DiskFull),
        (16008, disk_errors.DiskDamaged),
        (16014, disk_errors.DiskEncrypted),
        (16007, disk_errors.DiskOutOfRange),
        (13, disk_errors.FileAccess),
        (20005, disk_errors.DiskBusy),
        (14014, disk_errors.HostLeaving),
        (35, disk_errors.AuthenticationFailed),
        (5, disk_errors.NfcMemory),
        (6, disk_errors.OperationUnsupported),
        (3, disk_errors.InvalidRequest),
        (4711, disk_errors.DiskAccessError),
    ],
)
def test_an_error_reply_is_the_error_that_vddk_has_for_the_code(
    host: StandaloneHost, code: int, kind: type[disk_errors.DiskAccessError]
) -> None:
    host.server.faults.add(
        NfcFaultRule("error", "open", code=code, text="words of the host", count=None)
    )
    with pytest.raises(kind) as caught:
        open_(host)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert "words of the host" in str(caught.value)
    assert PATH in str(caught.value)


def test_a_disk_that_is_not_there(host: StandaloneHost) -> None:
    with pytest.raises(disk_errors.DiskNotFound):
        open_nfc_disk(host, path="[ds1] none/none.vmdk", config=host.config())


def test_a_disk_of_a_running_vm_needs_a_snapshot(host: StandaloneHost) -> None:
    host.store.running.add(PATH)
    with pytest.raises(disk_errors.FileAccess) as caught:
        open_(host, read_only=True)
    assert "snapshot" in caught.value.remedy


def test_a_disk_is_written_by_one_at_a_time(host: StandaloneHost) -> None:
    with closing(open_(host)), pytest.raises(disk_errors.DiskLocked):
        open_(host)
    open_(host).close()


def test_a_read_ticket_does_not_write(host: StandaloneHost) -> None:
    class ReadTickets(StandaloneHost):
        def ticket(self, *, read_only: bool) -> NfcTicket:
            return super().ticket(read_only=True)

    host.__class__ = ReadTickets
    with pytest.raises(disk_errors.FileAccess) as caught:
        open_(host)
    assert caught.value.code == 0x0B


def test_buffers_that_the_host_refuses_fall_back_to_the_default(host: StandaloneHost) -> None:
    with closing(open_(host, buffer_bytes=2 * MIB, buffer_count=4)) as disk:
        assert disk._link.session.buffer_bytes == 2 * MIB

    host.server.profile = HostProfile(buffer_max=MIB // 2)
    with closing(open_(host)) as disk:
        assert disk._link.session.buffer_bytes == 64 * KIB
        disk.write_from(0, memoryview(b"z" * MIB))
    assert content(host, 0, MIB) == b"z" * MIB


# -- trouble on the way -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["drop", "truncate", "garbage"])
@pytest.mark.parametrize("mode", ["nbd", "nbdssl"])
def test_a_read_survives_a_lost_connection(host: StandaloneHost, kind: str, mode: NfcMode) -> None:
    data = fill(host)
    with closing(open_(host, read_only=True, mode=mode)) as disk:
        host.server.faults.add(NfcFaultRule(kind, "read", skip=5))
        back = bytearray(len(data))
        disk.read_into(0, memoryview(back))
        assert back == data
        assert disk.stats.connections == 2
        assert host.server.faults.struck == 1


@pytest.mark.parametrize("kind", ["drop", "truncate", "garbage"])
def test_a_write_survives_a_lost_connection(host: StandaloneHost, kind: str) -> None:
    data = os.urandom(16 * MIB)
    with closing(open_(host)) as disk:
        host.server.faults.add(NfcFaultRule(kind, "write", skip=5))
        disk.write_from(0, memoryview(data))
        assert disk.stats.connections == 2
    assert content(host, 0, len(data)) == data


def test_a_silent_host_is_given_up_after_the_timeout_and_tried_again(host: StandaloneHost) -> None:
    data = fill(host)
    timeouts = NfcTimeouts(5, 5, read_s=1.5)
    with closing(open_(host, read_only=True, timeouts=timeouts)) as disk:
        host.server.faults.add(NfcFaultRule("hang", "read", skip=2))
        back = bytearray(len(data))
        disk.read_into(0, memoryview(back))
        assert back == data
        assert disk.stats.connections >= 2


def test_retries_are_bounded_and_the_cause_is_told(host: StandaloneHost) -> None:
    disk = open_(host, read_only=True, reconnects=2)
    host.server.faults.add(NfcFaultRule("drop", "read", count=None))
    with pytest.raises(disk_errors.HostConnection) as caught:
        disk.read_into(0, memoryview(bytearray(MIB)))
    assert caught.value.retryable
    assert disk.stats.connections == 3
    disk.close()


def test_a_reconnect_waits_for_the_lock_of_the_lost_connection(host: StandaloneHost) -> None:
    with closing(open_(host, reconnect_wait_s=0.05)) as disk:
        host.server.faults.add(NfcFaultRule("drop", "write"))
        host.server.faults.add(NfcFaultRule("error", "open", code=15, count=2))
        disk.write_from(0, memoryview(b"w" * MIB))
    assert content(host, 0, MIB) == b"w" * MIB


@pytest.mark.parametrize("away", [2, 9])
def test_a_reconnect_waits_for_a_vcenter_that_is_away(
    host: StandaloneHost, monkeypatch: pytest.MonkeyPatch, away: int
) -> None:
    """Within the bounds of the settings: the ticket for it comes from there."""
    disk = open_(host, reconnects=5)
    host.server.faults.add(NfcFaultRule("drop", "write"))
    refusals = iter([HostUnreachable("vc", 443, "connection refused")] * away)
    ticket = host.ticket

    def late(*, read_only: bool) -> NfcTicket:
        for refusal in refusals:
            raise refusal
        return ticket(read_only=read_only)

    monkeypatch.setattr(host, "ticket", late)
    if away > 5:
        with pytest.raises(HostUnreachable):
            disk.write_from(0, memoryview(b"w" * MIB))
    else:
        disk.write_from(0, memoryview(b"w" * MIB))
        assert disk.stats.connections == 2
    disk.close()


def test_a_disk_that_changed_its_size_meanwhile_is_refused(host: StandaloneHost) -> None:
    disk = open_(host, read_only=True)
    host.store.disks[PATH] = MemoryDisk(64 * MIB)
    host.server.faults.add(NfcFaultRule("drop", "read"))
    with pytest.raises(disk_errors.DiskOutOfRange):
        disk.read_into(0, memoryview(bytearray(MIB)))


def test_short_nfc_memory_halves_depth_and_size(host: StandaloneHost) -> None:
    data = fill(host)
    host.server.memory.limit_bytes = 2 * MIB
    with closing(open_(host, read_only=True, depth=8, io_bytes=MIB)) as disk:
        back = bytearray(len(data))
        disk.read_into(0, memoryview(back))
        assert back == data
        assert disk.stats.depth <= 4
        assert disk.stats.io_bytes <= 512 * KIB
    assert host.server.memory.used_bytes == 0


def test_memory_that_never_suffices_is_an_error(host: StandaloneHost) -> None:
    with closing(open_(host)) as disk:
        host.server.memory.limit_bytes = 1 * KIB
        with pytest.raises(disk_errors.NfcMemory) as caught:
            disk.write_from(0, memoryview(b"m" * MIB))
    assert caught.value.retryable
    assert "Failed to allocate the requested" in str(caught.value)


def test_an_error_of_one_request_leaves_the_session_usable(host: StandaloneHost) -> None:
    data = fill(host)
    with closing(open_(host, read_only=True)) as disk:
        host.server.faults.add(
            NfcFaultRule("error", "read", code=16000, start=3 * MIB, end=4 * MIB)
        )
        back = bytearray(8 * MIB)
        with pytest.raises(disk_errors.DiskDamaged) as caught:
            disk.read_into(0, memoryview(back))
        assert caught.value.where.offset_bytes == 3 * MIB
        disk.read_into(0, memoryview(back))
        assert back == data[: len(back)]
        assert disk.stats.connections == 1


def test_corrupt_bytes_are_delivered_as_they_came(host: StandaloneHost) -> None:
    """TCP and TLS do not find what the host itself spoils; digests above do."""
    data = fill(host)
    with closing(open_(host, read_only=True)) as disk:
        host.server.faults.add(NfcFaultRule("corrupt", "read"))
        back = bytearray(MIB)
        disk.read_into(0, memoryview(back))
    assert sum(a != b for a, b in zip(back, data, strict=False)) == 1


def test_closing_tells_what_the_host_said_against_it(host: StandaloneHost) -> None:
    disk = open_(host)
    disk.write_from(0, memoryview(b"c" * SECTOR))
    host.server.faults.add(NfcFaultRule("error", "close", code=8))
    with pytest.raises(disk_errors.DiskFull):
        disk.close()
    disk.close()


def test_host_in_maintenance_is_said_so(host: StandaloneHost) -> None:
    host.trouble = "the host is in maintenance mode"
    host.server.stop()
    with pytest.raises(disk_errors.HostLeaving) as caught:
        open_(host)
    assert "maintenance" in str(caught.value)


# -- side by side -----------------------------------------------------------------------------


def test_several_requests_are_in_flight_at_once(host: StandaloneHost) -> None:
    """With 150 ms a read, 8 reads at depth 4 take two rounds and a bit, not eight."""
    host.server.faults.add(NfcFaultRule("slow", "read", count=None, delay_s=0.15))
    with closing(open_(host, read_only=True, depth=4)) as disk:
        start = monotonic()
        disk.read_into(0, memoryview(bytearray(8 * MIB)))
        took = monotonic() - start
    assert took < 8 * 0.15


def test_many_disks_at_once_on_one_host(host: StandaloneHost) -> None:
    paths = [f"[ds1] vm{n}/vm{n}.vmdk" for n in range(6)]
    for path in paths:
        host.store.disks[path] = MemoryDisk(8 * MIB)
    failures: list[BaseException] = []

    def run(path: str) -> None:
        try:
            data = os.urandom(8 * MIB)
            with closing(
                open_nfc_disk(host, path=path, read_only=False, config=host.config())
            ) as disk:
                disk.write_from(0, memoryview(data))
                back = bytearray(len(data))
                disk.read_into(0, memoryview(back))
                assert back == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert host.server.memory.peak_bytes <= 32 * MIB + 6 * 8 * 24


def test_a_host_that_has_no_connection_left(host: StandaloneHost) -> None:
    host.server.profile = HostProfile(connections=1)
    with closing(open_(host, read_only=True)), pytest.raises(disk_errors.HostConnection):
        open_(host, read_only=True)
