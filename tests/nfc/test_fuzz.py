"""Whatever a host answers: the right bytes, or an error within the timeout. Never anything else."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vreplica.disk_errors import DiskAccessError, HostConnection
from vreplica.nfc import wire
from vreplica.nfc.channel import HostChannel
from vreplica.nfc.config import NfcConfig, NfcTimeouts
from vreplica.nfc.errors import HostTimeout, NfcProtocol, decode
from vreplica.nfc.requests import AllocatedRequest, DdbGetRequest, ReadRequest, WriteRequest
from vreplica.nfc.session import NfcSession
from vreplica.units import SECTOR

LIMIT_S = 0.15
TIMEOUTS = NfcTimeouts(LIMIT_S, LIMIT_S, LIMIT_S, LIMIT_S, LIMIT_S)
BUFFER = 4 * SECTOR
HANDLE = 77


PATIENT = NfcTimeouts(10, 10, 10, 10, 10)
"""Where the host does not keep silent, so that a busy machine is not taken for a dead one."""


@contextmanager
def talking_to(
    host: Callable[[socket.socket], None], timeouts: NfcTimeouts = TIMEOUTS
) -> Iterator[NfcSession]:
    """A session whose other end is a function in a thread."""
    mine, theirs = socket.socketpair()
    theirs.settimeout(5)

    def run() -> None:
        with suppress(OSError):
            host(theirs)

    thread = threading.Thread(target=run)
    thread.start()
    channel = HostChannel(mine, host="esx", path="[ds] a.vmdk")
    session = NfcSession(channel, NfcConfig(timeouts=timeouts), buffer_bytes=BUFFER)
    try:
        yield session
    finally:
        channel.close()
        thread.join()
        theirs.close()


def hear(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def says(data: bytes, *, hang_up: bool = True) -> Callable[[socket.socket], None]:
    """A host that says this, whatever it hears; then it hangs up, or stays and keeps silent."""

    def host(sock: socket.socket) -> None:
        sock.sendall(data)
        if hang_up:
            sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    return host


def frame(kind: int, op_id: int, payload: bytes, extra: bytes = b"") -> bytes:
    return struct.pack("<IIII", wire.AIO_MAGIC, kind, len(payload), op_id) + payload + extra


# -- replies to reads -------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A good answer to some reads: frames, and where in them the data begins."""

    lengths: tuple[int, ...]
    frames: tuple[bytes, ...]
    content: bytes

    HEAD = 16 + 44


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Frames of all reads in any order; read number n has opId n."""
    sectors = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    lengths = tuple(n * SECTOR for n in sectors)
    content = random.Random(draw(st.integers(0, 9))).randbytes(sum(lengths))
    frames = []
    offset = 0
    for op_id, total in enumerate(lengths):
        for at in range(0, total, BUFFER):
            size = min(BUFFER, total - at)
            payload = struct.pack("<QQQIIIII", 0, 1, offset, total, at, size, size, 0)
            start = offset + at
            frames.append(frame(7, op_id, payload, content[start : start + size]))
        offset += total
    return Answer(lengths, tuple(draw(st.permutations(frames))), content)


def whole(answer: Answer, _draw: st.DataObject) -> bytes:
    return b"".join(answer.frames)


def cut_short(answer: Answer, data: st.DataObject) -> bytes:
    stream = b"".join(answer.frames)
    return stream[: data.draw(st.integers(0, len(stream) - 1))]


def piece_missing(answer: Answer, data: st.DataObject) -> bytes:
    """One frame is too short, and the next follows at once."""
    frames = list(answer.frames)
    victim = data.draw(st.integers(0, len(frames) - 1))
    keep = data.draw(st.integers(0, len(frames[victim]) - 1))
    frames[victim] = frames[victim][:keep]
    return b"".join(frames)


def bit_flipped(answer: Answer, data: st.DataObject) -> bytes:
    """In a header or its fields; in the data nobody but a digest above could find it."""
    frames = [bytearray(f) for f in answer.frames]
    victim = frames[data.draw(st.integers(0, len(frames) - 1))]
    victim[data.draw(st.integers(0, Answer.HEAD - 1))] ^= 1 << data.draw(st.integers(0, 7))
    return b"".join(frames)


def field_replaced(answer: Answer, data: st.DataObject) -> bytes:
    frames = [bytearray(f) for f in answer.frames]
    victim = frames[data.draw(st.integers(0, len(frames) - 1))]
    value = data.draw(st.sampled_from([0, 1, 511, 2**31, 2**32 - 1, BUFFER + SECTOR]))
    struct.pack_into("<I", victim, 4 * data.draw(st.integers(0, Answer.HEAD // 4 - 1)), value)
    return b"".join(frames)


def frame_lost(answer: Answer, data: st.DataObject) -> bytes:
    frames = list(answer.frames)
    del frames[data.draw(st.integers(0, len(frames) - 1))]
    return b"".join(frames)


def frame_twice(answer: Answer, data: st.DataObject) -> bytes:
    frames = list(answer.frames)
    again = data.draw(st.sampled_from(frames))
    frames.insert(data.draw(st.integers(0, len(frames))), again)
    return b"".join(frames)


def garbage_between(answer: Answer, data: st.DataObject) -> bytes:
    frames = list(answer.frames)
    noise = data.draw(st.binary(min_size=1, max_size=200))
    frames.insert(data.draw(st.integers(0, len(frames))), noise)
    return b"".join(frames)


def error_between(answer: Answer, data: st.DataObject) -> bytes:
    frames = list(answer.frames)
    op_id = data.draw(st.integers(0, len(answer.lengths)))
    noise = frame(1, op_id, data.draw(st.binary(max_size=100)))
    frames.insert(data.draw(st.integers(0, len(frames))), noise)
    return b"".join(frames)


SPOILERS = [
    *(whole, cut_short, piece_missing, bit_flipped, field_replaced),
    *(frame_lost, frame_twice, garbage_between, error_between),
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("hang_up", [True, False], ids=["hang-up", "silence"])
@settings(max_examples=25)
@given(answer=answers(), data=st.data())
def test_a_read_that_is_done_holds_the_right_bytes(
    spoil: Callable[[Answer, st.DataObject], bytes],
    hang_up: bool,
    answer: Answer,
    data: st.DataObject,
) -> None:
    stream = spoil(answer, data)
    reads, offset = [], 0
    timeouts = PATIENT if hang_up or spoil is whole else TIMEOUTS
    for length in answer.lengths:
        view = memoryview(bytearray(length))
        reads.append(ReadRequest(HANDLE, offset, view, BUFFER, timeouts))
        offset += length

    start = monotonic()
    broken = False
    with talking_to(says(stream, hang_up=hang_up), timeouts) as session:
        try:
            session.run(reads, depth=len(reads))
        except HostConnection:
            broken = True
        assert session.usable != broken
    assert monotonic() - start < LIMIT_S * (len(answer.frames) + 2) + 5

    for read in reads:
        expected = answer.content[read.offset : read.offset + read.view.nbytes]
        assert not read.done or read.view == expected
    if spoil is whole:
        assert all(read.done for read in reads)
    settled = all(read.done or read.failure for read in reads)
    assert broken or settled or any(read.failure for read in reads)


# -- other replies ----------------------------------------------------------------------------


@settings(max_examples=60)
@given(noise=st.binary(max_size=2000))
def test_garbage_instead_of_the_handshake(noise: bytes) -> None:
    with talking_to(says(noise)) as session, pytest.raises(HostConnection):
        session.handshake()


@settings(max_examples=60)
@given(payload=st.binary(min_size=60, max_size=60))
@example(bytes(28) + struct.pack("<QI", 2**63, 512) + bytes(20))
@example(bytes(28) + struct.pack("<QI", 1 << 20, 4096) + bytes(20))
@example(bytes(28) + struct.pack("<QI", 1 << 20, 512) + bytes(20))
def test_any_reply_to_open_is_a_sane_file_or_an_error(payload: bytes) -> None:
    with talking_to(says(frame(4, 0, payload), hang_up=False)) as session:
        try:
            opened = session.open_file("[ds] a.vmdk", read_only=True)
        except DiskAccessError:
            return
        assert 0 <= opened.capacity_bytes < 2**63
        assert opened.capacity_bytes % SECTOR == 0


@settings(max_examples=60)
@given(kind=st.integers(0, 30), op_id=st.integers(0, 2), payload=st.binary(max_size=80))
@example(kind=11, op_id=0, payload=struct.pack("<IIII", 0, 0, 0, 2**32 - 1))
@example(kind=11, op_id=0, payload=struct.pack("<IIII", 0, 0, 0, 4))
@example(kind=1, op_id=0, payload=b"")
def test_any_reply_to_a_key_is_a_value_or_an_error(kind: int, op_id: int, payload: bytes) -> None:
    reply = frame(kind, op_id, payload, b"some")
    with talking_to(says(reply, hang_up=False)) as session:
        request = DdbGetRequest(HANDLE, "uuid", TIMEOUTS)
        try:
            session.call(request)
        except DiskAccessError:
            return
        assert request.extra in (b"", b"some"[: len(request.extra)])


@pytest.mark.parametrize("count", [0, 31, 33, 2**32, 2**64 - 1])
def test_a_bitmap_of_another_length_breaks_the_session(count: int) -> None:
    payload = bytes(32) + struct.pack("<QQ", count, 0)
    with talking_to(says(frame(13, 0, payload, bytes(64)), hang_up=False)) as session:
        with pytest.raises(NfcProtocol):
            session.call(AllocatedRequest(HANDLE, 0, 65536, 32, TIMEOUTS))
        assert not session.usable


@pytest.mark.parametrize("size", [2**16 + 1, 2**32 - 1])
def test_a_huge_error_reply_is_not_read(size: int) -> None:
    header = struct.pack("<IIII", wire.AIO_MAGIC, 1, size, 0)
    with talking_to(says(header, hang_up=False)) as session, pytest.raises(NfcProtocol):
        session.call(DdbGetRequest(HANDLE, "uuid", TIMEOUTS))


def test_a_dripping_host_is_given_up_in_time() -> None:
    """Bytes keep coming, so that no single wait is long."""

    def host(sock: socket.socket) -> None:
        for byte in frame(7, 0, bytes(44)):
            sock.sendall(bytes([byte]))
            sleep(LIMIT_S / 10)

    read = ReadRequest(HANDLE, 0, memoryview(bytearray(SECTOR)), BUFFER, TIMEOUTS)
    start = monotonic()
    with talking_to(host) as session, pytest.raises(HostTimeout):
        session.run([read], 1)
    assert monotonic() - start < 5
    assert not read.done


def test_a_host_that_takes_nothing_is_given_up_in_time() -> None:
    stop = threading.Event()
    write = WriteRequest(HANDLE, 0, memoryview(bytes(16 << 20)), BUFFER, TIMEOUTS)
    start = monotonic()
    with talking_to(lambda _: stop.wait(5) and None) as session:
        with pytest.raises(HostTimeout):
            session.run([write], 1)
        assert monotonic() - start < 3
        stop.set()
    assert not write.done


def test_a_host_that_hangs_up_while_it_takes_nothing_is_noticed() -> None:
    long = NfcTimeouts(5, 5, 5, write_s=30)
    stop = threading.Event()

    def host(sock: socket.socket) -> None:
        sleep(0.1)
        sock.shutdown(socket.SHUT_WR)
        stop.wait(10)

    write = WriteRequest(HANDLE, 0, memoryview(bytes(16 << 20)), BUFFER, long)
    start = monotonic()
    with talking_to(host) as session:
        with pytest.raises(HostConnection):
            session.run([write], 1)
        stop.set()
    assert monotonic() - start < 5


def test_a_broken_session_stays_broken() -> None:
    with talking_to(says(b"")) as session:
        for _ in range(2):
            with pytest.raises(HostConnection):
                session.call(DdbGetRequest(HANDLE, "uuid", TIMEOUTS))


@given(st.binary(max_size=300))
@example(struct.pack("<II", 11, 0))
@example(b"")
def test_any_error_payload_is_decoded(payload: bytes) -> None:
    code, reason = decode(payload)
    assert 0 <= code < 2**32
    assert f"(code {code})" in reason
