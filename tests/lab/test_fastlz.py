"""FastLZ on the lab's NFC server: the reference's blocks, round trips, hostile blocks, the wire."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.disk import MemoryDisk
from vreplica.lab.nfc.fastlz import compress, decompress
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc import wire
from vreplica.nfc.channel import HostChannel
from vreplica.nfc.config import NfcTimeouts
from vreplica.nfc.open import open_nfc_disk
from vreplica.nfc.requests import Part, ReadRequest, WriteRequest, frame
from vreplica.nfc.wire import Aio
from vreplica.units import KIB, MIB

TEXT = b"the quick brown fox jumps over the lazy dog; the quick brown fox does it again and again. "
HEAD = (
    "74686520717569636b2062726f776e20666f78206a756d7073206f76657220401e086c617a7920646f673b600de0"
    "072c10646f657320697420616761696e20616e648009002ee00c2c"
)
REFERENCE = [
    ("1e" + HEAD + "e0fd59e0fd59e0a2590461696e2e20", TEXT * 9),
    ("3e" + HEAD + "e0ffffb0590461696e2e20", TEXT * 9),
    ("010000" + "e0fd01" * 11 + "e06601040000000000", bytes(3000)),
    ("210000" + "e0ffffffffffffffffffffffb301040000000000", bytes(3000)),
]
"""What the reference implementation makes of these, at both levels."""


@pytest.mark.parametrize(("block", "data"), REFERENCE)
def test_blocks_of_the_reference_implementation(block: str, data: bytes) -> None:
    assert decompress(bytes.fromhex(block), len(data)) == data


def test_a_match_from_far_away_is_level_two() -> None:
    noise = os.urandom(40_000)
    data = noise + TEXT + noise
    near, far = compress(data, 1), compress(data, 2)
    assert len(near) > len(data) > len(far)
    assert decompress(near, len(data)) == decompress(far, len(data)) == data
    assert (near[0] >> 5, far[0] >> 5) == (0, 1)
    # By itself it takes the level that hosts take.
    assert compress(bytes(64 * KIB))[0] >> 5 == 1
    assert compress(bytes(64 * KIB - 1))[0] >> 5 == 0


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([TEXT, bytes(9000)])), max_size=12),
    st.sampled_from([1, 2]),
)
def test_what_is_packed_comes_back(pieces: list[bytes], level: int) -> None:
    data = b"".join(pieces)
    if data:
        assert decompress(compress(data, level), len(data)) == data


@given(st.data())
def test_a_spoiled_block_is_refused_or_gives_the_size_that_was_asked(data: st.DataObject) -> None:
    block = bytearray(compress(TEXT * 20, data.draw(st.sampled_from([1, 2]))))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(TEXT) * 20, 0, 1, 100]))
    try:
        found = decompress(bytes(block[: data.draw(st.integers(0, len(block)))]), size)
    except ValueError:
        return
    assert len(found) == size


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_refused_or_give_the_size_that_was_asked(block: bytes, size: int) -> None:
    with suppress(ValueError):
        assert len(decompress(block, size)) == size


# -- the wire -------------------------------------------------------------------------------


class FastRead(ReadRequest):
    """A read by a client that asks for FastLZ; `kinds` is how the fragments came."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kinds: list[int] = []
        self.wire_bytes = 0

    def parts(self, op_id: int) -> Iterator[Part]:
        (sent,) = super().parts(op_id)
        values = wire.READ.unpack(bytes(sent)[wire.AIO_HEADER.size :])
        yield frame(Aio.IO, op_id, wire.READ.pack(**{**values, "compression": 2}))

    def take(self, channel: HostChannel, payload: bytes) -> None:
        values = wire.FRAGMENT.unpack(payload)
        block = bytearray(values["wire_length"])
        channel.receive_into(memoryview(block), self.timeout_s, self.doing)
        plain = values["compression"] == wire.PLAIN
        piece = bytes(block) if plain else decompress(block, values["length"])
        self.view[values["at"] : values["at"] + values["length"]] = piece
        self.kinds.append(values["compression"])
        self.wire_bytes += len(block)
        self._missing -= values["length"]
        self.done = self._missing == 0


class FastWrite(WriteRequest):
    spoil = False

    def parts(self, op_id: int) -> Iterator[Part]:
        total = self.view.nbytes
        for at in range(0, total, self._buffer):
            piece = self.view[at : at + self._buffer]
            block = compress(piece)
            fast = len(block) < piece.nbytes
            sent = block if fast else bytes(piece)
            if self.spoil:
                sent = b"\xff" + sent[1:]
            payload = wire.FRAGMENT.pack(
                handle=self.handle,
                opcode=wire.OP_WRITE,
                compression=2 if fast else wire.PLAIN,
                offset=self.offset,
                total=total,
                at=at,
                length=piece.nbytes,
                wire_length=len(sent),
            )
            yield frame(Aio.IO, op_id, payload)
            yield sent


PATH = "[ds1] web01/web01.vmdk"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[StandaloneHost]:
    with StandaloneHost(tmp_path) as solo:
        solo.store.disks[PATH] = MemoryDisk(8 * MIB)
        yield solo


def test_a_client_that_asks_for_fastlz_gets_it_and_may_send_it(host: StandaloneHost) -> None:
    data = (TEXT * 20_000)[:MIB] + os.urandom(MIB)
    with closing(open_nfc_disk(host, path=PATH, read_only=False, config=host.config())) as disk:
        session, handle, buffer, times = disk._link.session, disk._handle, 64 * KIB, NfcTimeouts()
        write = FastWrite(handle, MIB, memoryview(data), buffer, times)
        session.run([write], 1)
        assert write.done
        back = bytearray(len(data))
        disk.read_into(MIB, memoryview(back))
        assert back == data
        back = bytearray(len(data))
        read = FastRead(handle, MIB, memoryview(back), session.buffer_bytes, times)
        session.run([read], 1)
        assert back == data
        # What does not shrink comes plain.
        assert set(read.kinds) == {wire.PLAIN, 2}
        assert MIB < read.wire_bytes < MIB + 64 * KIB


def test_a_write_that_is_no_fastlz_is_refused_and_the_session_goes_on(host: StandaloneHost) -> None:
    with closing(open_nfc_disk(host, path=PATH, read_only=False, config=host.config())) as disk:
        write = FastWrite(disk._handle, 0, memoryview(bytes(MIB)), 64 * KIB, NfcTimeouts())
        write.spoil = True
        disk._link.session.run([write], 1)
        assert not write.done
        assert "compression 2" in str(write.failure)
        # Nothing was written, and no memory of the host is lost.
        assert all(op[0] != "write" for op in host.store.disks[PATH].ops)
        disk.write_from(0, memoryview(bytes(MIB)))
    assert host.server.memory.used_bytes == 0
