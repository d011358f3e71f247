"""The client against hosts of each ESXi release: read, write, errors, reconnect."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from vreplica import disk_errors
from vreplica.disk import MemoryDisk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc import RELEASES, HostProfile, NfcFaultRule
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc import errors
from vreplica.nfc.channel import HostChannel
from vreplica.nfc.config import NfcConfig, NfcTimeouts
from vreplica.nfc.disk import NfcDisk
from vreplica.nfc.open import open_nfc_disk
from vreplica.nfc.requests import AllocatedRequest, DdbGetRequest, ReadRequest, WriteRequest
from vreplica.nfc.session import NfcSession
from vreplica.units import BLOCK, KIB, MIB, SECTOR

PATH = "[ds1] web01/web01.vmdk"
CAPACITY = 4 * MIB
WORDS = "NfcFssrvrOpen: Failed to open the disk: the file is in use by web01 (pid 4711)"


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[StandaloneHost]:
    """A host for each release, which its tests share."""
    folder: Path = tmp_path_factory.mktemp(f"esx-{request.param}")
    with StandaloneHost(folder, profile=HostProfile.of(request.param)) as host:
        yield host


@pytest.fixture
def host(release: StandaloneHost) -> StandaloneHost:
    release.store.disks[PATH] = MemoryDisk(CAPACITY)
    release.server.faults.clear()
    return release


def open_(host: StandaloneHost, *, read_only: bool = False, **settings: Any) -> NfcDisk:
    return open_nfc_disk(host, path=PATH, read_only=read_only, config=host.config(**settings))


def read(disk: NfcDisk, offset: int, length: int) -> bytes:
    back = bytearray(length)
    disk.read_into(offset, memoryview(back))
    return bytes(back)


def write_and_read(host: StandaloneHost) -> None:
    with closing(open_(host)) as disk:
        disk.write_from(0, memoryview(b"w" * SECTOR))
        read(disk, 0, SECTOR)


# -- each release ---------------------------------------------------------------------------


def test_what_is_written_comes_back(host: StandaloneHost) -> None:
    data = os.urandom(2 * MIB + SECTOR)
    with closing(open_(host, buffer_bytes=64 * KIB)) as disk:
        disk.write_from(3 * SECTOR, memoryview(data))
        assert read(disk, 3 * SECTOR, len(data)) == data
        assert disk.allocated().covers(Extents.of(3 * SECTOR, 2 * MIB))
        assert disk.capacity_bytes == CAPACITY


def test_nothing_is_announced_that_the_client_does_not_have(host: StandaloneHost) -> None:
    with closing(open_(host, read_only=True)):
        pass
    assert {(a.version, a.features) for a in host.server.announced} == {(11, 0)}


@pytest.mark.parametrize("operation", ["open", "read", "write"])
def test_an_error_has_its_class_and_the_words_of_the_host(
    host: StandaloneHost, operation: Any
) -> None:
    host.server.faults.add(NfcFaultRule("error", operation, code=15, text=WORDS))
    with pytest.raises(disk_errors.DiskLocked) as caught:
        write_and_read(host)
    assert WORDS in str(caught.value)
    assert caught.value.code == 15


def test_a_session_goes_on_after_errors(host: StandaloneHost) -> None:
    """Also where an ordinary reply follows the error, and among requests in flight."""
    with closing(open_(host, io_bytes=64 * KIB)) as disk:
        disk.write_from(0, memoryview(b"a" * MIB))
        host.server.faults.add(NfcFaultRule("error", "allocated", code=3, text="unaligned"))
        assert disk.allocated() == Extents.of(0, CAPACITY)
        for operation in ("read", "write"):
            rule = NfcFaultRule("error", operation, code=8, text="No space left", skip=3)
            host.server.faults.add(rule)
            transfer = disk.read_into if operation == "read" else disk.write_from
            with pytest.raises(disk_errors.DiskFull, match="No space left"):
                transfer(0, memoryview(bytearray(b"b" * MIB)))
        disk.write_from(0, memoryview(b"c" * MIB))
        assert read(disk, 0, MIB) == b"c" * MIB
        assert disk.stats.connections == 1


@pytest.mark.parametrize("operation", ["open", "read", "write"])
def test_a_status_that_says_no_is_an_error(host: StandaloneHost, operation: Any) -> None:
    host.server.faults.add(NfcFaultRule("status", operation, code=8))
    with pytest.raises(disk_errors.DiskFull, match="status 0x8"):
        write_and_read(host)


def test_a_status_among_fragments_leaves_the_session_usable(host: StandaloneHost) -> None:
    with closing(open_(host, buffer_bytes=64 * KIB)) as disk:
        disk.write_from(0, memoryview(b"a" * 2 * MIB))
        host.server.faults.add(NfcFaultRule("status", "read", code=16008))
        with pytest.raises(disk_errors.DiskDamaged):
            read(disk, 0, 2 * MIB)
        assert read(disk, 0, 2 * MIB) == b"a" * 2 * MIB
        assert disk.stats.connections == 1


def test_a_lost_connection_is_made_again(host: StandaloneHost) -> None:
    data = os.urandom(2 * MIB)
    with closing(open_(host, io_bytes=256 * KIB)) as disk:
        host.server.faults.add(NfcFaultRule("drop", "write", skip=2))
        disk.write_from(0, memoryview(data))
        host.server.faults.add(NfcFaultRule("truncate", "read", skip=1))
        assert read(disk, 0, len(data)) == data
        assert disk.stats.connections == 3


# -- traits ---------------------------------------------------------------------------------


@contextmanager
def with_traits(folder: Path, **traits: Any) -> Iterator[StandaloneHost]:
    with StandaloneHost(folder, profile=HostProfile.of("8.0", **traits)) as host:
        host.store.disks[PATH] = MemoryDisk(CAPACITY)
        yield host


def test_a_capacity_that_the_host_does_not_tell_is_vcenters(tmp_path: Path) -> None:
    with with_traits(tmp_path, tells_capacity=False) as host:
        host.capacity = CAPACITY
        with closing(open_(host)) as disk:
            assert disk.capacity_bytes == CAPACITY
            host.server.drop_all()
            assert read(disk, CAPACITY - SECTOR, SECTOR) == bytes(SECTOR)
        for unknown in (None, 0, CAPACITY + 1):
            host.capacity = unknown
            with pytest.raises(disk_errors.DiskAccessError, match="its capacity is not known"):
                open_(host)


def test_old_tls_is_refused_unless_the_host_is_named(tmp_path: Path) -> None:
    with with_traits(tmp_path, legacy_tls=True) as host:
        for named in (frozenset[str](), frozenset({"127.0.0.2"})):
            with pytest.raises(errors.HostTlsTooOld, match="TLS handshake") as caught:
                open_(host, legacy_tls=named)
            assert "legacy_tls" in caught.value.remedy
            assert not caught.value.retryable
        open_(host, legacy_tls=frozenset({"127.0.0.1"})).close()


def test_without_an_announced_thumbprint_the_second_certificate_is_the_first(
    tmp_path: Path,
) -> None:
    other = ServerCertificate.create(tmp_path / "other.pem", "esx01.lab")
    with with_traits(tmp_path, sha256_announced=False) as host:
        open_(host).close()
        first, contexts = host.server._context, iter((0, 1))

        class Changing:
            """The first TLS has one certificate and the second another one."""

            def wrap_socket(self, sock: socket.socket, **how: Any) -> socket.socket:
                context = other.tls_context() if next(contexts) else first
                return context.wrap_socket(sock, **how)

        host.server._context = Changing()  # type: ignore[assignment]
        with pytest.raises(errors.HostCertificateMismatch, match="first certificate"):
            open_(host)


# -- single replies -------------------------------------------------------------------------

TIMES = NfcTimeouts(5, 5, 5, 5, 5)
HANDLE = 0xFFFFFFFF80002A1F


def frame(kind: int, op_id: int, payload: bytes, extra: bytes = b"") -> bytes:
    return struct.pack("<IIII", 0xA100DA7A, kind, len(payload), op_id) + payload + extra


def fragment(status: int, opcode: int, at: int, length: int, total: int) -> bytes:
    return struct.pack("<QQQIIIII", status, opcode, 0, total, at, length, length, 0)


@contextmanager
def host_that_says(*answers: bytes) -> Iterator[NfcSession]:
    """A session whose host has said all this already and says no more."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        theirs.sendall(b"".join(answers))
        channel = HostChannel(mine, host="esx", path=PATH)
        yield NfcSession(channel, NfcConfig(timeouts=TIMES), buffer_bytes=64 * KIB)


