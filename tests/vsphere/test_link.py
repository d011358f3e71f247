"""What a session does when the server ends it, hangs up, stalls, or talks nonsense.

The server is a real one (TLS on 127.0.0.2, HTTP, SOAP) with a script of what to do next, so what
is asserted is the requests that arrived.
"""

from __future__ import annotations

import gzip
import resource
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.job_file import STATE, job_table, site_table
from vreplica.cli.app import app
from vreplica.errors import VReplicaError
from vreplica.vsphere.connection import collector
from vreplica.vsphere.connection.certificate import probe_certificate
from vreplica.vsphere.connection.link import FRESH_S, ServerLink
from vreplica.vsphere.connection.tasks import WaitLimits, run, wait
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import (
    BadReply,
    HostUnreachable,
    LoginFailed,
    NotVSphere,
    OutcomeUnknown,
    PermissionDenied,
    SessionLost,
    TaskTimeout,
    VmBusy,
)
from vreplica.vsphere.model import Endpoint

HOST = "127.0.0.2"
VERSIONS = (
    '<?xml version="1.0"?><namespaces version="1.0"><namespace><name>urn:vim25</name>'
    "<version>8.0.3.0</version><priorVersions><version>7.0.0.0</version></priorVersions>"
    "</namespace></namespaces>"
)
ENVELOPE = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{}</soapenv:Body>'
    "</soapenv:Envelope>"
)
CONTENT = (
    '<returnval><rootFolder type="Folder">group-d1</rootFolder>'
    '<propertyCollector type="PropertyCollector">propertyCollector</propertyCollector>'
    "<about><name>n</name><fullName>VMware vCenter Server 8.0.3</fullName><vendor>v</vendor>"
    "<version>8.0.3</version><build>1</build><osType>linux</osType><productLineId>vpx"
    "</productLineId><apiType>VirtualCenter</apiType><apiVersion>8.0.3.0</apiVersion></about>"
    '<sessionManager type="SessionManager">SessionManager</sessionManager></returnval>'
)
NOW = "<returnval>2026-01-01T00:00:00Z</returnval>"
SESSION = (
    "<returnval><key>k</key><userName>u</userName><fullName>u</fullName>"
    "<loginTime>2026-01-01T00:00:00Z</loginTime><lastActiveTime>2026-01-01T00:00:00Z"
    "</lastActiveTime><locale>en</locale><messageLocale>en</messageLocale></returnval>"
)
TASK = '<returnval type="Task">task-1</returnval>'

Answer = str | Callable[["Handler"], None]


def fault(name: str, inner: str = "", text: str = "the server's words") -> str:
    """Marked by its first letters for the handler: an HTTP 500."""
    return (
        f"FAULT<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>{text}"
        f'</faultstring><detail><{name}Fault xmlns="urn:vim25" xsi:type="{name}">{inner}'
        f"</{name}Fault></detail></soapenv:Fault>"
    )


def task_info(state: str, more: str = "") -> str:
    return (
        '<returnval><objects><obj type="Task">task-1</obj><propSet><name>info</name>'
        '<val xsi:type="TaskInfo"><key>task-1</key><task type="Task">task-1</task>'
        f"<descriptionId>d</descriptionId><state>{state}</state><cancelled>false</cancelled>"
        f"<cancelable>false</cancelable>{more}"
        '<reason xsi:type="TaskReasonUser"><userName>u</userName></reason>'
        "<queueTime>2026-01-01T00:00:00Z</queueTime><eventChainId>1</eventChainId></val>"
        "</propSet></objects></returnval>"
    )


TASK_STATE = (
    '<returnval><objects><obj type="Task">task-9</obj><propSet><name>info.state</name>'
    '<val xsi:type="TaskInfoState">{}</val></propSet></objects></returnval>'
)


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def stall(handler: Handler) -> None:
    time.sleep(1.0)
    handler.close_connection = True


def raw(status: int, body: str) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(status, body)


