"""Notifications: what receivers get, and that none of them holds anything up."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.job_file import site_table
from tests.support.waiting import until
from vreplica.cli.app import app
from vreplica.config import load
from vreplica.config.errors import JobFileInvalid
from vreplica.notify.events import DEFAULT_EVENTS, EventPublisher, ServiceEvent
from vreplica.notify.receiver import NotificationFailed, ReceiverAway
from vreplica.service.catalog import movers, notices
from vreplica.service.catalog.database import Catalog
from vreplica.service.outbox import Notifier, Outbox
from vreplica.service.receivers import make_receiver

FAILED = ServiceEvent("run failed", "web01", "m1", {"run": "r1", "error": "the host is away"})


class Web:
    """A server that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers = [200]
        self.hold = threading.Event()
        self.hold.set()
        self.drips = False
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.hold.wait(10)
                web.got.append((dict(self.headers), body))
                code = web.answers.pop(0) if len(web.answers) > 1 else web.answers[0]
                self.send_response(code)
                if 300 <= code < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                with suppress(OSError):
                    for _ in range(60 if web.drips else 0):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        time.sleep(0.05)
                self.wfile.write(f"no such thing: {self.path}".encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/t0ken"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    server = Web()
    monkeypatch.setenv("CHAT_URL", server.url)
    monkeypatch.setenv("SIGN_KEY", "key-of-the-chat")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.close()


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "vreplica.toml"
    file.write_text(text)
    return file


CHAT = '[notify.chat]\nwebhook = { url = { env = "CHAT_URL" }, sign = { env = "SIGN_KEY" } }\n'


# -- webhook --------------------------------------------------------------------------------------


def test_a_webhook_gets_signed_json_that_people_can_read(tmp_path: Path, web: Web) -> None:
    to = make_receiver(load(written(tmp_path, CHAT)), "chat")
    assert to.send([FAILED, FAILED]).startswith("HTTP 200 OK")
    ((headers, body),) = web.got
    digest = hmac.new(b"key-of-the-chat", body, hashlib.sha256).hexdigest()
    assert headers["X-Vreplica-Signature-256"] == f"sha256={digest}"
    sent = json.loads(body)
    assert sent["text"].splitlines() == ["job web01: run failed: the host is away"] * 2
    assert sent["events"][0]["data"]["run"] == "r1"
    assert sent["events"][0]["id"] == FAILED.id


def test_a_webhook_whose_answer_drips_is_given_up(tmp_path: Path, web: Web) -> None:
    web.drips = True
    to = replace(make_receiver(load(written(tmp_path, CHAT)), "chat"), timeout_s=0.4)
    began = time.monotonic()
    with pytest.raises(ReceiverAway, match="did not answer in time"):
        to.send([FAILED])
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (404, NotificationFailed),
        (302, NotificationFailed),
        (429, ReceiverAway),
        (503, ReceiverAway),
    ],
)
def test_a_refusal_says_its_code_and_never_the_url(
    tmp_path: Path, web: Web, code: int, kind: type
) -> None:
    web.answers = [code]
    with pytest.raises(NotificationFailed) as caught:
        make_receiver(load(written(tmp_path, CHAT)), "chat").send([FAILED])
    assert type(caught.value) is kind
    assert f"HTTP {code}" in str(caught.value)
    assert "t0ken" not in str(caught.value)
    assert len(web.got) == 1


@pytest.mark.parametrize(
    "url",
    ["ftp://h/s3cret", "http://", "http://u:s3cret@h/", "http://h:s3cret/", "https://h/s3cret x"],
)
def test_a_url_that_cannot_be_used_is_not_repeated(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CHAT_URL", url)
    with pytest.raises(NotificationFailed, match="its URL") as caught:
        make_receiver(load(written(tmp_path, CHAT)), "chat").send([FAILED])
    assert "s3cret" not in str(caught.value)


# -- mail -----------------------------------------------------------------------------------------


class Box:
    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, who: str, ___: Any) -> str:
        if who.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(who)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def smtp() -> Iterator[tuple[Box, int]]:
    box = Box()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


def mail_file(tmp_path: Path, port: int, to: str, security: str = "none") -> Path:
    return written(
        tmp_path,
        f'[notify.ops.mail]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "{security}"\n'
        f'sender = "v@example.com"\nto = [{to}]\n',
    )