def a_read(length: int = SECTOR) -> ReadRequest:
    return ReadRequest(HANDLE, 0, memoryview(bytearray(length)), 64 * KIB, TIMES)


@pytest.mark.parametrize("behind", [b"", frame(7, 0, bytes(44))], ids=["alone", "and a reply"])
@pytest.mark.parametrize(
    "record",
    [
        frame(1, 0, struct.pack("<QII", 15, 0, len(WORDS)), WORDS.encode()),
        frame(1, 0, struct.pack("<QII", 15, 0, len(WORDS)) + WORDS.encode()),
        frame(1, 0, struct.pack("<II", 15, len(WORDS)) + WORDS.encode()),
    ],
    ids=["uncounted", "counted", "counted after a short head"],
)
def test_both_forms_of_an_error_are_told_apart_by_their_size(record: bytes, behind: bytes) -> None:
    good = frame(7, 1, fragment(0, 1, 0, SECTOR, SECTOR), b"D" * SECTOR)
    with host_that_says(record, behind, good) as session:
        first, second = a_read(), a_read()
        session.run([first], 1)
        assert isinstance(first.failure, disk_errors.DiskLocked)
        assert first.failure.reason == f"{WORDS} (code 15)"
        session.run([second], 1)
        assert second.done


def test_an_error_without_words_waits_for_nothing() -> None:
    with host_that_says(frame(1, 0, struct.pack("<QII", 15, 0, 0))) as session:
        request = a_read()
        session.run([request], 1)
        assert isinstance(request.failure, disk_errors.DiskLocked)


