"""What an operator reads when something is wrong with vCenter: clear words, and a way out."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vreplica.errors import VReplicaError
from vreplica.lab import Lab, LabControl
from vreplica.lab.certificate import ServerCertificate
from vreplica.units import MIB
from vreplica.vsphere.connection.certificate import probe_certificate
from vreplica.vsphere.errors import (
    CertificateChanged,
    HostDisconnected,
    HostUnreachable,
    LoginFailed,
    PermissionDenied,
    SessionLost,
    ThumbprintInvalid,
    VmNotFound,
)
from vreplica.vsphere.model import Endpoint, QuiesceOptions, ReplicaSpec, VmRef
from vreplica.vsphere.session import Session, connect

SITE = "site-a"


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[Lab]:
    """A lab of its own, to be broken."""
    with Lab.create(tmp_path / "frail", sites=(SITE,), host="127.0.0.2") as lab:
        yield lab


def point(lab: Lab, **changed: Any) -> Endpoint:
    (site,) = lab.dir.read()["sites"]
    names = ("host", "user", "password", "sha256", "port")
    return Endpoint(**{**{n: site[n] for n in names}, **changed})


def machine(lab: Lab, **options: Any) -> VmRef:
    options.setdefault("disks", [(8 * MIB, True, None)])
    made = LabControl(lab.directory).create_vm(SITE, "web01", **options)
    return VmRef(made["moref"], "web01")


def renew_certificate(lab: Lab) -> ServerCertificate:
    """As an administrator does who replaces a vCenter's certificate."""
    site = lab.sites[SITE]
    site.certificate = ServerCertificate.create(
        lab.directory / SITE / "renewed.pem", SITE, "127.0.0.2"
    )
    lab.restart_site(SITE)
    return site.certificate


def told(error: VReplicaError) -> str:
    text = "\n".join([str(error), *error.explain()])
    assert "what to do: " in text
    assert "Traceback" not in text
    return text


# -- getting in -------------------------------------------------------------------------------


def test_a_wrong_password_names_user_and_host_and_no_password(endpoint: Any) -> None:
    with pytest.raises(LoginFailed) as caught:
        connect(endpoint(password="wrong-secret"))
    text = told(caught.value)
    assert "127.0.0.2 refused the login of administrator@vsphere.local" in text
    assert "user@domain" in text
    assert "wrong-secret" not in text + repr(caught.value) + str(caught.value.to_dict())
    assert caught.value.retryable is False


def test_an_unknown_user_is_told_as_a_wrong_password(endpoint: Any) -> None:
    with pytest.raises(LoginFailed, match="nobody@lab"):
        connect(endpoint(user="nobody@lab"))


def test_another_certificate_prints_both_thumbprints_and_sends_no_password(
    endpoint: Any, lab: Lab
) -> None:
    sessions = dict(lab.sites[SITE].sessions.by_key)
    real = endpoint().sha256
    with pytest.raises(CertificateChanged) as caught:
        connect(endpoint(sha256="00:" * 31 + "00"))
    text = told(caught.value)
    assert real in text
    assert "00:00:00" in text
    assert "No password was sent" in text
    assert lab.sites[SITE].sessions.by_key == sessions


def test_a_thumbprint_that_is_none_is_a_configuration_error(endpoint: Any) -> None:
    sha1 = probe_certificate("127.0.0.2", endpoint().port)[1]
    with pytest.raises(ThumbprintInvalid) as caught:
        connect(endpoint(sha256=sha1))
    assert caught.value.exit_code == 2
    assert "64 hexadecimal digits" in told(caught.value)


def test_a_host_that_does_not_listen_is_unreachable(endpoint: Any) -> None:
    with pytest.raises(HostUnreachable) as caught:
        connect(endpoint(port=1), timeout_s=2)
    assert "127.0.0.2:1 cannot be reached: connection refused" in told(caught.value)
    assert caught.value.retryable


def test_a_name_that_dns_does_not_know_is_told(endpoint: Any) -> None:
    with pytest.raises(HostUnreachable, match=r"the name is not known|cannot be reached"):
        connect(endpoint(host="vcenter.invalid"), timeout_s=5)