def test_a_mail_has_all_events_and_says_who_was_refused(
    tmp_path: Path, smtp: tuple[Box, int]
) -> None:
    box, port = smtp
    file = mail_file(tmp_path, port, '"a@example.com", "nobody@example.com"')
    said = make_receiver(load(file), "ops").send([FAILED, FAILED])
    assert said.startswith("accepted for 1 of 2; refused: nobody@example.com (550")
    text = box.mails[0].content.decode()
    assert "Subject: [vreplica] job web01: run failed: the host is away" in text
    assert text.count("run failed: the host is away  (mover m1)") == 2


def test_a_mail_is_not_sent_in_the_clear_where_starttls_is_wanted(
    tmp_path: Path, smtp: tuple[Box, int]
) -> None:
    box, port = smtp
    with pytest.raises(NotificationFailed, match="STARTTLS"):
        make_receiver(load(mail_file(tmp_path, port, '"a@example.com"', "starttls")), "ops").send(
            [FAILED]
        )
    assert box.mails == []


def test_nobody_accepted_is_a_failure(tmp_path: Path, smtp: tuple[Box, int]) -> None:
    with pytest.raises(NotificationFailed, match="nobody is accepted"):
        make_receiver(load(mail_file(tmp_path, smtp[1], '"nobody@example.com"')), "ops").send(
            [FAILED]
        )


class Drip(bytes):
    """Sent byte by byte without an end."""


class Flood(bytes):
    """Sent again and again without an end."""


class MailServer:
    """Plays a dialogue: one answer for the connection, and one for each line that it reads."""

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.answers = answers
        self.said: list[bytes] = []
        self.ended = threading.Event()
        plain = socket.create_server(("127.0.0.1", 0))
        self.server = tls.wrap_socket(plain, server_side=True) if tls else plain
        self.port = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(10)
        self.server.close()
        assert not self.thread.is_alive()

    def _serve(self) -> None:
        connection, _ = self.server.accept()
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            for answer in self.answers:
                while isinstance(answer, Flood):
                    connection.sendall(answer * 1000)
                for byte in itertools.cycle(answer) if isinstance(answer, Drip) else ():
                    connection.sendall(bytes([byte]))
                    if self.ended.wait(0.05):
                        return
                connection.sendall(answer)
                while (line := lines.readline()) and self.said[-1:] == [b"DATA\r\n"]:
                    if line == b".\r\n":
                        break
                self.said.append(line)
            self.ended.wait(10)


_HELLO = (b"220 hello\r\n", b"250-hello\r\n250 STARTTLS\r\n")
_OK = b"250 ok\r\n"
_TAKEN = (b"220 hello\r\n", _OK, _OK, _OK, b"354 go\r\n", _OK)
_LINE = Drip(b"250-x")
_HANDSHAKE = Drip(b"\x16\x03\x03\x40\x00" + bytes(1000))


def mail_to(tmp_path: Path, server: MailServer, security: str = "none", s: float = 0.5) -> Any:
    receiver = make_receiver(load(mail_file(tmp_path, server.port, '"a@b.c"', security)), "ops")
    return replace(receiver, timeout_s=s)


@pytest.mark.parametrize(
    ("security", "answers"),
    [
        ("none", (_LINE,)),
        ("none", (*_TAKEN[:1], _LINE)),
        ("none", (*_TAKEN[:3], _LINE)),
        ("none", (*_TAKEN[:5], _LINE)),
        ("starttls", (*_HELLO[:1], _LINE)),
        ("starttls", (*_HELLO, _LINE)),
        ("starttls", (*_HELLO, b"220 go\r\n", _HANDSHAKE)),
        ("tls", (_HANDSHAKE,)),
    ],
)
def test_a_mail_server_that_drips_is_given_up(
    tmp_path: Path, security: str, answers: Sequence[bytes]
) -> None:
    with MailServer(*answers) as server:
        to = mail_to(tmp_path, server, security)
        began = time.monotonic()
        with pytest.raises(ReceiverAway, match="did not answer in time"):
            to.send([FAILED])
        assert time.monotonic() - began < 2.5


def test_a_mail_server_that_never_ends_an_answer_takes_no_memory(tmp_path: Path) -> None:
    with (
        MailServer(*_TAKEN[:1], Flood(b"250-x\r\n")) as server,
        pytest.raises(NotificationFailed, match="its answers: it has more than 1"),
    ):
        mail_to(tmp_path, server, s=20).send([FAILED])


