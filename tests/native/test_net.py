"""Connections of the native library, against servers of Python: TLS, deadlines, certificates.

The program native/tests/stream.c is built with the sanitizers: with address and undefined behaviour
for all tests, with the thread sanitizer for the one in which two threads use a connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from tests.native.sanitized import build
from vreplica.lab.certificate import ServerCertificate

Serve = Callable[[socket.socket], None]
Program = Callable[..., str]


def runner(program: Path) -> Program:
    def run(port: int, *task: str, host: str = "127.0.0.1", **environment: str) -> str:
        done = subprocess.run(
            [program, host, str(port), *task],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **environment},
        )
        assert not done.stderr, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return runner(build(tmp_path_factory.mktemp("asan") / "stream", "stream.c", "net", "os"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    return ServerCertificate.create(pem, "server.lab", "127.0.0.1")


def echo(certificate: ServerCertificate) -> Serve:
    def serve(client: socket.socket) -> None:
        with certificate.tls_context().wrap_socket(client, server_side=True) as secured:
            while data := secured.recv(1 << 16):
                secured.sendall(data)

    return serve


def thumbprints(certificate: ServerCertificate) -> str:
    text = certificate.pem.read_text("ascii")
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])
    prints = (digest(der).hexdigest().upper() for digest in (sha1, sha256))
    return "".join(":".join(p[i : i + 2] for i in range(0, len(p), 2)) + " same\n" for p in prints)


def test_what_is_sent_comes_back_while_two_threads_use_the_connection(
    tmp_path: Path, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    run = runner(build(tmp_path / "stream", "stream.c", "net", "os", sanitizer="thread"))
    answer = run(listen(echo(certificate)), "echo", "24")
    assert answer == thumbprints(certificate) + "equal\n"


def test_a_second_handshake_and_plain_bytes_follow_on_the_same_connection(
    run: Program, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    heard = []

    def serve(client: socket.socket) -> None:
        for _ in range(2):
            secured = certificate.tls_context().wrap_socket(client, server_side=True)
            heard.append(secured.recv(64))
            secured.sendall(b"heard\n")
            client = socket.socket(fileno=secured.detach())
        heard.append(client.recv(64))
        client.sendall(b"heard\n")
        client.close()

    answer = run(listen(serve), "twice")
    prints = thumbprints(certificate)
    assert answer == f"{prints}heard\n{prints}heard\nheard\n"
    assert heard == [b"one\n", b"two\n", b"three\n"]


@pytest.mark.parametrize(
    ("host", "known", "answer"),
    [
        ("127.0.0.1", True, "verified\n"),
        ("127.0.0.9", True, "error 18000 certificate: IP address mismatch\n"),
        ("other.lab", True, "error 18000 certificate: hostname mismatch\n"),
        ("127.0.0.1", False, "error 18000 certificate: self-signed certificate\n"),
    ],
)
def test_without_a_thumbprint_the_trusted_authorities_and_the_name_decide(
    run: Program,
    certificate: ServerCertificate,
    listen: Callable[[Serve], int],
    tmp_path: Path,
    host: str,
    known: bool,
    answer: str,
) -> None:
    (tmp_path / "none.pem").touch()
    trusted = {
        "SSL_CERT_FILE": str(certificate.pem if known else tmp_path / "none.pem"),
        "SSL_CERT_DIR": str(tmp_path),
    }
    got = run(listen(echo(certificate)), "verify", host, **trusted)
    assert got.removeprefix(thumbprints(certificate)) == answer


def test_an_answer_that_drips_ends_at_the_deadline(
    run: Program, listen: Callable[[Serve], int]
) -> None:
    def drip(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(60):
                client.sendall(b".")
                time.sleep(0.1)

    started = time.monotonic()
    assert run(listen(drip), "plain") == "error 14010 receiving: not done in time\n"
    assert 2.5 < time.monotonic() - started < 20


def test_a_handshake_that_never_ends_ends_at_the_deadline(
    run: Program, listen: Callable[[Serve], int]
) -> None:
    answer = run(listen(lambda client: bool(client.recv(4096)) and time.sleep(5)), "tls")
    assert answer == "error 14010 TLS handshake: not done in time\n"


def test_a_server_without_tls_is_told(run: Program, listen: Callable[[Serve], int]) -> None:
    answer = run(listen(lambda client: client.sendall(b"220 no TLS here\r\n" * 9)), "tls")
    assert answer.startswith("error 18000 TLS handshake: error:0A00010B:SSL routines")


def test_a_connection_that_ends_is_told(
    run: Program, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    def hang_up(client: socket.socket) -> None:
        certificate.tls_context().wrap_socket(client, server_side=True).close()

    answer = run(listen(hang_up), "tls").removeprefix(thumbprints(certificate))
    assert answer.startswith("error 14011 ")


def test_a_closed_port_and_an_unknown_name_are_told_apart(run: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    refused = f"127.0.0.1 port {port}: no connection: Connection refused\nerror 14009 \n"
    assert run(port, "plain") == refused
    assert "error 14008 " in run(443, "plain", host="no-such-host.invalid")


def test_the_status_says_what_is_missing(run: Program, tmp_path: Path) -> None:
    assert run(0, "status").startswith("0 OpenSSL 3.")
    (tmp_path / "libssl.so.3").write_bytes(b"not a library")
    answer = run(0, "status", LD_LIBRARY_PATH=str(tmp_path))
    assert answer.startswith(f"6 {tmp_path}/libssl.so.3: ")
    assert "needs OpenSSL 3: install it" in answer