def test_the_words_of_a_host_are_shown_whatever_they_are_written_in() -> None:
    said = "Datei gesperrt \u2013 siehe\r\n\thostd.log\x1b[2J".encode()
    assert errors.decode(struct.pack("<QII", 15, 0, len(said)), said) == (
        15,
        "Datei gesperrt \u2013 siehe hostd.log?[2J (code 15)",
    )


@pytest.mark.parametrize("status", [0, HANDLE])
def test_a_reply_may_repeat_the_handle(status: int) -> None:
    data = frame(7, 0, fragment(status, 1, 0, SECTOR, SECTOR), b"D" * SECTOR)
    written = frame(7, 1, fragment(status, 0, 0, SECTOR, SECTOR))
    with host_that_says(data, written) as session:
        request = a_read()
        write = WriteRequest(HANDLE, 0, memoryview(bytes(SECTOR)), 64 * KIB, TIMES)
        session.run([request, write], 2)
        assert request.done
        assert write.done


@pytest.mark.parametrize(
    ("answer", "fails"),
    [
        (struct.pack("<Q", HANDLE), False),
        (bytes(8), False),
        (bytes(16), False),
        (struct.pack("<QQ", HANDLE, 0), False),
        (bytes(4), False),
        (struct.pack("<Q", 8), True),
        (struct.pack("<QQ", 8, 0), True),
    ],
)
def test_a_close_is_answered_in_either_size_and_may_say_no(answer: bytes, fails: bool) -> None:
    with host_that_says(frame(5, 0, answer)) as session:
        if fails:
            with pytest.raises(disk_errors.DiskFull):
                session.close_file(HANDLE)
        else:
            session.close_file(HANDLE)


def test_other_replies_say_no_by_their_first_word_too() -> None:
    bitmap = struct.pack("<QQQQQQ", 3, 0, 0, 0, 32, 0)
    value = struct.pack("<QII", 6, 0, 4)
    good = frame(7, 2, fragment(0, 1, 0, SECTOR, SECTOR), b"D" * SECTOR)
    answers = (frame(13, 0, bitmap, bytes(4)), frame(11, 1, value, b"some"), good)
    with host_that_says(*answers) as session:
        with pytest.raises(disk_errors.InvalidRequest):
            session.call(AllocatedRequest(HANDLE, 0, BLOCK, 32, TIMES))
        with pytest.raises(disk_errors.OperationUnsupported):
            session.call(DdbGetRequest(HANDLE, "uuid", TIMES))
        assert session.call(a_read()).done


