"""Runs a test failover: makes a VM from a recovery point, checks it, and removes it.

    hold the point -> linked clone, or a full copy where the host cannot clone (marked)
                   -> cards on the isolated network, new MACs
                   -> power on -> heartbeat -> script in the guest -> power off, destroy

    <job>/tests/<id>/journal.jsonl     every effect, with its intent before it
    <job>/tests/<id>/report.json       the report

Neither the replica nor the job is touched: replication goes on. The VM is removed whatever
happens; after a kill, the next run or test removes it (sync/replica/test_vm.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover.guest.customize import run_customization_script, wait_customized
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.journal import Journal
from vreplica.failover.machine.point_choice import NEWEST, PointChoice, choose_point
from vreplica.failover.testing import full_copy
from vreplica.failover.testing.errors import NoGuestLogin, ProductionNetwork, VmInTheWay
from vreplica.files import write_private
from vreplica.points import RecoveryPoint
from vreplica.points.model import new_id
from vreplica.points.vm_keys import DISK_KEY, JOB_KEY, LEAF_KEY, POINT_KEY, SOURCE_KEY, TEST_KEY
from vreplica.redact import hide_in
from vreplica.sync.errors import PointIsDamaged, PointIsNewer
from vreplica.sync.job import Customize, Job
from vreplica.sync.replica import nvram, test_vm
from vreplica.sync.replica.state import ReplicaState, find_replica, need_points
from vreplica.vsphere.errors import VmNotFound
from vreplica.vsphere.model import GuestState, NetworkInfo, ScriptResult, VmRef
from vreplica.vsphere.session import Session, connect

POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class TestOptions:
    """The operator's options.

    `boot`: the point; without a word the newest, or the one that the job prefers. `network`:
    None: the job's.
    """

    boot: PointChoice = NEWEST
    network: str | None = None
    force: bool = False
    """Allow a network that the replica itself is connected to."""
    script: Path | None = None
    script_timeout_s: float = 300.0
    heartbeat_timeout_s: float = 300.0
    keep: bool = False
    """Leave the VM running at the end."""


@dataclass(frozen=True, slots=True)
class TestReport:
    """The result of a test failover. `trouble`: the error that ended it early."""

    job: str
    id: str
    point: RecoveryPoint
    vm: str
    network: str | None
    began: datetime
    seconds: float
    heartbeat_s: float | None
    """From the power-on to a good heartbeat. None: there was none in time."""
    host_name: str | None
    addresses: tuple[str, ...]
    macs: tuple[str, ...]
    customization_script: ScriptResult | None
    """The result of the guest customization, where a script does it."""
    script: ScriptResult | None
    script_name: str | None
    trouble: str | None
    removed: bool
    kept: bool

    @property
    def passed(self) -> bool:
        """It booted and answered, its scripts ended with 0, and nothing is left by mistake."""
        scripted = self.script_name is None or (self.script and self.script.exit_code == 0)
        addressed = self.customization_script is None or self.customization_script.exit_code == 0
        done = self.removed or self.kept
        went = self.trouble is None and self.heartbeat_s is not None
        return went and bool(scripted) and addressed and done

    def _customization(self) -> dict[str, Any] | None:
        return self.customization_script.to_dict() if self.customization_script else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "test": self.id,
            "passed": self.passed,
            "point": self.point.to_dict(),
            "vm": self.vm,
            "network": self.network,
            "started": self.began.isoformat(),
            "duration_s": self.seconds,
            "heartbeat_s": self.heartbeat_s,
            "host_name": self.host_name,
            "addresses": list(self.addresses),
            "macs": list(self.macs),
            "customization_script": self._customization(),
            "script": self.script.to_dict() if self.script is not None else None,
            "script_name": self.script_name,
            "trouble": self.trouble,
            "removed": self.removed,
            "kept": self.kept,
        }


def run_test(job: Job, options: TestOptions, report: Reporter) -> TestReport:
    """Runs one test failover. Errors after the VM is begun are in the report.

    Raises, before anything is made: NoPoints, PointIsNewer, BootRefused, ProductionNetwork,
    PlacementNotFound, NoRoomForTest, VmInTheWay, NoGuestLogin.
    """
    script = options.script.read_bytes() if options.script is not None else None
    by_script = script is not None or job.guest.customize is Customize.SCRIPT
    if by_script and job.guest.user is None:
        raise NoGuestLogin(job=job.name)
    with connect(job.destination) as session:
        if name := test_vm.remove_left(session, job):
            report(f"removed test VM {name}: the process that made it has ended")
        replica = need_points(job, find_replica(session, job))
        choice = options.boot.or_prefer(job.prefer)
        for newer in replica.newer:
            if choice.point in (None, newer.id):
                raise PointIsNewer(job.name, newer)
        for damaged in replica.damaged:
            if choice.point == damaged.id:
                raise PointIsDamaged(job.name, damaged)
        now = datetime.now(UTC)
        point = choose_point(replica.points, choice, now, replica.bootable_sides)
        network = _check_options(session, job, replica, options)
        if not session.about.is_vcenter:
            full_copy.check_room(session, replica, point)
        mark = test_vm.OwnerMark(
            job=job.name,
            id=f"test-{new_id()}",
            point=point.id,
            owner=test_vm.this_process(),
            time=datetime.now(UTC).isoformat(),
            keep=options.keep,
        )
        with test_vm.hold_point(job, mark) as folder:
            spec = _TestSpec(job, options, replica, point, network, mark, script)
            result = _TestRun(session, spec, report).run(folder)
        write_private(folder / "report.json", json.dumps(hide_in(result.to_dict())))
        return result


def clean(job: Job) -> str | None:
    """Removes the job's test VM, kept or left over. Returns its name; None: there is none.

    Raises BeingTested while its test runs on this machine.
    """
    with connect(job.destination) as session:
        return test_vm.remove_left(session, job, kept_too=True)


def _check_options(
    session: Session, job: Job, replica: ReplicaState, options: TestOptions
) -> NetworkInfo | None:
    """Refuses what is known to fail, before anything is made. Returns the network of the test."""
    name = test_vm.test_name(job)
    if session.look_up_vm(name) is not None:
        raise VmInTheWay(job=job.name, vm=name)
    wanted = options.network or job.placement.test_network
    if wanted is None:
        return None
    network = session.network_of_host(replica.vm.ref, wanted)
    on_cards = any(
        nic.is_on(network.moref if nic.network_moref else network.name) for nic in replica.vm.nics
    )
    named = (network.is_named(text) for text in job.placement.networks.values())
    if (on_cards or any(named)) and not options.force:
        raise ProductionNetwork(network=network.name, job=job.name)
    return network


@dataclass(frozen=True, slots=True)
class _TestSpec:
    """The input of one test failover. `script`: the text of the operator's script."""

    job: Job
    options: TestOptions
    replica: ReplicaState
    point: RecoveryPoint
    network: NetworkInfo | None
    mark: test_vm.OwnerMark
    script: bytes | None