def test_a_challenge_that_cannot_be_read_is_a_failure(
    tmp_path: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "mail-s3cret")
    answers = (_TAKEN[0], b"250-x\r\n250 AUTH CRAM-MD5\r\n", b"334 x\r\n")
    with MailServer(*answers, tls=tls) as server:
        text = mail_file(tmp_path, server.port, '"a@b.c"', "tls").read_text()
        text += 'user = "v"\npassword = { env = "MAIL_PASSWORD" }\nca_file = "ca.pem"\n'
        with pytest.raises(NotificationFailed, match="its answers: ") as caught:
            make_receiver(load(written(tmp_path, text)), "ops").send([FAILED])
        assert not caught.value.retryable


@pytest.mark.parametrize("farewell", [b"500 no\r\n", _LINE, b"not of SMTP\r\n"])
def test_a_mail_that_was_taken_is_not_sent_again_for_a_bad_farewell(
    tmp_path: Path, farewell: bytes
) -> None:
    with MailServer(*_TAKEN, farewell) as server:
        assert mail_to(tmp_path, server).send([FAILED]) == "accepted for 1 of 1"


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate for 127.0.0.1 that no system trusts, kept as ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    return context


def test_a_password_goes_only_to_a_server_whose_certificate_is_trusted(
    tmp_path: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "mail-s3cret")
    logins: list[bytes] = []

    def login(_: Any, __: Any, ___: Any, ____: Any, data: LoginPassword) -> AuthResult:
        logins.append(data.password)
        return AuthResult(success=data.password == b"mail-s3cret", handled=False)

    box = Box()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(
        box, hostname="127.0.0.1", port=port, tls_context=tls, authenticator=login
    )
    controller.start()
    try:
        file = mail_file(tmp_path, port, '"a@example.com"', "starttls")
        text = file.read_text() + 'user = "v"\npassword = { env = "MAIL_PASSWORD" }\n'
        with pytest.raises(NotificationFailed, match="its certificate is not trusted"):
            make_receiver(load(written(tmp_path, text)), "ops").send([FAILED])
        assert logins == []
        trusted = load(written(tmp_path, text + 'ca_file = "ca.pem"\n'))
        assert make_receiver(trusted, "ops").send([FAILED]) == "accepted for 1 of 1"
        monkeypatch.setenv("MAIL_PASSWORD", "wr0ng-one")
        with pytest.raises(NotificationFailed, match="SMTP 535") as caught:
            make_receiver(trusted, "ops").send([FAILED])
        assert not caught.value.retryable
    finally:
        controller.stop()
    assert len(box.mails) == 1


