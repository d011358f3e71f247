"""Logins and tickets of the native library, against the lab's vCenter and single host.

The program native/tests/vim.c is built with the address and undefined-behaviour sanitizers.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask

from tests.native.sanitized import build
from tests.native.vim_program import Vim
from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

CAPACITY = 24 * MIB
PASSWORD = "a p<w>&\"ö'd"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with Lab.create(folder, bare_hosts=("site-b",)) as running:
        yield running


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("asan") / "vim", "vim.c", "net", "vim", "os")


@pytest.fixture
def vim(program: Path) -> Iterator[Vim]:
    running = Vim(program)
    yield running
    running.end()


@pytest.fixture
def at(vim: Vim, lab: Lab) -> Callable[..., Vim]:
    """`at(site, vm, **values)`: the program with the target set."""

    def go(site: int, vm: dict[str, Any], **values: object) -> Vim:
        spec = lab.specs[site]
        vim.set(
            server=spec.host,
            port=spec.port,
            thumbprint=lab.sites[spec.name].certificate.thumbprints.sha1,
            vmx=f"moref={vm['moref']}",
        )
        if "cookie" not in values:
            vim.set(user=spec.user, password=spec.password)
        vim.set(**values)
        return vim

    return go


@pytest.fixture(scope="module")
def vms(control: LabControl) -> list[dict[str, Any]]:
    """A VM on each site, with one disk."""
    return [
        control.create_vm(site, "web", disks=[(CAPACITY, True, None)])
        for site in ("site-a", "site-b")
    ]


def sessions(lab: Lab, site: str) -> int:
    return len(lab.sites[site].sessions.by_key)


@pytest.mark.parametrize("site", [0, 1])
def test_tickets_of_a_vcenter_and_of_a_single_host(
    at: Callable[..., Vim], lab: Lab, vms: list[dict[str, Any]], site: int
) -> None:
    spec, path = lab.specs[site], vms[site]["disks"][0]["path"]
    before = sessions(lab, spec.name)
    vim = at(site, vms[site])
    assert vim.do("open") == ["0"], vim.log
    tickets = [vim.do(f"{what} {path}") for what in ("read", "read", "write")]
    server = lab.sites[spec.name].host_servers.by_host
    (host,) = [s for s in server.values() if tickets[0][2] == str(s.port)]
    for code, address, _, service, session, thumbprint, capacity, _ in tickets:
        assert (code, address, capacity) == ("0", spec.host, str(CAPACITY))
        assert service == ("nfc" if site else "vpxa-nfc")
        assert thumbprint == host.certificate.thumbprints.sha1
        assert host.tickets.redeem(session)
    assert len({t[4] for t in tickets}) == 3
    assert sessions(lab, spec.name) == before + 1
    vim.do("close")
    assert sessions(lab, spec.name) == before  # our own login is logged out


@pytest.mark.parametrize("form", ["lower", "plain", "sha256"])
def test_thumbprints_in_every_form(
    at: Callable[..., Vim], lab: Lab, vms: list[dict[str, Any]], form: str
) -> None:
    certificate = lab.sites["site-a"].certificate
    text = certificate.pem.read_text("ascii")
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])
    sha1 = certificate.thumbprints.sha1
    given = {
        "lower": sha1.lower(),
        "plain": sha1.replace(":", ""),
        "sha256": sha256(der).hexdigest(),
    }
    assert at(0, vms[0], thumbprint=given[form]).code("open") == 0


def test_wrong_user_and_password(
    at: Callable[..., Vim], lab: Lab, vms: list[dict[str, Any]]
) -> None:
    before = sessions(lab, "site-a")
    vim = at(0, vms[0], password=PASSWORD)
    assert vim.code("open") == 35
    assert "InvalidLogin" in vim.log[-1]
    assert PASSWORD not in str(vim.log)
    vim.set(user="nobody")
    assert vim.code("open") == 35
    assert sessions(lab, "site-a") == before


def test_a_password_with_every_kind_of_character(
    at: Callable[..., Vim], control: LabControl, vms: list[dict[str, Any]]
) -> None:
    control.do("set_user", site="site-a", user="odd<&>", password=PASSWORD)
    assert at(0, vms[0], user="odd<&>", password=PASSWORD).code("open") == 0


def test_a_session_by_its_id_is_used_and_left(
    at: Callable[..., Vim], si: Any, lab: Lab, vms: list[dict[str, Any]]
) -> None:
    cookie = re.search(r'vmware_soap_session="?(\w+)', si._stub.cookie)
    assert cookie
    for given in (cookie[1], f'"{cookie[1]}"', f'vmware_soap_session="{cookie[1]}"'):
        vim = at(0, vms[0], cookie=given)
        before = sessions(lab, "site-a")
        assert vim.code("open") == 0
        assert vim.code(f"read {vms[0]['disks'][0]['path']}") == 0
        assert sessions(lab, "site-a") == before
        vim.do("close")
        assert si.CurrentTime()  # it is still logged in
    vim.set(cookie="0123456789abcdef")
    assert vim.code("open") == 35
    assert "the session given has ended" in str(vim.log)
    assert vim.code("open") == 35
    vim.set(cookie="x\\r; y")
    assert vim.code("open") == 3


def test_a_session_that_ends_is_begun_again(
    at: Callable[..., Vim], control: LabControl, vms: list[dict[str, Any]]
) -> None:
    vim, path = at(0, vms[0]), vms[0]["disks"][0]["path"]
    assert vim.code("open") == 0
    for lose in ("end_sessions", "drop_connections"):
        control.do(lose, site="site-a")
        assert vim.code(f"read {path}") == 0, vim.log
        assert vim.code(f"write {path}") == 0, vim.log
    assert "the session has ended, logging in again" in str(vim.log)


@pytest.mark.parametrize(
    ("vmx", "code"),
    [
        ("Datacenter/vm/web", 0),
        ("[{ds}] web/web.vmx?dcPath=Datacenter", 0),
        ("web/web.vmx?dcPath=Datacenter&dsName={ds}", 0),
        ("web/web.vmx?dsName={ds}", 3),
        ("web/none.vmx?dcPath=Datacenter&dsName={ds}", 4000),
        ("web/web.vmx?dcPath=None&dsName={ds}", 4000),
        ("Datacenter/vm/none", 4000),
        ("moref=vm-99999", 4000),
        ("moref=", 3),
    ],
)
def test_the_vm_by_its_path(
    at: Callable[..., Vim], si: Any, vms: list[dict[str, Any]], vmx: str, code: int
) -> None:
    path = vms[0]["disks"][0]["path"]
    (datacenter,) = si.content.rootFolder.childEntity
    vmx = vmx.replace("Datacenter", datacenter.name).format(ds=path[1 : path.index("]")])
    vim = at(0, vms[0], vmx=vmx)
    assert vim.code("open") == code, vim.log
    if not code:
        assert vim.code(f"write {path}") == 0


def test_every_link_of_a_chain_and_the_snapshots(
    at: Callable[..., Vim], si: Any, lab: Lab, control: LabControl
) -> None:
    vm = control.create_vm("site-a", "chain", disks=[(CAPACITY, True, None)] * 2)
    other = control.create_vm("site-a", "other", disks=[(CAPACITY, True, None)])
    managed = lab.sites["site-a"].objects[vm["moref"]]
    found = next(
        v
        for v in si.content.rootFolder.childEntity[0].vmFolder.childEntity
        if v._moId == vm["moref"]
    )
    for name in ("one", "two"):
        WaitForTask(found.CreateSnapshot_Task(name, "", False, False))
    snapshots = control.describe_vm("site-a", vm["moref"])["snapshots"]
    assert len(managed.links) == 6
    vim = at(0, vm, snapshot=snapshots[0])
    assert vim.code("open") == 0, vim.log
    for link in managed.links:
        assert vim.do(f"read {link}")[6] == str(CAPACITY)
        assert vim.code(f"write {link}") == 0
    assert vim.code(f"write {other['disks'][0]['path']}") == 4
    assert "no disk of" in vim.log[-1]
    WaitForTask(found.snapshot.rootSnapshotList[0].snapshot.RemoveSnapshot_Task(False))
    assert vim.code(f"read {vm['disks'][0]['path']}") == 13003
    vim.do("close")
    vim.set(snapshot="snapshot-99999")
    assert vim.code("open") == 13003
    vim.set(snapshot=snapshots[1], vmx=f"moref={other['moref']}")
    assert vim.code("open") == 13003
    assert f"{other['moref']} has no snapshot {snapshots[1]}" in str(vim.log)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("NoPermission", 3014),
        ("HostNotConnected", 26),
        ("TaskInProgress", 31),
        ("InvalidState", 5),
        ("FileLocked", 15),
        ("RestrictedVersion", 32),
        ("MethodDisabled", 20005),
        ("SystemError", 1),
    ],
)
def test_faults_become_errors_and_their_texts_are_logged(
    at: Callable[..., Vim], control: LabControl, vms: list[dict[str, Any]], fault: str, code: int
) -> None:
    vim, path = at(0, vms[0]), vms[0]["disks"][0]["path"]
    assert vim.code("open") == 0
    rule = {"method": "NfcGetVmFiles", "fault": fault, "message": "line one\nline two"}
    control.do("add_fault", site="site-a", rule=rule)
    assert vim.code(f"read {path}") == code
    assert f"no ticket to read the disk: {fault}: line one?line two" in vim.log[-1]
    assert vim.code(f"read {path}") == 0


def test_the_text_of_a_fault_cannot_repeat_a_secret(
    at: Callable[..., Vim], lab: Lab, control: LabControl, vms: list[dict[str, Any]]
) -> None:
    vim, path = at(0, vms[0]), vms[0]["disks"][0]["path"]
    assert vim.code("open") == 0
    secret = lab.specs[0].password
    rule = {"method": "NfcGetVmFiles", "fault": "SystemError", "message": f"not {secret}!"}
    control.do("add_fault", site="site-a", rule=rule)
    assert vim.code(f"read {path}") == 1
    assert "SystemError: not ***!" in vim.log[-1]


def test_an_account_without_the_right_is_told_which(
    at: Callable[..., Vim], control: LabControl, vms: list[dict[str, Any]]
) -> None:
    rights = ["System.Anonymous", "System.View", "System.Read"]
    control.do("set_user", site="site-a", user="reader", password="reading", privileges=rights)
    vim = at(0, vms[0], user="reader", password="reading")
    assert vim.code("open") == 0
    assert vim.code(f"read {vms[0]['disks'][0]['path']}") == 3014
    assert "VirtualMachine.Provisioning.DiskRandomRead" in vim.log[-1]