# -- finding ----------------------------------------------------------------------------------


def test_an_unknown_vm_names_similar_ones(frail: Lab) -> None:
    machine(frail)
    with connect(point(frail)) as session, pytest.raises(VmNotFound) as caught:
        session.find_vm("web1")
    assert "there is no VM 'web1' in 127.0.0.2; similar: web01" in told(caught.value)


# -- while it runs ----------------------------------------------------------------------------


def test_a_certificate_renewed_during_a_session_stops_it(frail: Lab) -> None:
    vm = machine(frail)
    with connect(point(frail)) as session:
        assert session.power_state(vm) == "poweredOff"
        renewed = renew_certificate(frail)
        for act in (session.power_state, session.power_on):
            with pytest.raises(CertificateChanged) as caught:
                act(vm)
            assert caught.value.found == renewed.thumbprints.sha256
    with connect(point(frail, sha256=renewed.thumbprints.sha256)) as session:
        assert session.power_state(vm) == "poweredOff"


Act = Callable[[Session, VmRef], object]

ACTS: list[tuple[str, Act]] = [
    ("VirtualMachine.State.CreateSnapshot", lambda s, vm: s.create_snapshot(vm, "x")),
    ("VirtualMachine.Config.ChangeTracking", lambda s, vm: s.enable_cbt(vm)),
    ("VirtualMachine.Interact.PowerOn", lambda s, vm: s.power_on(vm)),
    ("VirtualMachine.Config.AdvancedConfig", lambda s, vm: s.set_extra_config(vm, {"a": "b"})),
    ("VirtualMachine.Inventory.Delete", lambda s, vm: s.destroy_vm(vm)),
    (
        "VirtualMachine.Provisioning.DiskRandomRead",
        lambda s, vm: s.changed_extents(vm, None, 2000, "*", 8 * MIB),
    ),
    (
        "VirtualMachine.Inventory.Create",
        lambda s, vm: s.create_replica(ReplicaSpec("r", s.read_vm(vm), "site-a-ds1")),
    ),
]


@pytest.mark.parametrize(("privilege", "act"), ACTS, ids=[p for p, _ in ACTS])
def test_a_missing_privilege_is_named_with_user_and_object(
    endpoint: Any, control: LabControl, new_vm: Any, privilege: str, act: Act
) -> None:
    vm = new_vm()
    control.set_user(SITE, "reader@lab", "pw", [])
    with connect(endpoint(user="reader@lab", password="pw")) as session:
        assert session.read_vm(vm).power_state == "poweredOff"
        with pytest.raises(PermissionDenied) as caught:
            act(session, vm)
    text = told(caught.value)
    assert privilege in text
    assert "reader@lab may not do this" in text
    assert caught.value.entity != "the object"


def test_the_privileges_of_a_cycle_are_enough_for_a_cycle(
    endpoint: Any, control: LabControl, new_vm: Any
) -> None:
    privileges = [
        "VirtualMachine.State.CreateSnapshot",
        "VirtualMachine.State.RemoveSnapshot",
        "VirtualMachine.Config.ChangeTracking",
        "VirtualMachine.Provisioning.DiskRandomRead",
    ]
    vm = new_vm(power_on=True)
    control.set_user(SITE, "backup@lab", "pw", privileges)
    with connect(endpoint(user="backup@lab", password="pw")) as session:
        assert session.enable_cbt(vm)
        made = session.create_snapshot(vm, "s", "", QuiesceOptions())
        session.changed_extents(vm, made.moref, 2000, "*", 8 * MIB)
        assert session.remove_snapshot(vm, made.moref).existed


def test_a_session_ended_in_the_middle_is_renewed(frail: Lab) -> None:
    vm = machine(frail, power_on=True)
    control = LabControl(frail.directory)
    with connect(point(frail)) as session:
        control.end_sessions(SITE)
        assert session.power_state(vm) == "poweredOn"
        control.end_sessions(SITE)
        made = session.create_snapshot(vm, "s")
        control.settings(SITE, task_delay_s=0.5)
        timer = threading.Timer(0.2, control.end_sessions, (SITE,))
        timer.start()
        assert session.remove_snapshot(vm, made.moref).existed
        timer.join()
        assert session.read_vm(vm).snapshots == ()


