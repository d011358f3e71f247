"""Disks at hosts by the native library, against the lab's NFC host: what arrives, what is refused.

The program is built with the sanitizers: address and undefined behaviour, and for asynchronous
requests with the thread sanitizer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.native.nfc_program import NfcProgram, build
from vreplica.disk import MemoryDisk
from vreplica.lab.nfc import HostProfile, NfcFaultRule
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc.authd import NfcTicket
from vreplica.units import KIB, MIB

PATH = "[ds1] vm 1/vm 1.vmdk"
CAPACITY = 6 * MIB + 512
ZLIB, FASTLZ, SKIPZ = 16, 32, 64
Program = Callable[..., AbstractContextManager[NfcProgram]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nfc"), "address,undefined")


@pytest.fixture(scope="module")
def threads_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nfc"), "thread")


@dataclass
class World:
    """One host with one disk, and programs that open it."""

    host: StandaloneHost
    folder: Path
    program: Path
    content: bytes

    def start(self, tickets: Callable[[bool], NfcTicket] | None = None) -> NfcProgram:
        made = NfcProgram(
            self.program,
            self.folder,
            tickets or (lambda read_only: self.host.ticket(read_only=read_only)),
        )
        made.say("set reconnect_wait_ms 20")
        return made

    @property
    def stored(self) -> bytes:
        disk = self.host.store.disks[PATH]
        data = bytearray(disk.capacity_bytes)
        disk.read_into(0, memoryview(data))
        return bytes(data)

    def fault(self, **values: Any) -> None:
        self.host.server.faults.add(NfcFaultRule.make(**values))


def content(seed: int, size: int = CAPACITY) -> bytes:
    """Random pieces of all lengths, with zeros and text between them."""
    chance, data = random.Random(seed), bytearray()
    while len(data) < size:
        length = chance.choice((700, 5_000, 70_000, 300_000))
        data += chance.choice(
            (chance.randbytes(length), bytes(length), b"a line of text, " * (length // 16))
        )
    return bytes(data[:size])


def make_world(folder: Path, program: Path, profile: HostProfile) -> Iterator[World]:
    with StandaloneHost(folder, profile=profile) as host:
        disk = MemoryDisk(CAPACITY)
        data = content(1)
        disk.write_from(0, memoryview(data))
        host.store.disks[PATH] = disk
        host.store.ddb[PATH] = {"adapterType": "lsilogic", "uuid": "60 00 C2 9a"}
        yield World(host, folder, program, data)


@pytest.fixture
def world(tmp_path: Path, program: Path) -> Iterator[World]:
    yield from make_world(tmp_path, program, HostProfile())


@pytest.fixture
def any_world(tmp_path: Path, how: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """Asynchronous requests (`pump`) run under the thread sanitizer."""
    program = request.getfixturevalue("threads_program" if how == "pump" else "program")
    yield from make_world(tmp_path, program, HostProfile())


@pytest.fixture
def release(tmp_path: Path, program: Path, request: Any) -> Iterator[World]:
    yield from make_world(tmp_path, program, request.param)


@pytest.mark.parametrize("mode", ["nbdssl", "nbd"])
@pytest.mark.parametrize("how", ["pump", "many", "one"])
def test_what_is_read_and_written_is_equal(any_world: World, mode: str, how: str) -> None:
    file = any_world.folder / "data"
    with any_world.start() as disk:
        assert disk.open(PATH, read_only=False, mode=mode).startswith(f"ok {CAPACITY} ")
        assert disk.copy(how, "read", file, chunk=300) == "ok 0"
        assert file.read_bytes() == any_world.content
        file.write_bytes(content(2))
        assert disk.copy(how, "write", file, chunk=300) == "ok 0"
        assert any_world.stored == content(2)
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("buffer", [64 * KIB, 192 * KIB])
def test_replies_of_several_fragments_arrive_in_any_order(world: World, buffer: int) -> None:
    file = world.folder / "data"
    with world.start() as disk:
        disk.say(f"set buffer_bytes {buffer}")
        disk.open(PATH, read_only=False)
        assert disk.copy("many", "read", file, chunk=4096) == "ok 0"
        assert file.read_bytes() == world.content
        file.write_bytes(content(3))
        assert disk.copy("many", "write", file, chunk=4096) == "ok 0"
        assert world.stored == content(3)
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("flag", [ZLIB, SKIPZ])
def test_packed_data_is_equal(world: World, flag: int) -> None:
    file = world.folder / "data"
    with world.start() as disk:
        disk.open(PATH, read_only=False, flags=flag)
        assert disk.copy("many", "read", file) == "ok 0"
        assert file.read_bytes() == world.content
        file.write_bytes(content(4))
        assert disk.copy("pump", "write", file) == "ok 0"
        assert world.stored == content(4)
        assert disk.say("close") == "ok"


def test_flags_of_several_compressions_are_refused(world: World) -> None:
    with world.start() as disk:
        assert disk.open(PATH, flags=ZLIB | SKIPZ) == "error 3"
        assert disk.open(PATH, flags=FASTLZ) == "error 6"


RELEASES = [
    *(HostProfile.of(release) for release in ("6.5", "7.0.3", "8.0", "9.0")),
    HostProfile.of("8.0", late_acknowledgement=True, counted_errors=False),
    HostProfile.of("8.0", tells_capacity=False),
]


@pytest.mark.parametrize("release", RELEASES, indirect=True, ids=str)
def test_hosts_of_every_release_are_read(release: World) -> None:
    file = release.folder / "data"
    with release.start() as disk:
        disk.say(f"set legacy_tls {release.host.profile.legacy_tls:d}")
        disk.capacity = CAPACITY
        assert disk.open(PATH).startswith(f"ok {CAPACITY} ")
        # A query that is refused, then what follows on the same session.
        assert disk.say("blocks 1 65536 1") == "error 3"
        assert "whole chunks" in disk.log
        assert disk.copy("many", "read", file) == "ok 0"
        assert file.read_bytes() == release.content
        assert disk.say("metadata uuid") == "ok 60 00 C2 9a"
        assert disk.say("metadata absent") == "ok (missing)"
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("release", [HostProfile.of("6.5")], indirect=True)
def test_weak_keys_are_taken_on_request_only(release: World) -> None:
    with release.start() as disk:
        assert disk.open(PATH) == "error 18000"
        assert "no TLS" in disk.log


@pytest.mark.parametrize("release", [HostProfile.of("8.0", tells_capacity=False)], indirect=True)
def test_a_capacity_that_nobody_tells_is_refused(release: World) -> None:
    with release.start() as disk:
        assert disk.open(PATH) == "error 14006"
        assert "capacity" in disk.log


def pem(world: World) -> str:
    text = world.host.server.certificate.pem.read_text("ascii")
    return text[text.index("-----BEGIN CERTIFICATE") :]


@dataclass(frozen=True)
class TicketWithCertificate(NfcTicket):
    certificate_pem: str = ""


def test_another_certificate_is_refused_before_the_ticket_is_shown(world: World) -> None:
    good = world.host.ticket(read_only=True)

    def check(other: NfcTicket, answer: str) -> None:
        with world.start(lambda _: other) as disk:
            assert disk.open(PATH).startswith(answer)
            assert ("certificate is not the one" in disk.log) == (answer != "ok")
            assert good.session_id not in disk.log
            if answer == "ok":
                assert disk.say("close") == "ok"

    check(replace(good, thumbprint_sha1=":".join(["AA"] * 20)), "error 1")
    check(replace(good, thumbprint_sha1=""), "error 1")
    words = {n: getattr(good, n) for n in NfcTicket.__dataclass_fields__}
    wrong = pem(world).replace("MII", "MIJ", 1)
    check(TicketWithCertificate(**words, certificate_pem=wrong), "error 1")
    words["thumbprint_sha1"] = "AA"  # the certificate counts, where there is one
    check(TicketWithCertificate(**words, certificate_pem=pem(world)), "ok")


def test_a_spent_ticket_is_replaced_once_and_then_refused(world: World) -> None:
    spent = world.host.ticket(read_only=True)
    world.host.server.tickets.redeem(spent.session_id)
    given = iter([spent, world.host.ticket(read_only=True)])
    with world.start(lambda _: next(given)) as disk:
        assert disk.open(PATH).startswith("ok")
        assert disk.say("close") == "ok"
    with world.start(lambda _: spent) as disk:
        assert disk.open(PATH) == "error 35"
        assert disk.asked == 2
        assert "530" in disk.log
        assert spent.session_id not in disk.log


def test_what_the_host_refuses_is_told(world: World) -> None:
    with world.start() as disk:
        assert disk.open("[ds1] no/no.vmdk") == "error 4"
        assert "no/no.vmdk was not found" in disk.log
        world.host.store.running.add(PATH)
        assert disk.open(PATH) == "error 13"
        assert "in use by a running VM" in disk.log
    with world.start(lambda _: world.host.ticket(read_only=True)) as disk:
        world.host.store.running.clear()
        assert disk.open(PATH, read_only=False) == "error 11"


def test_an_error_of_one_piece_stops_the_ones_that_wait(world: World) -> None:
    file = world.folder / "data"
    with world.start() as disk:
        disk.say(f"set in_flight_bytes {MIB}")
        disk.open(PATH, read_only=False)
        file.write_bytes(content(5))
        world.fault(
            kind="error", operation="write", code=8, text="the datastore is full", start=MIB
        )
        assert disk.copy("many", "write", file, chunk=2048) == "error 8 1"
        assert "the datastore is full (code 8)" in disk.log
        assert world.stored[:MIB] == content(5)[:MIB]
        assert world.stored[2 * MIB :] == world.content[2 * MIB :]
        assert disk.copy("pump", "write", file, chunk=2048) == "ok 0"
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("kind", ["drop", "truncate", "garbage", "hang"])
@pytest.mark.parametrize("how", ["pump", "many"])
def test_a_lost_connection_is_made_again(any_world: World, kind: str, how: str) -> None:
    world, file = any_world, any_world.folder / "data"
    with world.start() as disk:
        for timeout in ("read_ms", "write_ms"):
            disk.say(f"set {timeout} 700")
        disk.open(PATH, read_only=False)
        world.fault(kind=kind, operation="read", skip=5, count=1)
        assert disk.copy(how, "read", file, chunk=256) == "ok 1"
        assert file.read_bytes() == world.content
        file.write_bytes(content(6))
        world.fault(kind=kind, operation="write", skip=5, count=1)
        assert disk.copy(how, "write", file, chunk=256) == "ok 2"
        assert world.stored == content(6)
        world.host.server.drop_all()  # while nothing is in flight
        assert disk.copy(how, "read", file, chunk=256) == "ok 3"
        assert file.read_bytes() == content(6)
        assert disk.say("close") == "ok"
        assert disk.asked >= 4  # the host may keep the lock of the lost session for a moment


def test_a_host_that_stays_away_is_given_up(world: World) -> None:
    file = world.folder / "data"
    with world.start() as disk:
        disk.say("set reconnects 2")
        disk.open(PATH, read_only=False)
        file.write_bytes(content(7))
        world.host.server.stop()
        assert disk.copy("pump", "write", file).startswith("error 14009")
        assert disk.copy("many", "read", file).startswith("error 14009")  # at once
        assert disk.say("metadata uuid") == "error 14009"
        assert disk.say("wait") == "error 14009"  # what Flush gives
        assert disk.say("close") == "error 14009"  # written, and the host did not close it


def test_nothing_is_written_where_the_caller_may_not_go_on(world: World) -> None:
    file = world.folder / "data"
    with world.start() as disk:
        disk.say("reopen 10")
        disk.open(PATH, read_only=False)
        file.write_bytes(content(8))
        world.host.server.drop_all()
        assert disk.copy("many", "write", file).startswith("error 10")
        assert world.stored == world.content
        assert disk.say("close") == "error 10"


def test_a_disk_of_another_size_is_refused_after_a_loss(world: World) -> None:
    file = world.folder / "data"
    with world.start() as disk:
        disk.open(PATH)
        world.host.store.disks[PATH] = MemoryDisk(2 * CAPACITY)
        world.host.server.drop_all()
        assert disk.copy("many", "read", file).startswith("error 16007")
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("how", ["pump"])
def test_less_is_asked_for_where_the_host_is_short_of_memory(any_world: World, how: str) -> None:
    world, file = any_world, any_world.folder / "data"
    world.host.server.memory.limit_bytes = MIB + 600 * KIB
    with world.start() as disk:
        disk.open(PATH, read_only=False)
        file.write_bytes(content(9))
        assert disk.copy("many", "write", file) == "ok 0"
        assert disk.copy(how, "read", file) == "ok 0"
        assert file.read_bytes() == world.stored == content(9)
        assert "short of memory" in disk.log
        assert disk.say("close") == "ok"


def test_a_host_without_memory_is_told(world: World) -> None:
    world.host.server.memory.limit_bytes = KIB
    with world.start() as disk:
        disk.open(PATH)
        assert disk.copy("many", "read", world.folder / "data").startswith("error 2 0")
        assert "Failed to allocate the requested" in disk.log
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("release", [HostProfile(buffer_max=256 * KIB)], indirect=True)
def test_small_buffers_are_used_where_large_ones_are_refused(release: World) -> None:
    with release.start() as disk:
        assert disk.open(PATH).startswith("ok")
        assert disk.asked == 2
        assert disk.copy("many", "read", release.folder / "data") == "ok 0"
        assert (release.folder / "data").read_bytes() == release.content
        assert disk.say("close") == "ok"


@pytest.mark.parametrize("operation", ["open", "read", "write"])
def test_a_status_that_says_no_is_looked_at(world: World, operation: str) -> None:
    file = world.folder / "data"
    file.write_bytes(content(10))
    world.fault(kind="status", operation=operation, code=13)
    with world.start() as disk:
        opened = disk.open(PATH, read_only=False)
        assert opened == "error 13" if operation == "open" else opened.startswith("ok")
        if operation != "open":
            assert disk.copy("pump", operation, file).startswith("error 13")
            assert disk.copy("many", operation, file) == "ok 0"
            assert disk.say("close") == "ok"


def test_blocks_that_were_written_count_as_allocated(tmp_path: Path, program: Path) -> None:
    for world in make_world(tmp_path, program, HostProfile()):
        empty = MemoryDisk(4 * MIB)
        empty.write_from(MIB, memoryview(b"x" * 512))
        world.host.store.disks[PATH] = empty
        data = bytearray(4 * MIB)
        data[3 * MIB] = 1
        (tmp_path / "data").write_bytes(data)
        with world.start() as disk:
            disk.open(PATH, read_only=False)
            assert disk.say(f"blocks 0 {MIB} 4") == "ok 0100"
            assert disk.copy("many", "write", tmp_path / "data") == "ok 0"
            assert disk.say(f"blocks 0 {MIB} 4") == "ok 1111"
            assert disk.say("close") == "ok"