class _TestRun:
    """Runs one test failover, from the clone to the end of the VM."""

    def __init__(self, session: Session, spec: _TestSpec, report: Reporter) -> None:
        self._session, self._spec, self._report = session, spec, report
        self._job, self._options = spec.job, spec.options
        self._vm: VmRef | None = None
        self._macs: tuple[str, ...] = ()
        self._heartbeat_s: float | None = None
        self._script_result: ScriptResult | None = None
        self._customization_result: ScriptResult | None = None
        self._guest: GuestState | None = None

    def run(self, folder: Path) -> TestReport:
        began, start = datetime.now(UTC), time.monotonic()
        network = self._spec.network
        data = {"mark": self._spec.mark.dump(), "network": network.name if network else ""}
        self._journal = Journal.begin(folder, data)
        trouble: str | None = None
        removed = False
        try:
            try:
                self._make()
                self._check_guest()
            except VReplicaError as error:
                trouble = str(error)
                self._report(f"the test failed: {error}")
        finally:
            # Also after Ctrl-C.
            try:
                removed = self._remove_vm(trouble is not None)
            except VReplicaError as error:
                trouble = f"{trouble + '; ' if trouble else ''}not removed: {error}"
            self._journal.close()
        kept = self._vm is not None and self._options.keep and not removed
        return TestReport(
            job=self._job.name,
            id=self._spec.mark.id,
            point=self._spec.point,
            vm=test_vm.test_name(self._job),
            network=self._spec.network.name if self._spec.network else None,
            began=began,
            seconds=time.monotonic() - start,
            heartbeat_s=self._heartbeat_s,
            host_name=self._guest.host_name if self._guest else None,
            addresses=(self._guest.ip_address,) if self._guest and self._guest.ip_address else (),
            macs=self._macs,
            customization_script=self._customization_result,
            script=self._script_result,
            script_name=self._options.script.name if self._options.script else None,
            trouble=trouble,
            removed=removed,
            kept=kept,
        )

    def _do(self, what: str, call: Callable[[], Any]) -> Any:
        """Does one effect. Journals its intent before and its result after."""
        self._report(what)
        self._journal.write("intent", step=what, data={})
        try:
            result = call()
        except BaseException as error:
            self._journal.write("call", step=what, data={"result": f"failed: {error}"})
            raise
        self._journal.write("call", step=what, data={"result": "done"})
        return result

    def _make(self) -> None:
        session, name = self._session, test_vm.test_name(self._job)
        assert self._spec.point.snapshot is not None, "points that were read have their snapshot"
        if session.about.is_vcenter:
            self._clone(name, self._spec.point.snapshot)
        else:
            self._copy(name, self._spec.point.snapshot)
        vm, network = self._vm, self._spec.network
        assert vm is not None
        point, replica = self._spec.point, self._spec.replica.vm
        if point.nvram:
            text = f"give {name} the NVRAM of point {point.id}"
            self._do(text, lambda: nvram.place(session, replica, point, session.read_vm(vm)))
        if network is not None:
            text = f"attach {name} to {network.name}"
            nics = self._do(text, lambda: session.attach_nics(vm, network.moref))
            self._macs = tuple(nic.mac for nic in nics if nic.mac)
        if self._job.guest.customize is Customize.SPEC:
            guest = self._job.guest
            self._do(
                f"customize {name}",
                lambda: session.customize_guest(vm, guest.spec or guest.customization),
            )
        self._do(f"power on {name}", lambda: session.power_on(vm))

    def _clone(self, name: str, snapshot: str) -> None:
        session, replica = self._session, self._spec.replica.vm
        # The keys that make a VM a replica must not be on its copy.
        mine = (JOB_KEY, SOURCE_KEY, LEAF_KEY, POINT_KEY)
        options = {key: "" for key in replica.extra_config if key.startswith(DISK_KEY)}
        options |= {**dict.fromkeys(mine, ""), TEST_KEY: self._spec.mark.dump()}
        self._vm = self._do(
            f"clone point {self._spec.point.id} as {name}",
            lambda: session.clone_linked(
                replica.ref, snapshot, name, extra_config=options, bios_uuid=replica.bios_uuid
            ),
        )

    def _copy(self, name: str, snapshot: str) -> None:
        """Makes the VM from full copies: a single ESXi host cannot clone."""
        session = self._session
        frozen = session.read_vm(self._spec.replica.vm.ref, snapshot)
        options = {TEST_KEY: self._spec.mark.dump()}
        network = self._spec.network
        spec = full_copy.empty_vm_spec(frozen, name, network.moref if network else None, options)
        vm = self._vm = self._do(f"create {name}", lambda: session.create_replica(spec))
        full_copy.copy_disks(session, vm, frozen, self._spec.mark.id, self._do)
        job, mark = self._job, self._spec.mark
        self._do(
            f"release point {mark.point}", lambda: test_vm.release_point(session, job, vm, mark)
        )

    def _check_guest(self) -> None:
        vm, limit = self._vm, self._options.heartbeat_timeout_s
        assert vm is not None
        start = time.monotonic()
        while True:
            self._guest = self._session.read_guest(vm)
            waited = time.monotonic() - start
            if self._guest.heartbeat == "green":
                self._heartbeat_s = waited
                break
            if waited > limit:
                self._report(f"no heartbeat within {limit:.0f} s")
                return
            self._report(f"waiting for the guest's heartbeat: {limit - waited:.0f} s left")
            time.sleep(min(POLL_S, max(0.1, limit - waited)))
        if self._job.guest.customize is Customize.SPEC:
            wait_customized(self._session, vm, timeout_s=limit, report=self._report)
        if self._job.guest.customize is Customize.SCRIPT:
            self._customization_result = self._do(
                "give the guest its addresses",
                lambda: run_customization_script(self._session, vm, self._job),
            )
        if self._spec.script is not None:
            self._run_script(vm, self._spec.script)
        self._guest = self._session.read_guest(vm)

    def _run_script(self, vm: VmRef, script: bytes) -> None:
        login, file = self._job.guest.login(), self._options.script
        assert login is not None, "run_test has checked it"
        assert file is not None, "run_test has read it"
        windows = self._spec.replica.vm.guest_family == "windows"
        self._script_result = self._do(
            f"run {file.name} in the guest",
            lambda: self._session.run_script(
                vm,
                login,
                script,
                windows=windows,
                suffix=file.suffix,
                timeout_s=self._options.script_timeout_s,
            ),
        )

    def _remove_vm(self, failed: bool) -> bool:
        """Removes the VM. It is kept only where `keep` was asked for and the test did not fail."""
        if self._options.keep and self._vm is not None and not failed:
            return False
        try:
            vm = self._vm or self._session.find_vm(test_vm.test_name(self._job))
        except VmNotFound:
            return True
        session = self._session
        mark = test_vm.OwnerMark.load(session.read_vm(vm).extra_config.get(TEST_KEY, ""))
        if mark is None or mark.id != self._spec.mark.id:
            return False
        self._do(f"power off {vm.name}", lambda: session.power_off(vm))
        self._do(f"destroy {vm.name}", lambda: test_vm.remove_test_vm(session, vm))
        return True