class Server(ThreadingHTTPServer):
    """`script[method]`: answers to give in turn; without one, the usual answer."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(address, Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.script: dict[str, list[Answer]] = {}
        self.calls: list[str] = []
        self.usual: dict[str, Answer] = {
            "RetrieveServiceContent": CONTENT,
            "Login": SESSION,
            "Logout": "",
            "CurrentTime": NOW,
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up during the handshake is no error of the server's."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""

    def reply(self, status: int, body: str, cookie: str = "") -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if cookie:
            self.send_header("Set-Cookie", f'vmware_soap_session="{cookie}"; Path=/; HttpOnly')
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        script = self.server.script.get("versions")
        answer = script.pop(0) if script else raw(200, VERSIONS)
        assert callable(answer)
        answer(self)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        method = body.partition("<soapenv:Body><")[2].partition(" ")[0]
        self.server.calls.append(method)
        script = self.server.script.get(method)
        answer = script.pop(0) if script else self.server.usual[method]
        if callable(answer):
            answer(self)
            return
        status, text = (500, answer[5:]) if answer.startswith("FAULT") else (200, None)
        inner = text or f'<{method}Response xmlns="urn:vim25">{answer}</{method}Response>'
        self.reply(status, ENVELOPE.format(inner), "session-1" if method == "Login" else "")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vcenter")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(pem, *private) + made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def server(context: ssl.SSLContext) -> Iterator[Server]:
    server = Server((HOST, 0), context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def link(server: Server) -> Iterator[ServerLink]:
    link = open_link(server)
    server.calls.clear()
    after_a_pause(link)
    yield link
    link.close()


def after_a_pause(link: ServerLink) -> None:
    """Its connections may have been closed by the server since they were used."""
    link._answered_s -= 2 * FRESH_S


def open_link(server: Server, **more: Any) -> ServerLink:
    port = server.server_address[1]
    sha256 = probe_certificate(HOST, port)[0]
    endpoint = Endpoint(HOST, "backup@lab", "secret", sha256, port)
    return ServerLink(endpoint, **{"timeout_s": 5, "reply_timeout_s": 0.5, **more})


def clock(link: ServerLink) -> Callable[[], Any]:
    return link.managed(vim.ServiceInstance, "ServiceInstance").CurrentTime


def power_on(link: ServerLink) -> Callable[[], Any]:
    return link.managed(vim.VirtualMachine, "vm-1").PowerOnVM_Task


# -- logging in -------------------------------------------------------------------------------


def test_login_and_logout_are_the_only_calls_of_an_idle_session(server: Server) -> None:
    open_link(server).close()
    assert server.calls == ["RetrieveServiceContent", "Login", "Logout"]


def test_a_wrong_password_is_told_with_the_user(server: Server) -> None:
    server.script["Login"] = [fault("InvalidLogin")]
    with pytest.raises(LoginFailed, match="backup@lab: user name or password is wrong") as caught:
        open_link(server)
    assert "secret" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (fault("PasswordExpired"), "the password has expired"),
        (fault("NoPermission"), "no permission"),
        (fault("InvalidLocale", text="no such locale"), "no such locale"),
    ],
)
def test_other_refusals_of_the_login_are_told_apart(server: Server, answer: str, says: str) -> None:
    server.script["Login"] = [answer]
    with pytest.raises(LoginFailed, match=says):
        open_link(server)


@pytest.mark.parametrize(
    ("answer", "expected", "says"),
    [
        (raw(503, ""), HostUnreachable, "not up yet"),
        (raw(404, "hello"), NotVSphere, "HTTP 404"),
        (raw(200, "hello"), NotVSphere, "not XML"),
        (raw(200, VERSIONS.replace("8.0.3.0", "1.0").replace("7.0.0.0", "1.1")), NotVSphere,
         "no API version"),
        (hang_up, HostUnreachable, "cannot be reached"),
    ],
    ids=["starting", "web server", "no xml", "too old", "hang up"],
)  # fmt: skip
def test_what_is_no_vcenter_is_told_apart(
    server: Server, answer: Answer, expected: type[Exception], says: str
) -> None:
    server.script["versions"] = [answer]
    with pytest.raises(expected, match=says):
        open_link(server)


# -- a session that the server ended -----------------------------------------------------------


def test_a_read_after_the_session_ended_logs_in_again(server: Server, link: ServerLink) -> None:
    server.script["CurrentTime"] = [fault("NotAuthenticated")]
    assert link.ask("asking", clock(link)).year == 2026
    assert server.calls == ["CurrentTime", "Login", "CurrentTime"]


def test_a_change_after_the_session_ended_is_made_once(server: Server, link: ServerLink) -> None:
    server.script["PowerOnVM_Task"] = [fault("NotAuthenticated"), TASK]
    link.call("power-on", power_on(link))
    assert server.calls == ["CurrentTime", "PowerOnVM_Task", "Login", "PowerOnVM_Task"]


def test_a_session_that_does_not_come_back_is_lost(server: Server, link: ServerLink) -> None:
    server.script["CurrentTime"] = [fault("NotAuthenticated")] * 2
    with pytest.raises(SessionLost):
        link.ask("asking", clock(link))


def test_a_password_changed_meanwhile_is_a_failed_login(server: Server, link: ServerLink) -> None:
    server.script["CurrentTime"] = [fault("NotAuthenticated")]
    server.script["Login"] = [fault("InvalidLogin")]
    with pytest.raises(LoginFailed):
        link.ask("asking", clock(link))


def test_many_threads_log_in_again_once(server: Server, link: ServerLink) -> None:
    alive = threading.Event()
    logins: list[float] = []

    def time_or_fault(handler: Handler) -> None:
        text = NOW if alive.is_set() else fault("NotAuthenticated")
        status = 200 if alive.is_set() else 500
        inner = f'<CurrentTimeResponse xmlns="urn:vim25">{text}</CurrentTimeResponse>'
        handler.reply(status, ENVELOPE.format(inner if status == 200 else text[5:]))

    def login(handler: Handler) -> None:
        logins.append(time.monotonic())
        time.sleep(0.05)
        alive.set()
        inner = f'<LoginResponse xmlns="urn:vim25">{SESSION}</LoginResponse>'
        handler.reply(200, ENVELOPE.format(inner), "session-2")

    server.usual["CurrentTime"] = time_or_fault
    server.usual["Login"] = login
    years: list[int] = []
    threads = [
        threading.Thread(target=lambda: years.append(link.ask("asking", clock(link)).year))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert years == [2026] * 8
    assert len(logins) == 1


# -- broken connections -------------------------------------------------------------------------


def test_a_read_over_a_connection_that_went_stale_is_sent_again(
    server: Server, link: ServerLink
) -> None:
    server.script["CurrentTime"] = [hang_up]
    assert link.ask("asking", clock(link)).year == 2026
    assert server.calls == ["CurrentTime", "CurrentTime"]


def test_a_read_that_is_cut_off_twice_is_an_unreachable_host(
    server: Server, link: ServerLink
) -> None:
    server.script["CurrentTime"] = [hang_up, hang_up]
    with pytest.raises(HostUnreachable):
        link.ask("asking", clock(link))
    assert len(server.calls) == 2


def test_a_change_that_is_cut_off_is_not_sent_again(server: Server, link: ServerLink) -> None:
    server.script["PowerOnVM_Task"] = [hang_up, TASK]
    with pytest.raises(OutcomeUnknown, match="during power-on") as caught:
        link.call("power-on", power_on(link), vm="web01")
    assert server.calls == ["CurrentTime", "PowerOnVM_Task"]
    assert str(caught.value).startswith("web01: ")
    assert caught.value.retryable


def test_a_connection_that_just_brought_an_answer_is_not_tried_before_a_change(
    server: Server, link: ServerLink
) -> None:
    server.usual["PowerOnVM_Task"] = TASK
    link.call("power-on", power_on(link))
    link.call("power-on", power_on(link))
    assert server.calls == ["CurrentTime", "PowerOnVM_Task", "PowerOnVM_Task"]


def test_a_stale_connection_is_found_before_a_change_is_sent(
    server: Server, link: ServerLink
) -> None:
    server.script["CurrentTime"] = [hang_up]
    server.usual["PowerOnVM_Task"] = TASK
    link.call("power-on", power_on(link))
    assert server.calls == ["CurrentTime", "CurrentTime", "PowerOnVM_Task"]


def test_a_server_that_stalls_is_given_up_and_not_asked_again(
    server: Server, link: ServerLink
) -> None:
    server.script["CurrentTime"] = [stall]
    started = time.monotonic()
    with pytest.raises(HostUnreachable, match=r"no answer within 0\.5 s"):
        link.ask("asking", clock(link))
    assert time.monotonic() - started < 0.9
    assert server.calls == ["CurrentTime"]


@pytest.mark.parametrize(
    "body",
    [
        "<html><body>Welcome to the proxy</body></html>",
        "not even XML",
        ENVELOPE.format('<CurrentTimeResponse xmlns="urn:vim25"><returnval>yesterday</returnval>'
                        "</CurrentTimeResponse>"),
    ],
    ids=["html", "text", "wrong type"],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_told(server: Server, link: ServerLink, body: str) -> None:
    server.script["CurrentTime"] = [raw(200, body)]
    with pytest.raises(BadReply, match="asking"):
        link.ask("asking", clock(link))


def test_a_server_that_is_restarting_is_unreachable(server: Server, link: ServerLink) -> None:
    server.script["CurrentTime"] = [raw(503, "")] * 2
    with pytest.raises(HostUnreachable, match="503"):
        link.ask("asking", clock(link))


def test_a_missing_privilege_is_named(server: Server, link: ServerLink) -> None:
    inner = (
        '<object type="VirtualMachine">vm-1</object>'
        "<privilegeId>VirtualMachine.Interact.PowerOn</privilegeId>"
    )
    server.script["PowerOnVM_Task"] = [fault("NoPermission", inner)]
    with pytest.raises(PermissionDenied) as caught:
        link.call("power-on", power_on(link), vm="web01")
    assert "backup@lab may not do this: power-on needs the privilege" in str(caught.value)
    assert "VirtualMachine.Interact.PowerOn on web01 (vm-1)" in str(caught.value)


# -- tasks ----------------------------------------------------------------------------------------

READ = "RetrievePropertiesEx"


def test_a_task_is_followed_to_its_end(server: Server, link: ServerLink) -> None:
    server.usual["PowerOnVM_Task"] = TASK
    server.script[READ] = [
        task_info("queued"),
        task_info("running", "<progress>10</progress>"),
        task_info("success", '<result xsi:type="xsd:string">done</result>'),
    ]
    assert run(link, "power-on", power_on(link), vm="web01", limits=WaitLimits(5, 1)) == "done"


def test_a_wait_goes_on_over_hang_ups_and_a_new_login(server: Server, link: ServerLink) -> None:
    server.script[READ] = [
        task_info("running"),
        hang_up,
        hang_up,
        fault("NotAuthenticated"),
        task_info("success"),
    ]
    task = link.managed(vim.Task, "task-1")
    wait(link, task, "power-on", vm="web01", limits=WaitLimits(5, 2))
    assert server.calls.count("Login") == 1


def test_a_wait_over_a_dead_connection_ends_with_an_unknown_outcome(
    server: Server, link: ServerLink
) -> None:
    server.usual[READ] = hang_up
    task = link.managed(vim.Task, "task-1")
    with pytest.raises(OutcomeUnknown, match="It is not known whether"):
        wait(link, task, "removing snapshot s", vm="web01", limits=WaitLimits(5, 0.2))


def test_a_task_that_the_server_forgot_has_an_unknown_outcome(
    server: Server, link: ServerLink
) -> None:
    server.usual[READ] = fault("ManagedObjectNotFound", '<obj type="Task">task-1</obj>')
    task = link.managed(vim.Task, "task-1")
    with pytest.raises(OutcomeUnknown, match="does not know the task"):
        wait(link, task, "removing snapshot s", vm="web01", limits=WaitLimits(5, 1))


def test_a_task_that_does_not_end_in_time_is_told_to_be_running(
    server: Server, link: ServerLink
) -> None:
    server.usual[READ] = task_info("running", "<progress>7</progress>")
    task = link.managed(vim.Task, "task-1")
    with pytest.raises(TaskTimeout, match=r"\(at 7 %\)"):
        wait(link, task, "removing snapshot s", vm="web01", limits=WaitLimits(0.2, 1))


def test_another_task_of_the_vm_is_waited_for(server: Server, link: ServerLink) -> None:
    busy = fault("TaskInProgress", '<task type="Task">task-9</task>')
    server.script["PowerOnVM_Task"] = [busy, TASK]
    server.script[READ] = [
        TASK_STATE.format("running"),
        TASK_STATE.format("success"),
        task_info("success"),
    ]
    run(link, "power-on", power_on(link), vm="web01", limits=WaitLimits(0.5, 1))
    assert [c for c in server.calls if c != "CurrentTime"] == [
        "PowerOnVM_Task", READ, READ, "PowerOnVM_Task", READ,
    ]  # fmt: skip


def test_another_task_that_does_not_end_is_given_up_on(server: Server, link: ServerLink) -> None:
    server.usual["PowerOnVM_Task"] = fault("TaskInProgress", '<task type="Task">task-9</task>')
    server.usual[READ] = TASK_STATE.format("running")
    with pytest.raises(VmBusy, match="power-on was not begun"):
        run(link, "power-on", power_on(link), vm="web01", limits=WaitLimits(0.3, 1))
    assert server.calls.count("PowerOnVM_Task") == 1


# -- answers that are made to do harm ---------------------------------------------------------


@pytest.mark.parametrize("name", ["HostConnectFault", "RuntimeFault", "InvalidLocale", "Unknown"])
@pytest.mark.parametrize("method", ["Login", "CurrentTime"])
def test_a_server_that_repeats_the_password_does_not_show_it(
    server: Server, method: str, name: str
) -> None:
    answer = fault(name, text="cannot log in with &quot;secret&quot;")
    server.script[method] = [answer, answer]
    with pytest.raises(VReplicaError) as caught:
        open_and_ask(server)
    error = caught.value
    shown = f"{error} {error!r} {error.explain()} {error.to_dict()} {vars(error)}"
    assert "secret" not in shown


ELEMENTS = b"<a>%s</a>" % (b"x" * 1017) * 1024
"""1 MiB."""


COMMANDS = (
    ["run", "web01"],
    ["plan", "web01"],
    ["check", "web01"],
    ["points", "web01"],
    ["verify", "web01"],
    ["failover", "web01", "--final-sync", "yes"],
    ["test-failover", "web01"],
    ["catalog", "rebuild"],
    ["history"],
)


@pytest.mark.parametrize("more", [[], ["--json"], ["--debug"], ["-v"]], ids=str)
def test_no_command_shows_or_keeps_a_password_that_a_server_repeats(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    password = "Gehe1m&Wort"
    monkeypatch.setenv("PASSWORD", password)
    port = server.server_address[1]
    site = site_table(host=HOST).replace("AB" * 32, probe_certificate(HOST, port)[0])
    file = tmp_path / "jobs.toml"
    file.write_text(f"{STATE}{site}port = {port}\n{job_table('web01')}")
    repeated = fault("HostConnectFault", text="cannot log in with Gehe1m&amp;Wort")
    for words in COMMANDS:
        server.script["Login"] = [repeated] * 4
        done = CliRunner().invoke(app, [*words, *more, "-c", str(file)])
        assert done.exit_code not in (0, 70) or words[0] == "history", done.output
        assert "Wort" not in done.output, words
        assert "cannot log in with ***" in done.output or words[0] in ("history", "catalog")
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert b"Gehe1m" not in path.read_bytes(), path


def never_ending(handler: Handler) -> None:
    """Sends without a length until the client hangs up."""
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        handler.wfile.write(ENVELOPE.partition("{}")[0].encode())
        while True:
            handler.wfile.write(ELEMENTS)


def dripping(handler: Handler) -> None:
    """A byte every 50 ms: no silence is as long as the timeout."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)