def test_a_host_that_floods_a_failed_request_is_given_up() -> None:
    record = frame(1, 0, struct.pack("<QII", 15, 0, 0))
    more = frame(7, 0, fragment(0, 1, 0, SECTOR, SECTOR), b"D" * SECTOR)
    with host_that_says(record, *([more] * 9)) as session:
        session.run([a_read()], 1)
        with pytest.raises(errors.NfcProtocol, match=r"too many|not in flight"):
            session.run([a_read()], 1)
        assert not session.usable


@pytest.mark.parametrize("order", ["before 51", "after 51"])
def test_the_handshake_does_not_wait_before_the_version(order: str) -> None:
    """ESXi 7.0.3 acknowledges only after the version, ESXi 8 before it."""
    mine, theirs = socket.socketpair()
    heard: list[int] = []

    def take(size: int = 264) -> bytes:
        data = b""
        while len(data) < size:
            data += theirs.recv(size - len(data))
        if size == 264:
            heard.append(struct.unpack_from("<I", data)[0])
        return data

    def serve() -> None:
        with suppress(OSError):
            take(), take()
            if order == "before 51":
                theirs.sendall(struct.pack("<5I", 36, 0, 0, 0, 1).ljust(264, b"\0"))
            take()
            if order == "after 51":
                theirs.sendall(struct.pack("<5I", 36, 0, 0, 0, 1).ljust(264, b"\0"))
            theirs.sendall(struct.pack("<III", 51, 9, 0).ljust(264, b"\0"))
            take(sum(struct.unpack_from("<II", take(), 4)))
            take(), take()
            theirs.sendall(struct.pack("<I", 52).ljust(264, b"\0"))

    thread = threading.Thread(target=serve)
    with mine, theirs:
        theirs.settimeout(5)
        thread.start()
        session = NfcSession(
            HostChannel(mine, host="esx", path=PATH), NfcConfig(timeouts=TIMES), buffer_bytes=BLOCK
        )
        session.handshake()
        assert session.version == 9
        thread.join()
    assert heard == [43, 33, 51, 54, 55, 52]


# -- tickets --------------------------------------------------------------------------------


def test_the_certificate_in_a_ticket_is_checked(
    tmp_path: Path, ticketed: Callable[..., Any]
) -> None:
    with with_traits(tmp_path) as host:
        pem = host.server.certificate.pem.read_text()
        own = pem[pem.index("-----BEGIN CERTIFICATE") :]
        other = ServerCertificate.create(tmp_path / "other.pem", "esx01.lab").pem.read_text()
        sha1 = host.server.certificate.thumbprints.sha1
        for thumbprint in (sha1, None):
            ticketed(host, own, thumbprint).close()
            with pytest.raises(errors.HostCertificateMismatch, match="the ticket holds"):
                ticketed(host, other[other.index("-----BEGIN CERTIFICATE") :], thumbprint)
        with pytest.raises(errors.HostCertificateMismatch, match="the ticket names"):
            ticketed(host, own, "AA:" * 19 + "AA")
        with pytest.raises(errors.TicketRefused, match="cannot be read"):
            ticketed(host, "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----", sha1)
        with pytest.raises(VReplicaError):
            ticketed(host, None, None)


@pytest.fixture
def ticketed() -> Callable[..., Any]:
    """Opens a disk with a ticket as vCenter writes it."""
    from pyVmomi import vim

    from tests.nfc.test_ticket import LEAF, Stub

    def go(host: StandaloneHost, certificate: str | None, thumbprint: str | None) -> NfcDisk:
        host.store.disks.setdefault(LEAF, MemoryDisk(CAPACITY))
        stub, given = Stub(), host.ticket(read_only=True)
        stub.ticket = vim.HostServiceTicket(
            host=given.host,
            port=given.port,
            sslThumbprint=thumbprint,
            sslCertificate=certificate,
            service=given.service,
            serviceVersion="1.1",
            sessionId=given.session_id,
        )
        source = vim.ServiceInstance("ServiceInstance", stub)
        return open_nfc_disk(source, path=LEAF, vm="vm-42", config=host.config())

    return go