def test_a_session_of_a_user_whose_password_changed_is_refused(frail: Lab) -> None:
    vm = machine(frail)
    control = LabControl(frail.directory)
    control.set_user(SITE, "backup@lab", "old", None)
    with connect(point(frail, user="backup@lab", password="old")) as session:
        control.set_user(SITE, "backup@lab", "new", None)
        control.end_sessions(SITE)
        with pytest.raises(LoginFailed, match="backup@lab"):
            session.power_state(vm)


def test_a_server_that_accepts_logins_and_forgets_them_is_told(
    frail: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = machine(frail)
    site = frail.sites[SITE]
    with connect(point(frail)) as session:
        opened = site.sessions.open

        def forget(*arguments: Any) -> Any:
            made = opened(*arguments)
            site.sessions.close(made.key)
            return made

        monkeypatch.setattr(site.sessions, "open", forget)
        LabControl(frail.directory).end_sessions(SITE)
        with pytest.raises(SessionLost) as caught:
            session.power_state(vm)
        assert "ended the session, and refused a new login" in told(caught.value)
        monkeypatch.undo()
        assert session.power_state(vm) == "poweredOff", "and it recovers"


def test_a_vcenter_restarted_between_two_calls_is_not_noticed(frail: Lab) -> None:
    vm = machine(frail)
    with connect(point(frail)) as session:
        session.power_on(vm)
        frail.restart_site(SITE)
        assert session.power_state(vm) == "poweredOn"
        frail.restart_site(SITE)
        session.power_off(vm)
        frail.restart_site(SITE)
        assert len(session.recent_tasks(vm)) == 2, "no change was sent twice"


def test_a_vcenter_restarted_during_a_task_is_waited_for(frail: Lab) -> None:
    vm = machine(frail, power_on=True)
    LabControl(frail.directory).settings(SITE, task_delay_s=0.6)
    with connect(point(frail), patience_s=10) as session:

        def restart() -> None:
            time.sleep(0.2)
            frail._shut(SITE)
            time.sleep(1.0)
            frail.sites[SITE].stopping = False
            frail.listen(SITE)

        thread = threading.Thread(target=restart)
        thread.start()
        made = session.create_snapshot(vm, "s")
        thread.join()
        assert [s.moref for s in session.read_vm(vm).snapshots] == [made.moref]


def test_a_vcenter_that_stays_away_is_unreachable_and_closing_does_not_fail(frail: Lab) -> None:
    vm = machine(frail)
    with connect(point(frail), timeout_s=2, patience_s=0.2) as session:
        frail._shut(SITE)
        with pytest.raises(HostUnreachable) as caught:
            session.power_state(vm)
        assert "connection refused" in told(caught.value)
        with pytest.raises(HostUnreachable):
            session.power_on(vm)
    frail.listen(SITE)


def test_an_esxi_host_that_vcenter_lost_is_named_as_such(frail: Lab) -> None:
    vm = machine(frail)
    control = LabControl(frail.directory)
    with connect(point(frail)) as session:
        control.set_host(SITE, connected=False)
        assert session.hosts()[0].connection_state != "connected"
        with pytest.raises(HostDisconnected) as caught:
            session.power_on(vm)
        assert "Reconnect the host in vCenter" in told(caught.value)
        control.set_host(SITE, connected=True)
        session.power_on(vm)


def test_a_disk_file_that_is_gone_is_told_with_its_name(frail: Lab) -> None:
    vm = machine(frail)
    described = LabControl(frail.directory).describe_vm(SITE, vm.moref)
    path = Path(described["disks"][0]["file"])
    shutil.move(path, path.with_suffix(".away"))
    with connect(point(frail)) as session, pytest.raises(VReplicaError) as caught:
        session.power_on(vm)
    assert "web01" in told(caught.value)