def packed(content: bytes) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        data = gzip.compress(content, 1)
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def open_and_ask(server: Server, **more: Any) -> None:
    link = open_link(server, **more)
    try:
        link.ask("asking for the time", clock(link))
    finally:
        link.close()


BOMB = ENVELOPE.partition("{}")[0].encode() + ELEMENTS * 40
BROKEN_XML = ("<x>secret", "", "<!DOCTYPE x [<!ENTITY a 'b'>]>", "<?xml encoding='klingon'?><x/>")


@pytest.mark.parametrize("answer", [*BROKEN_XML, "\udcff"], ids=range(5))
@pytest.mark.parametrize("method", ["Login", "CurrentTime", "RetrieveServiceContent"])
def test_what_is_not_xml_is_a_bad_reply_of_any_call(
    server: Server, method: str, answer: str
) -> None:
    def reply(handler: Handler) -> None:
        data = answer.encode("utf-8", "surrogateescape")
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    server.script[method] = [reply, reply]
    with pytest.raises(BadReply) as caught:
        open_and_ask(server)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("place", ["versions", "Login", "CurrentTime"])
def test_an_answer_that_drips_ends_with_the_limit_of_time(server: Server, place: str) -> None:
    server.script[place] = [dripping, dripping]
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="no answer within"):
        open_and_ask(server, reply_timeout_s=0.4)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("place", ["versions", "Login", "CurrentTime"])