def test_a_webhooks_certificate_is_checked(
    tmp_path: Path, tls: ssl.SSLContext, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.server.socket = tls.wrap_socket(web.server.socket, server_side=True)
    monkeypatch.setenv("CHAT_URL", web.url.replace("http:", "https:"))
    with pytest.raises(NotificationFailed, match="its certificate is not trusted"):
        make_receiver(load(written(tmp_path, CHAT)), "chat").send([FAILED])
    text = CHAT.replace("webhook = {", 'webhook = { ca_file = "ca.pem",')
    assert (
        make_receiver(load(written(tmp_path, text)), "chat").send([FAILED]).startswith("HTTP 200")
    )


# -- hook -----------------------------------------------------------------------------------------


def hook(tmp_path: Path, script: str, timeout_s: int = 10) -> Any:
    file = written(
        tmp_path,
        site_table(password="SITE_PASSWORD")
        + f"[notify.page.hook]\ncommand = ['sh', '-c', '{script}']\ntimeout_s = {timeout_s}\n",
    )
    return make_receiver(load(file), "page")


def test_a_hook_gets_the_event_and_none_of_the_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_PASSWORD", "vc-s3cret")
    monkeypatch.setenv("PAGER_TOKEN", "its-own")
    hook(tmp_path, "cat > got; env > env").send([FAILED])
    assert json.loads((tmp_path / "got").read_text())["event"] == "run failed"
    environment = (tmp_path / "env").read_text()
    assert "its-own" in environment
    assert "vc-s3cret" not in environment


def test_a_hooks_exit_code_is_told_and_75_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(NotificationFailed, match="exit code 3: not on duty") as caught:
        hook(tmp_path, "echo not on duty; exit 3").send([FAILED])
    assert not caught.value.retryable
    with pytest.raises(ReceiverAway, match="exit code 75"):
        hook(tmp_path, "exit 75").send([FAILED])


def test_a_hook_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(NotificationFailed, match="did not end within 1 s"):
        hook(tmp_path, "sleep 60 & wait", timeout_s=1).send([FAILED])


# -- what waits in the catalog ---------------------------------------------------------------------


class Slow:
    name, batch = "slow", 10

    def __init__(self) -> None:
        self.go = threading.Event()
        self.got: list[list[ServiceEvent]] = []
        self.away = 0

    def send(self, events: Any) -> str:
        self.go.wait(10)
        if self.away:
            self.away -= 1
            raise ReceiverAway("slow", "busy")
        self.got.append(list(events))
        return "ok"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")
    opened.receivers = {"slow": DEFAULT_EVENTS}
    yield opened
    opened.close()


def note(catalog: Catalog, what: str = "run failed", **data: Any) -> None:
    with catalog.transaction() as c:
        catalog.add_audit_entry(c, "m1", what, "web01", **data)


def waiting(catalog: Catalog, receiver: str = "slow") -> list[str]:
    with catalog.transaction() as c:
        return [e.text for e in notices.waiting(c, receiver, 100).values()]


def test_a_slow_receiver_gets_what_waits_together_in_order(catalog: Catalog) -> None:
    slow = Slow()
    note(catalog, run="r0", error="0")
    box = Outbox(slow, catalog, "m1")
    for n in range(1, 15):
        note(catalog, run=f"r{n}", error=str(n))
    note(catalog, "run done")  # not wanted
    slow.go.set()
    box.wake()
    until("they are sent", lambda: box.counts.sent == 15)
    box.close(time.monotonic() + 5)
    assert [e.data["error"] for sent in slow.got for e in sent] == [str(n) for n in range(15)]
    assert 2 <= len(slow.got) <= 3
    assert waiting(catalog) == []


def test_a_receiver_that_is_away_is_tried_again(catalog: Catalog) -> None:
    slow = Slow()
    slow.go.set()
    slow.away = 2
    note(catalog)
    box = Outbox(slow, catalog, "m1", first_wait_s=0.01)
    until("they are sent", lambda: box.counts.sent == 1)
    box.close(time.monotonic() + 5)
    assert len(slow.got) == 1


def test_what_was_not_sent_when_a_process_was_killed_is_sent_by_the_next(
    catalog: Catalog,
) -> None:
    hangs, lives = Slow(), Slow()
    note(catalog, error="the host is away")
    killed = Outbox(hangs, catalog, "m1")
    lives.go.set()
    # Whoever has no lease any more does not keep the receiver.
    other = Outbox(lives, catalog, "m2")
    until("one has come", lambda: lives.got)
    assert [e.text for e in lives.got[0]] == ["job web01: run failed: the host is away"]
    other.close(time.monotonic() + 5)
    hangs.go.set()
    killed.close(time.monotonic() + 5)
    # Sent twice it has the same id, so that a receiver can tell.
    assert {e.id for sent in hangs.got for e in sent} <= {lives.got[0][0].id}


def test_only_one_of_the_movers_that_live_tells_a_receiver(catalog: Catalog) -> None:
    with catalog.transaction() as c:
        now = catalog.now(c)
        for mover in ("m1", "m2"):
            movers.join(c, mover, 1, now, timedelta(seconds=30))
        assert notices.claim(c, "slow", "m1")
        assert not notices.claim(c, "slow", "m2")
        movers.leave(c, "m1")
        assert notices.claim(c, "slow", "m2")
        notices.release(c, "slow", "m2")
        assert notices.claim(c, "slow", "m3")


def test_what_cannot_be_sent_before_the_end_waits_in_the_catalog(catalog: Catalog) -> None:
    slow = Slow()
    note(catalog)
    box = Outbox(slow, catalog, "m1")
    box.close(time.monotonic())
    assert waiting(catalog) == ["job web01: run failed"]
    slow.go.set()
    box.close(time.monotonic() + 5)


def test_what_is_too_old_is_dropped_and_said(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(catalog)
    now = Catalog.now
    monkeypatch.setattr(Catalog, "now", lambda self, c=None: now(self, c) + timedelta(days=2))
    slow = Slow()
    box = Outbox(slow, catalog, "m1")
    until("one is dropped", lambda: box.counts.dropped == 1)
    box.close(time.monotonic() + 5)
    assert "dropped 1 events that are older than a day" in caplog.text


def test_a_listener_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def broken(event: ServiceEvent) -> None:
        raise ZeroDivisionError

    EventPublisher("m1", broken, lambda e: heard.append(e.name))("run lost", "a", {"mover": "m2"})
    assert heard == ["run lost"]
    assert "mover m2 is gone" in caplog.text


def test_every_receiver_of_the_file_hears_what_it_wants(
    tmp_path: Path, web: Web, catalog: Catalog
) -> None:
    file = written(tmp_path, CHAT.replace("[notify.chat]", '[notify.chat]\non = ["run done"]'))
    notifier = Notifier(load(file), catalog, "m1")
    note(catalog, "run failed")
    note(catalog, "run done", duration_s=2.0)
    EventPublisher("m1", notifier)("run done", "web01", {"duration_s": 2.0})
    until("one has come", lambda: web.got)
    notifier.close()
    assert [json.loads(b)["text"] for _, b in web.got] == ["job web01: run done: in 2.0 s"]


def test_a_secret_that_is_missing_shows_before_anything_is_to_be_told(
    tmp_path: Path,
    catalog: Catalog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHAT_URL", "http://127.0.0.1:1/")
    monkeypatch.delenv("SIGN_KEY", raising=False)
    file = written(tmp_path, CHAT)
    Notifier(load(file), catalog, "m1").close()
    assert "cannot read the signing key of notify.chat" in caplog.text
    checked = CliRunner().invoke(app, ["check", "-c", str(file)])
    assert checked.exit_code == 2
    assert "SIGN_KEY" in checked.stderr


# -- the job file and the command -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("", "needs exactly one receiver", "Give one of webhook, mail and hook."),
        ('on = ["run fails"]\nhook.command = ["x"]', "is not one of its values", "Choose"),
        ("hook.command = []", "is empty", "Give a value"),
        ('webhook.url = "http://h/s3cret"', "may not be written into the file", "Say where"),
        ('mail = { host = "h", sender = "x", to = ["a@b"] }', "is not an e-mail", "Write"),
        ('mail = { host = "h", sender = "a@b", to = ["a@b"], user = "u" }', "half a login", "Give"),
        ('webhook = { ur = { env = "X" } }', "is not a known key", "Did you mean url?"),
    ],
)
def test_a_mistake_is_told_with_line_and_remedy(
    tmp_path: Path, text: str, what: str, remedy: str
) -> None:
    with pytest.raises(JobFileInvalid) as caught:
        load(written(tmp_path, f"[notify.x]\n{text}\n"))
    told = [p for p in caught.value.problems if what in p.what and remedy in p.remedy]
    assert told, caught.value.problems
    assert told[0].line in (1, 2)
    assert "s3cret" not in str(caught.value.to_dict())


def test_notify_test_says_what_came_back(tmp_path: Path, web: Web) -> None:
    file = written(tmp_path, CHAT + '[notify.page]\nhook = { command = ["false"] }\n')
    done = CliRunner().invoke(app, ["notify", "test", "-c", str(file), "chat"])
    assert done.exit_code == 0
    assert done.stdout.startswith("chat: HTTP 200 OK")
    assert json.loads(web.got[0][1])["events"][0]["event"] == "test"
    told = CliRunner().invoke(app, ["notify", "test", "-c", str(file), "chat", "--json"])
    assert json.loads(told.stdout)["answer"].startswith("HTTP 200 OK")
    both = CliRunner().invoke(app, ["notify", "test", "-c", str(file)])
    assert both.exit_code == 1
    assert "cannot notify receiver page: exit code 1" in both.stderr
    unknown = CliRunner().invoke(app, ["notify", "test", "-c", str(file), "chatt"])
    assert unknown.exit_code == 2
    assert "Did you mean chat?" in unknown.stderr


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"age_s": 64.85, "target_s": 60.0, "point_ahead": False}, "newest point is 65 s old"),
        ({"age_s": None, "target_s": 60.0, "point_ahead": False}, "no recovery point is known"),
        ({"age_s": None, "target_s": 60.0, "point_ahead": True}, "the newest point lies ahead"),
        # As version 0.1 has stored it.
        ({"age": "0:01:04.853480", "target": "0:01:00"}, "newest point is 65 s old"),
        ({"age": "2 days, 3:00:00", "target": "0:01:00"}, "newest point is 2 d 3 h old"),
        ({"age": "None", "target": "0:01:00"}, "no recovery point is known"),
        ({"age": "not known", "target": "0:01:00"}, "the newest point lies ahead"),
    ],
)
def test_the_age_of_a_point_is_told_in_words(data: dict[str, Any], said: str) -> None:
    text = ServiceEvent("RPO violated", "web01", "m1", data).text
    assert text.startswith("job web01: RPO violated: ")
    assert said in text
    assert text.endswith(", target 60 s")
