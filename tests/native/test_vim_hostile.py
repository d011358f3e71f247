"""Servers that are not the one expected, or that are hostile: what the library tells them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.native.sanitized import build
from tests.native.vim_program import Vim
from vreplica.lab import Lab, LabControl
from vreplica.lab.certificate import ServerCertificate
from vreplica.units import MIB

Serve = Callable[[socket.socket], object]
PASSWORD = "a secret of 25 characters"
OTHER = ":".join(["AA"] * 20)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    return ServerCertificate.create(pem, "server.lab", "127.0.0.1")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("asan") / "vim", "vim.c", "net", "vim", "os")


@pytest.fixture
def vim(program: Path) -> Iterator[Vim]:
    running = Vim(program)
    yield running
    running.end()


def answers(certificate: ServerCertificate, heard: list[bytes], *parts: bytes) -> Serve:
    """A server that answers each request with the next part, and keeps all that it hears."""
    left = list(parts)

    def serve(client: socket.socket) -> None:
        with certificate.tls_context().wrap_socket(client, server_side=True) as secured:
            while data := secured.recv(1 << 16):
                heard.append(data)
                if data.endswith(b"</soapenv:Envelope>"):
                    secured.sendall(left.pop(0) if left else b"")

    return serve


def http(body: str, status: int = 200, head: str = "") -> bytes:
    content = body.encode()
    return f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def soap(body: str) -> str:
    return (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<e:Body>{body}</e:Body></e:Envelope>"
    )


CONTENT = soap(
    '<RetrieveServiceContentResponse xmlns="urn:vim25"><returnval>'
    "<rootFolder>group-d1</rootFolder><propertyCollector>pc</propertyCollector>"
    "<about><apiType>VirtualCenter</apiType><apiVersion>8.0.3.0</apiVersion></about>"
    "<sessionManager>SessionManager</sessionManager></returnval></RetrieveServiceContentResponse>"
)


def aim(vim: Vim, port: int, thumbprint: str, **values: object) -> Vim:
    vim.set(server="127.0.0.1", port=port, thumbprint=thumbprint, vmx="moref=vm-1")
    vim.set(user="root", password=PASSWORD, answer_ms=1500)
    vim.set(**values)
    return vim


def test_a_server_with_another_certificate_hears_nothing(
    vim: Vim, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    heard: list[bytes] = []
    aim(vim, listen(answers(certificate, heard)), OTHER)
    assert vim.code("open") == 1
    has = certificate.thumbprints.sha1
    assert f"thumbprint mismatch: expected {OTHER}, the server has {has}" in str(vim.log)
    vim.set(thumbprint="")
    assert vim.code("open") == 1
    assert "no thumbprint was given, and the certificate cannot be trusted" in str(vim.log)
    for text in ("no hex", OTHER[:-1], OTHER + ":AA"):
        vim.set(thumbprint=text)
        assert vim.code("open") == 1
    assert heard == []


def test_a_certificate_of_a_trusted_authority_needs_no_thumbprint(
    program: Path, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    heard: list[bytes] = []
    port = listen(answers(certificate, heard, http("", 503)))
    vim = Vim(program, SSL_CERT_FILE=str(certificate.pem))
    assert aim(vim, port, "").code("open") == 14015
    vim.end()
    assert b"RetrieveServiceContent" in b"".join(heard)


def test_the_password_is_sent_to_a_server_that_answers_as_vsphere_only(
    vim: Vim, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    heard: list[bytes] = []
    port = listen(answers(certificate, heard, http("<html>router</html>"), http(CONTENT)))
    aim(vim, port, certificate.thumbprints.sha1)
    assert vim.code("open") == 18000
    assert PASSWORD.encode() not in b"".join(heard)
    assert vim.code("open") == 14010  # the login is not answered
    assert PASSWORD.encode() in b"".join(heard)
    assert PASSWORD not in str(vim.log)


HEAD = b"HTTP/1.1 200 OK\r\n"
HOSTILE = {
    "a page": (http("<html>hello</html>"), 18000),
    "an open element": (http(CONTENT[:-9]), 18000),
    "an entity bomb": (http('<!DOCTYPE a [<!ENTITY b "bb">]>' + CONTENT), 18000),
    "depth": (http("<a>" * 100000), 18000),
    "another method": (http(CONTENT.replace("RetrieveServiceContent", "Login")), 18000),
    "no version": (http(CONTENT.replace("8.0.3.0", "8\r\nX: y")), 18000),
    "another product": (http(CONTENT.replace("VirtualCenter", "Other")), 18000),
    "a redirect": (http("", 302, "Location: https://127.0.0.9/\r\n"), 18000),
    "unavailable": (http("", 503), 14015),
    "forbidden": (http("", 403), 35),
    "no length": (HEAD + b"\r\n" + CONTENT.encode(), 14011),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 14011),
    "a huge length": (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 14011),
    "a short answer": (HEAD + b"Content-Length: 10\r\n\r\nabc", 14010),
    "a chunk without size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 14011),
    "gzip": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 14011),
    "not HTTP": (b"220 VMware Authentication Daemon\r\n", 14011),
    "NUL": (HEAD + b"A: \0\r\n\r\n", 14011),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_is_none(
    vim: Vim, certificate: ServerCertificate, listen: Callable[[Serve], int], name: str
) -> None:
    answer, code = HOSTILE[name]
    heard: list[bytes] = []
    aim(vim, listen(answers(certificate, heard, answer)), certificate.thumbprints.sha1)
    assert vim.code("open") == code, vim.log
    assert vim.log
    assert PASSWORD.encode() not in b"".join(heard)


@pytest.mark.parametrize("piece", [b"A: b\r\n" * 1000, b"x" * 6000])
@pytest.mark.parametrize("start", [HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1770\r\n"])
def test_an_answer_without_end_is_cut_by_size(
    vim: Vim,
    certificate: ServerCertificate,
    listen: Callable[[Serve], int],
    piece: bytes,
    start: bytes,
) -> None:
    def flood(client: socket.socket) -> None:
        with certificate.tls_context().wrap_socket(client, server_side=True) as secured:
            secured.recv(1 << 16)
            secured.sendall(start)
            follow = b"\r\n1770\r\n" if start != HEAD else b""
            for _ in range((100 << 20) // len(piece)):
                secured.sendall(piece + follow)

    aim(vim, listen(flood), certificate.thumbprints.sha1, answer_ms=30000)
    assert vim.code("open") == 14011
    assert "too long" in str(vim.log)


def test_an_answer_that_drips_is_cut_by_time(
    vim: Vim, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    def drip(client: socket.socket) -> None:
        with certificate.tls_context().wrap_socket(client, server_side=True) as secured:
            secured.recv(1 << 16)
            for byte in http(CONTENT):
                secured.sendall(bytes([byte]))
                time.sleep(0.1)

    aim(vim, listen(drip), certificate.thumbprints.sha1)
    started = time.monotonic()
    assert vim.code("open") == 14010
    assert time.monotonic() - started < 15


def test_a_login_without_a_session_is_an_error(
    vim: Vim, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    login = http(soap('<LoginResponse xmlns="urn:vim25"><returnval/></LoginResponse>'))
    heard: list[bytes] = []
    port = listen(answers(certificate, heard, http(CONTENT), login))
    assert aim(vim, port, certificate.thumbprints.sha1).code("open") == 18000


def test_the_version_of_the_server_is_spoken(
    vim: Vim, certificate: ServerCertificate, listen: Callable[[Serve], int]
) -> None:
    heard: list[bytes] = []
    port = listen(answers(certificate, heard, http(CONTENT), http("", 503)))
    assert aim(vim, port, certificate.thumbprints.sha1).code("open") == 14015
    actions = re.findall(rb'SOAPAction: "(.*?)"', b"".join(heard))
    assert actions == [b"urn:vim25", b"urn:vim25/8.0.3.0"]


# -- what stays in memory -------------------------------------------------------------------


def copies(pid: int, secret: str) -> int:
    """How often the memory of a process holds a text."""
    found = 0
    process = Path(f"/proc/{pid}")
    with (process / "maps").open() as maps, (process / "mem").open("rb", 0) as memory:
        for line in maps:
            span, mode, *_ = line.split()
            first, last = (int(n, 16) for n in span.split("-"))
            if mode.startswith("rw") and "[v" not in line:
                memory.seek(first)
                found += memory.read(last - first).count(secret.encode())
    return found


def test_passwords_sessions_and_tickets_leave_no_copy(
    tmp_path: Path, lab: Lab, control: LabControl
) -> None:
    """One copy of password and session while logged in, on pages that are in no core."""
    spec, site = lab.specs[0], lab.sites["site-a"]
    control.do("set_user", site=spec.name, user="copied", password=PASSWORD)
    vm = control.create_vm(spec.name, "web", disks=[(MIB, True, None)])
    before = set(site.sessions.by_key)
    vim = Vim(build(tmp_path / "vim", "vim.c", "net", "vim", "os", sanitizer=""))
    vim.set(server=spec.host, port=spec.port, user="copied", password=PASSWORD)
    vim.set(vmx=f"moref={vm['moref']}", thumbprint=site.certificate.thumbprints.sha1)
    assert vim.code("open") == 0
    assert vim.code("forget") == 0
    (session,) = set(site.sessions.by_key) - before
    pid = vim.process.pid
    assert (copies(pid, PASSWORD), copies(pid, session)) == (1, 1)
    assert vim.code(f"take {vm['disks'][0]['path']}") == 0
    grants = [g for s in site.host_servers.by_host.values() for g in s.tickets._grants]
    assert [copies(pid, ticket) for ticket in grants] == [0]
    assert vim.code("close") == 0
    assert (copies(pid, PASSWORD), copies(pid, session)) == (0, 0)
    vim.end()


def test_a_password_that_is_refused_leaves_no_copy(tmp_path: Path, lab: Lab) -> None:
    spec = lab.specs[0]
    vim = Vim(build(tmp_path / "vim", "vim.c", "net", "vim", "os", sanitizer=""))
    vim.set(server=spec.host, port=spec.port, user="root", password=PASSWORD, vmx="moref=vm-1")
    vim.set(thumbprint=lab.sites[spec.name].certificate.thumbprints.sha1)
    assert vim.code("open") == 35
    vim.do("forget")
    assert copies(vim.process.pid, PASSWORD) == 0
    vim.end()