def test_an_answer_without_an_end_ends_with_the_limit_of_size(server: Server, place: str) -> None:
    server.script[place] = [never_ending, never_ending]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((BadReply, NotVSphere), match="more than 32 MiB"):
        open_and_ask(server, reply_timeout_s=20)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 << 10, f"{grown} KiB"


def test_a_packed_answer_is_read_and_its_content_is_limited(server: Server) -> None:
    inner = f'<CurrentTimeResponse xmlns="urn:vim25">{NOW}</CurrentTimeResponse>'
    whole = packed(ENVELOPE.format(inner).encode())
    server.script["CurrentTime"] = [whole, packed(BOMB), packed(b"")]
    link = open_link(server, reply_timeout_s=20)
    ask = clock(link)
    assert link.ask("asking for the time", ask) == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(BadReply, match="more than 32 MiB"):
        link.ask("asking for the time", ask)
    with pytest.raises(BadReply):
        link.ask("asking for the time", ask)
    link.close()


def test_pages_without_an_end_are_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MOST_OBJECTS", 50)
    page = task_info("running").replace("<returnval>", "<returnval><token>again</token>")
    server.usual |= {"RetrievePropertiesEx": page, "ContinueRetrievePropertiesEx": page}
    link = open_link(server)
    with pytest.raises(BadReply, match="more than 50 objects"):
        collector.read_one(link, "reading a task", link.managed(vim.Task, "task-1"), ["info"])
    link.close()
