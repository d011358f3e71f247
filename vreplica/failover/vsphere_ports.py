"""The two sites and the job of a real failover: what `failover.Sides` asks for, on vSphere.

Before the replica is started its leaf is marked: from then on it holds a guest's writes and
stands on no recovery point any more, whatever happens to this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Final, Self

from vreplica.failover.guest.customize import check_script, give_identity, wait_customized
from vreplica.failover.machine.errors import ReplicaTouched
from vreplica.failover.machine.ports import Effect
from vreplica.points import Level, RecoveryPoint
from vreplica.points.vm_keys import BOOTED, DISCONNECTED_KEY, LEAF_KEY
from vreplica.sync.cycle import run
from vreplica.sync.errors import JobBusy, NoPoints
from vreplica.sync.events import Listener
from vreplica.sync.failover_run import FailoverRun
from vreplica.sync.job import Customize, Job, OnReplicaChange, QuiescePolicy
from vreplica.sync.job_dir import job_lock
from vreplica.sync.job_switch import disable, enable
from vreplica.sync.replica.foreign_changes import changes_outside
from vreplica.sync.replica.state import ReplicaState, find_replica, put_on
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session, connect

STARTED: Final = ("VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmRestartedOnAlternateHostEvent")
"""Events of a VM that was off and is on: by somebody, by DRS, by HA."""

LOCK_WAIT_S: Final = 600.0
"""How long a sync that is in flight may take to end before the failover gives up waiting."""


class VSpherePorts:
    """A context manager; connects to a side when it is first asked for, so a lost one is not."""

    def __init__(self, job: Job, failover: str, listener: Listener) -> None:
        self._job, self._failover, self._listener = job, failover, listener
        self._stack = ExitStack()
        self._tasks: dict[str, list[str]] = {"source": [], "destination": []}
        self.check_cancelled: Callable[[], None] = lambda: None
        """Asked before every write of a sync too, besides the journal's fence."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @cached_property
    def _source(self) -> Session:
        return self._stack.enter_context(connect(self._job.source))

    @cached_property
    def _source_vm(self) -> VmRef:
        return self._source.find_vm(self._job.source_vm)

    @cached_property
    def _destination(self) -> Session:
        return self._stack.enter_context(connect(self._job.destination))

    def _replica(self) -> ReplicaState:
        replica = find_replica(self._destination, self._job)
        if replica is None:
            raise NoPoints(job=self._job.name)
        return replica

    def tasks(self) -> dict[str, list[str]]:
        # Only of sessions that are open: a lost source is not asked.
        for side, name in (("source", "_source"), ("destination", "_destination")):
            if name in self.__dict__:
                self._tasks[side] += self.__dict__[name].take_started_tasks()
        heard, self._tasks = self._tasks, {"source": [], "destination": []}
        return heard

    def _heard(self, source: tuple[str, ...], destination: tuple[str, ...]) -> None:
        self._tasks["source"] += source
        self._tasks["destination"] += destination

    # -- the job ----------------------------------------------------------------------------

    def disable_job(self, failover: str) -> None:
        end = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                with job_lock(self._job):
                    return disable(self._job, failover)
            except JobBusy:
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)

    def enable_job(self, failover: str) -> None:
        enable(self._job, failover)

    def points(self) -> tuple[RecoveryPoint, ...]:
        replica = find_replica(self._destination, self._job)
        return replica.points if replica is not None else ()

    def sync(
        self, point: str, known_level: Level | None, fence: Callable[[], None]
    ) -> RecoveryPoint:
        def both() -> None:
            fence()
            self.check_cancelled()

        job = self._job
        if known_level is not None:
            # It is off, by the operator's choice: what may boot is the failover's own `require`.
            job = replace(job, require=Level.CRASH, quiesce=QuiescePolicy.TRY)
        report = run(
            job,
            listener=self._listener,
            run_id=point,
            fence=both,
            failover_run=FailoverRun(self._failover, known_level, self._heard),
        )
        return report.point

    def replica_state_is_kept(self) -> bool:
        # Whatever the replica holds came from a run, which ends with a point.
        return True

    def keep_replica_state(self, failover: str) -> None:
        raise AssertionError("a replica's state is always a point's")

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        """Off for good: a run from the old source would overwrite what is in service."""
        with job_lock(self._job):
            disable(self._job, failover, committed=True)

    # -- the source -------------------------------------------------------------------------

    def source_is_off(self) -> bool:
        return self._source.power_state(self._source_vm) == "poweredOff"

    def source_time(self) -> datetime:
        return self._source.refresh()

    def source_started_since(self, time: datetime) -> datetime | None:
        found = self._source.events(self._source_vm, since=time)
        return next((e.time for e in found if e.type in STARTED and e.time >= time), None)

    def source_can_shut_down(self) -> bool:
        return self._source.read_vm(self._source_vm).tools_running

    def shut_down_source(self) -> None:
        self._source.shutdown_guest(self._source_vm)

    def source_was_powered_off(self) -> bool:
        # Both times are vCenter's own. It forgets tasks after some minutes; we look every second.
        events = self._source.events(self._source_vm)
        asked = [e.time for e in events if e.type == "VmGuestShutdownEvent"]
        tasks = self._source.recent_tasks(self._source_vm)
        pulls = [t.queued for t in tasks if "poweroff" in t.operation.lower()]
        return bool(asked) and any(pull >= max(asked) for pull in pulls)

    def power_off_source(self) -> None:
        self._source.power_off(self._source_vm)

    def power_on_source(self) -> None:
        self._source.power_on(self._source_vm)

    def connect_source(self, connect: bool) -> None:
        """The mark stays on the VM: whoever starts it for good connects its cards again."""
        self._source.set_nics(self._source_vm, connect=connect)
        mark = "" if connect else self._failover
        self._source.set_extra_config(self._source_vm, {DISCONNECTED_KEY: mark})

    # -- the replica ------------------------------------------------------------------------

    def replica_is_on(self) -> bool:
        replica = find_replica(self._destination, self._job)
        if replica is None:
            return False
        return self._destination.power_state(replica.vm.ref) != "poweredOff"

    def replica_stands_on(self) -> str | None:
        point = self._replica().stands_on
        return point.id if point else None

    def replica_is_changed(self) -> bool:
        replica = self._replica()
        changes = changes_outside(self._job, self._destination, replica)
        if changes and self._job.on_replica_change is OnReplicaChange.STOP:
            assert replica.latest is not None, "they are since its latest point"
            point = replica.latest.id
            raise ReplicaTouched(vm=replica.vm.ref.name, point=point, changes="; ".join(changes))
        return bool(changes)

    def put_replica_on(self, point: str) -> None:
        replica = self._replica()
        (snapshot,) = (p.snapshot for p in replica.points if p.id == point)
        assert snapshot is not None, "points that were read have their snapshot"
        put_on(self._destination, replica.vm.ref, snapshot)

    def before_power_on(self) -> tuple[Effect, ...]:
        if self._job.guest.customize is Customize.SPEC:
            return (("CustomizeVM replica", self._customize_replica),)
        return ()

    def _customize_replica(self) -> None:
        ref, guest = self._replica().vm.ref, self._job.guest
        self._mark_leaf(ref)
        self._destination.customize_guest(ref, guest.spec or guest.identity)

    def power_on_replica(self) -> None:
        ref = self._replica().vm.ref
        self._mark_leaf(ref)
        self._name_replica(ref)
        self._connect_replica(ref)
        self._destination.power_on(ref)

    def _name_replica(self, ref: VmRef) -> None:
        """A point of before has the names that were wanted then. A lost source cannot tell its."""
        if "_source" in self.__dict__:
            source = self._source.read_vm(self._source_vm)
            self._destination.set_hardware_identity(ref, source, self._job.placement.keep)

    def _connect_replica(self, ref: VmRef) -> None:
        """A replica is made with its cards disconnected; a revert disconnects them again."""
        self._destination.set_nics(ref, connect=True)

    def _mark_leaf(self, ref: VmRef) -> None:
        """From here on it is no recovery point: an undo takes all that follows back."""
        self._destination.set_extra_config(ref, {LEAF_KEY: f"{BOOTED}{self._failover}"})

    def after_heartbeat(self) -> tuple[Effect, ...]:
        if self._job.guest.customize is Customize.SCRIPT:
            return (("addresses by script in replica's guest", self._run_identity_script),)
        if self._job.guest.customize is Customize.SPEC:
            return (("customization of replica's guest", self._wait_customized),)
        return ()

    def _run_identity_script(self) -> None:
        check_script(give_identity(self._destination, self._replica().vm.ref, self._job))

    def _wait_customized(self) -> None:
        wait_customized(self._destination, self._replica().vm.ref)

    def power_off_replica(self) -> None:
        self._destination.power_off(self._replica().vm.ref)

    def replica_answers(self) -> bool:
        return self._destination.read_guest(self._replica().vm.ref).heartbeat == "green"
