"""Lab hosts as releases of ESXi speak. The client here has no code of the product's."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import SoapStubAdapter, vim

from tests.support.lab import unchecked
from vreplica.disk import MemoryDisk
from vreplica.errors import VReplicaError
from vreplica.lab import Lab, LabControl
from vreplica.lab.nfc import RELEASES, Announced, HostProfile, NfcFaultRule
from vreplica.lab.nfc.compression import FASTLZ, SKIPZ, ZLIB, compress, decompress
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.lab.vcenter.environment import NEWEST_OF
from vreplica.nfc.ticket import register
from vreplica.units import KIB, MIB

PATH = "[ds1] a/a.vmdk"
TEXT = "NfcFssrvrOpen: Failed to open the disk: it is in use by another process"
KINDS = (ZLIB, FASTLZ, SKIPZ)


def tls(sock: socket.socket, level: int) -> ssl.SSLSocket:
    context = unchecked()
    context.set_ciphers(f"DEFAULT:@SECLEVEL={level}")
    return context.wrap_socket(sock)


class RawClient:
    """A client in the clear (nbd): login, handshake and frames, one after the other."""

    def __init__(self, host: StandaloneHost, *, early_version: bool = True, level: int = 1) -> None:
        ticket = host.ticket(read_only=False)
        self.sock = socket.create_connection((ticket.host, ticket.port), 5)
        self.greeting = self.line(self.sock)
        inner = tls(self.sock, level)
        inner.sendall(f"SESSION {ticket.session_id}\r\nTHUMBPRINT_SHA2 PlainText\r\n".encode())
        self.thumbprint = self.line(inner)
        inner.sendall(f"PROXY {ticket.service}\r\n".encode())
        self.endpoint = self.line(inner)
        self.sock = socket.socket(fileno=inner.detach())
        self.sock.settimeout(5)
        self.op_id = -1
        self.early_version = early_version

    @staticmethod
    def line(sock: socket.socket) -> str:
        data = b""
        while not data.endswith(b"\n"):
            data += sock.recv(1)
        return data.decode().rstrip("\r\n")

    def take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "the host hung up"
            data += more
        return data

    def say(self, kind: int, *words: int, text: bytes = b"") -> None:
        self.sock.sendall(
            (struct.pack(f"<{1 + len(words)}I", kind, *words) + text).ljust(264, b"\0")
        )

    def handshake(self) -> list[tuple[int, ...]]:
        """Returns (type, first word, fourth word) of each message."""
        self.say(43, text=b"PlainText")
        self.say(33)
        heard = []
        if not self.early_version:
            heard.append(self.take(264))
        self.say(51, 11)
        while len(heard) < 2:
            heard.append(self.take(264))
        self.say(54, 4, 3)
        self.sock.sendall(b"toolrun")
        self.say(55, 5)
        self.say(52)
        heard.append(self.take(264))
        found = [struct.unpack_from("<5I", m) for m in heard]
        return [(words[0], words[1], words[4]) for words in found]

    def send(self, kind: int, payload: bytes, extra: bytes = b"") -> int:
        self.op_id += 1
        head = struct.pack("<IIII", 0xA100DA7A, kind, len(payload), self.op_id)
        self.sock.sendall(head + payload + extra)
        return self.op_id

    def hear(self) -> tuple[int, int, bytes]:
        magic, kind, size, op_id = struct.unpack("<IIII", self.take(16))
        assert magic == 0xA100DA7A
        return kind, op_id, self.take(size)

    def ask(self, kind: int, payload: bytes, extra: bytes = b"") -> bytes:
        """Returns the payload of the reply, which is no error."""
        op_id = self.send(kind, payload, extra)
        kind_, id_, answer = self.hear()
        assert (kind_, id_) == (kind, op_id)
        return answer

    def open(self, path: str = PATH, session: bytes = bytes(16)) -> bytes:
        self.ask(2, session)
        name = path.encode()
        payload = struct.pack("<I12xII", len(name), 2, 0x1A).ljust(60, b"\0")
        answer = self.ask(4, payload, name)
        (self.handle,) = struct.unpack_from("<Q", answer, 8)
        return answer

    def read(self, offset: int, length: int, compression: int = 0) -> dict[str, Any]:
        payload = struct.pack(
            *("<QIIQQIII", self.handle, 1, compression, offset, length, length, length, 0)
        )
        answer = self.ask(7, payload)
        status, _, packed, at, total, _, size, wire_size, _ = struct.unpack("<QIIQIIIII", answer)
        assert (at, total, size) == (offset, length, length)
        return {"status": status, "compression": packed, "data": self.take(wire_size)}

    def write(self, offset: int, data: bytes, compression: int = 0, block: bytes = b"") -> bytes:
        size, wire_size = len(data), len(block or data)
        payload = struct.pack(
            *("<QIIQIIIII", self.handle, 0, compression, offset, size, 0, size, wire_size, 0)
        )
        return self.ask(7, payload, block or data)


@contextmanager
def host_of(folder: Path, release: str, **traits: Any) -> Iterator[StandaloneHost]:
    with StandaloneHost(folder, profile=HostProfile.of(release, **traits)) as host:
        host.store.disks[PATH] = MemoryDisk(4 * MIB)
        yield host


@contextmanager
def client_of(host: StandaloneHost, **how: Any) -> Iterator[RawClient]:
    client = RawClient(host, **how)
    try:
        yield client
    finally:
        client.sock.close()


def test_only_releases_and_traits_that_exist_are_accepted() -> None:
    assert RELEASES.keys() == NEWEST_OF.keys()
    with pytest.raises(ValueError, match="no such ESXi release: 5"):
        HostProfile.of("5.0")
    with pytest.raises(ValueError, match="a host has no speed; known: buffer_max"):
        HostProfile.of("8.0", speed=1)
    with pytest.raises(ValueError, match="tells_capacity of a host is bool: 'no'"):
        HostProfile.of("8.0", tells_capacity="no")


@pytest.mark.parametrize("release", RELEASES)
def test_greeting_handshake_and_the_client_that_is_remembered(tmp_path: Path, release: str) -> None:
    before_8, seven = release < "8", release == "7.0.3"
    with host_of(tmp_path, release) as host:
        with client_of(host, early_version=seven) as client:
            assert client.greeting.endswith("SHA256 supported") is not before_8
            assert client.thumbprint.startswith("530 " if before_8 else "200 ")
            assert client.endpoint == "200 Connect ha-nfc"
            version = (51, 9 if seven else 11, 0)
            assert client.handshake() == [(36, 0, 1), version, (52, 0, 0)]
            client.open()
        assert list(host.server.announced) == [Announced("tool", "run", 11, 5)]


def test_the_handshake_of_7_0_3_waits_for_the_version(tmp_path: Path) -> None:
    with host_of(tmp_path, "7.0.3") as host, client_of(host, early_version=False) as client:
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.handshake()


@pytest.mark.parametrize("release", ["6.5", "6.7"])
def test_old_tls_needs_security_level_one(tmp_path: Path, release: str) -> None:
    with host_of(tmp_path, release) as host:
        with pytest.raises(ssl.SSLError, match="DH_KEY_TOO_SMALL"):
            RawClient(host, level=2)
        with client_of(host, level=1) as client:
            assert client.endpoint == "200 Connect ha-nfc"


def test_an_error_record_counts_its_text_or_is_followed_by_it_and_a_reply(tmp_path: Path) -> None:
    for release, counted in (("8.0", True), ("7.0.3", False)):
        folder = tmp_path / release
        folder.mkdir()
        with host_of(folder, release) as host, client_of(host) as client:
            client.handshake()
            client.ask(2, bytes(16))
            host.server.faults.add(NfcFaultRule("error", "open", code=11, text=TEXT))
            request = struct.pack("<I12xII", len(PATH), 2, 0x1A).ljust(60, b"\0")
            op_id = client.send(4, request, PATH.encode())
            kind, id_, payload = client.hear()
            assert (kind, id_, payload[:16]) == (1, op_id, struct.pack("<QII", 11, 0, len(TEXT)))
            if counted:
                assert payload[16:] == TEXT.encode()
            else:
                assert payload[16:] == b""
                assert client.take(len(TEXT)) == TEXT.encode()
                assert client.hear() == (4, op_id, bytes(60))
            client.handle = 1  # the session goes on, also after a handle that does not exist
            client.send(5, struct.pack("<Q", 1))
            assert client.hear()[0] == 1


def test_a_status_is_the_first_word_of_a_reply(tmp_path: Path) -> None:
    with host_of(tmp_path, "8.0") as host, client_of(host) as client:
        client.handshake()
        for operation in ("open", "read", "write"):
            host.server.faults.add(NfcFaultRule("status", operation, code=8))
        assert struct.unpack_from("<Q", client.open()) == (8,)
        assert client.read(0, 512)["status"] == 8
        assert client.read(0, 512)["status"] == 0
        assert struct.unpack_from("<Q", client.write(0, b"x" * 512)) == (8,)
        # Nothing was written.
        assert client.read(0, 512)["data"] == bytes(512)


@pytest.mark.parametrize("tells", [True, False])
def test_a_host_may_keep_the_capacity_to_itself(tmp_path: Path, tells: bool) -> None:
    with host_of(tmp_path, "8.0", tells_capacity=tells) as host, client_of(host) as client:
        client.handshake()
        assert struct.unpack_from("<Q", client.open(), 28) == (4 * MIB if tells else 0,)


@pytest.mark.parametrize(("file_size", "session_size"), [(8, 4), (16, 16)])
def test_close_comes_in_either_size(tmp_path: Path, file_size: int, session_size: int) -> None:
    with host_of(tmp_path, "8.0") as host, client_of(host) as client:
        client.handshake()
        client.open()
        closed = client.ask(5, struct.pack("<Q", client.handle).ljust(file_size, b"\0"))
        assert len(closed) == file_size
        client.ask(3, bytes(session_size))
        client.say(4)
        assert client.sock.recv(1) == b""


@pytest.mark.parametrize("kind", KINDS)
def test_fragments_are_packed_as_the_client_asks(tmp_path: Path, kind: int) -> None:
    data = (bytes(5000) + b"some text, again and again. " * 20).ljust(64 * KIB, b"\0")
    noise = os.urandom(512)
    with host_of(tmp_path, "8.0") as host, client_of(host) as client:
        client.handshake()
        client.open()
        client.write(0, data, kind, compress(kind, memoryview(data)))
        assert client.read(0, len(data))["data"] == data
        found = client.read(0, len(data), kind)
        assert found["compression"] == kind
        assert len(found["data"]) < len(data) // 10
        assert decompress(kind, found["data"], len(data)) == data
        # What does not shrink comes plain.
        client.write(MIB, noise)
        assert client.read(MIB, 512, kind) == {"status": 0, "compression": 0, "data": noise}


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([bytes(99)])), max_size=9))
def test_what_is_packed_comes_back(kind: int, pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    if data:
        block = compress(kind, memoryview(data))
        assert decompress(kind, block, len(data)) == data
        for size in (len(data) + 1, len(data) - 1):
            with pytest.raises(ValueError, match=r"."):
                decompress(kind, block, size)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        struct.pack("<II", 9, 0),
        struct.pack("<II", 8, 1),
        struct.pack("<IIII", 8, 0, 8, 1) + b"x",
        struct.pack("<IIII", 8, 0, 0, 9) + b"x" * 9,
        struct.pack("<IIII", 8, 0, 0, 4) + b"x",
        struct.pack("<IIII", 8, 0, 0, 0),
        struct.pack("<II", 8, 0) + (struct.pack("<II", 0, 2) + b"xx") * 2,
        struct.pack("<II", 8, 0) + b"abc",
    ],
)
def test_a_skipz_block_that_leaves_its_bounds_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decompress(SKIPZ, block, 8)


# -- in a lab -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    where = tmp_path_factory.mktemp("mixed")
    options: dict[str, Any] = {"releases": {"site-a": ("7.0.3", "9.0"), "site-b": ("8.0",)}}
    with Lab.create(where, bare_hosts=("site-b",), **options) as lab:
        yield lab


def ticket(lab: Lab, site: int, vm: str, version: str) -> Any:
    spec = lab.specs[site]
    stub = SoapStubAdapter(host=spec.host, port=spec.port, version=version, sslContext=unchecked())
    service = vim.ServiceInstance("ServiceInstance", stub)
    service.content.sessionManager.Login(spec.user, spec.password)
    try:
        moid = (
            "nfcService" if service.content.about.apiType == "VirtualCenter" else "ha-nfc-service"
        )
        return register()(moid, stub).NfcGetVmFiles(vim.VirtualMachine(vm, stub))
    finally:
        stub.DropConnections()


def test_hosts_of_a_lab_are_of_the_releases_that_it_was_made_with(mixed: Lab) -> None:
    control, site = LabControl(mixed.directory), mixed.sites["site-a"]
    servers = site.host_servers.by_host
    first, second = site.hosts()
    assert servers[first._moId].profile == HostProfile.of("7.0.3")
    assert (first.config.product.version, first.newest_hardware) == ("7.0.3", "vmx-19")
    assert servers[second._moId].profile == HostProfile.of("9.0")

    before = servers[first._moId].certificate
    control.set_host("site-a", host=first.name, release="6.5", nfc={"counted_errors": False})
    assert servers[first._moId].profile == HostProfile.of("6.5", counted_errors=False)
    assert servers[first._moId].certificate != before
    with pytest.raises(VReplicaError, match="no such ESXi release"):
        control.set_host("site-a", release="5.5")
    with pytest.raises(VReplicaError, match="a host has no colour"):
        control.set_host("site-a", nfc={"colour": 1})
    control.set_host("site-a", host=first.name, release="7.0.3")
    assert servers[first._moId].profile == HostProfile.of("7.0.3")
    assert servers[first._moId].certificate == before


def test_a_ticket_of_9_0_has_the_certificate_where_the_client_knows_the_field(mixed: Lab) -> None:
    control = LabControl(mixed.directory)
    control.settings("site-a", api_version="9.0.0.0")
    host = mixed.sites["site-a"].hosts()[1]
    vm = control.create_vm("site-a", "new", disks=[(MIB, True, None)], host=host.name)
    found = ticket(mixed, 0, vm["moref"], "vim.version.v9_0_0_0")
    certificate = mixed.sites["site-a"].host_servers.certificate(host).decode()
    assert found.sslCertificate == certificate
    assert found.host == mixed.specs[0].host
    assert found.service == "vpxa-nfc"
    old = ticket(mixed, 0, vm["moref"], "vim.version.v8_0_3_0")
    assert not old.sslCertificate
    assert old.sslThumbprint == found.sslThumbprint


def test_the_ticket_of_a_host_without_vcenter_names_no_host(mixed: Lab) -> None:
    vm = LabControl(mixed.directory).create_vm("site-b", "alone", disks=[(MIB, True, None)])
    found = ticket(mixed, 1, vm["moref"], "vim.version.v8_0_3_0")
    assert (found.host, found.service) == (None, "nfc")
    assert found.sslThumbprint == mixed.dir.read()["sites"][1]["sha1"]
