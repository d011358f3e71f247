"""Every fault of docs/failover.md on the lab, by the command, with the guest's database as judge.

    begin -> the fault strikes at its moment -> state, exit code, power of both, every point
          -> mended, then `resume` to the end, or `undo`: and no transaction is missing

A guest that does not shut down is what the policy is for: each policy has its own end. Any other
fault ends the same under all of them (tests/failover/test_run.py shows it of every pair); here
CI takes one policy and one way on of each, `-m slow` all. A failback goes through the same faults
under one policy; there `source` is the replica in service, and `replica` the original VM.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vreplica
from tests.support.commands import with_confirmation
from vreplica.cli.app import app
from vreplica.failover import history
from vreplica.failover.failback import FailbackPlan, FailbackPorts
from vreplica.failover.machine import context
from vreplica.failover.machine.journal import load
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.lab.guest.database import disk_reader, inspect_image
from vreplica.points import RecoveryPoint
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.sync.source import snapshot
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk

POLICIES = ("abort", "use-quiesced", "power-off", "wait")


@dataclass
class Scene:
    """A busy guest with one application-consistent point, and the job file of it."""

    world: Any
    vm: str
    hooks: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    committed: int = 0
    """Transactions that the guest's application was told are committed."""
    back: bool = False
    """What follows is a failback."""

    @property
    def file(self) -> Path:
        return self.world.folder / f"{self.vm}.toml"

    @property
    def job(self) -> Job:
        return vreplica.load(self.file)[self.vm]

    @property
    def way(self) -> Job:
        """The job whose points the failover or failback makes."""
        if not self.back:
            return self.job
        plan = FailbackPlan.of_journal(load(history.current(self.job))[0].data)
        return plan.reverse_job(self.job) if plan else self.job

    def site(self, number: int) -> str:
        """0: of the source, 1: of the replica."""
        return str(self.world.sites[number ^ self.back]["name"])

    @property
    def source(self) -> str:
        return f"{self.vm}-replica" if self.back else self.vm

    @property
    def replica(self) -> str:
        return self.vm if self.back else f"{self.vm}-replica"

    @property
    def there(self) -> str:
        return self.site(1)

    def setting(self, line: str) -> None:
        """A line more in the job's table."""
        text = self.file.read_text()
        table = f"[jobs.{self.vm}]\n"
        self.file.write_text(text.replace(table, table + line + "\n"))

    def guest(self, **values: object) -> None:
        self.world.control.set_guest(self.site(0), self.source, **values)

    def work(self, transfers: int = 20) -> None:
        control = self.world.control
        self.committed = control.app_work(self.site(0), self.source, transfers, write_back=0.4)

    def cli(self, *args: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*with_confirmation(*args), "-c", str(self.file)])
        assert "Traceback" not in done.output
        return done.exit_code, done.output

    def begin(self, policy: str, *more: str) -> tuple[int, str]:
        """`failover JOB --final-sync yes`, or `failback`, with short times."""
        times = ["--shutdown-timeout", "2s", "--heartbeat-timeout", "10s"]
        asked = ["--final-sync", "yes", "--on-shutdown-timeout", policy, *times, *more]
        return self.cli("failback" if self.back else "failover", self.vm, "-q", *asked)

    def shown(self) -> dict[str, Any]:
        code, text = self.cli("failover", "show", self.vm, "--json")
        assert code == 0, text
        value: dict[str, Any] = json.loads(text)
        return value

    def on(self) -> tuple[bool, bool]:
        """(source, replica), as the lab itself knows it: also where a vCenter does not answer."""
        found = [
            self.world.control.describe_vm(self.site(0), self.source),
            self.world.control.describe_vm(self.there, self.replica),
        ]
        return found[0]["power"] == "poweredOn", found[1]["power"] == "poweredOn"

    def level_in(self, point: RecoveryPoint, acknowledged: int) -> str:
        """What the database in a recovery point says of itself when it is opened."""
        assert point.snapshot is not None
        path = self.world.point_disks(self.way, point.snapshot)[2000]
        file = self.world.file(1 ^ self.back, path)
        with closing(
            open_vddk_disk(VddkConfig(isolation=False), VddkConnection(), str(file))
        ) as disk:
            return inspect_image(disk_reader(disk)).level(acknowledged)


@pytest.fixture
def scene(world, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(context, "POLL_S", 0.2)
    monkeypatch.setattr(snapshot, "RETRY_DELAY_S", 0.05)
    vm = world.make_vm(20 * MIB, guest_id="windows2019srv_64Guest")
    made = Scene(world, vm)
    # A count of one, so that it is seen what a failover keeps for itself.
    text = (world.folder / "jobs.toml").read_text().replace("web01", vm)
    made.file.write_text(text)
    made.setting("keep = 1")
    hooked(monkeypatch, made.hooks)
    world.power_on(vm)
    world.control.app_start(world.here, vm, seed=7)
    made.work()
    assert made.cli("run", "-q", vm)[0] == 0
    made.work()
    yield made
    mend(made)


@pytest.fixture
def there(scene: Scene) -> Scene:
    """The same, failed over for good, its guest at work at the other site."""
    assert scene.begin("abort", "--commit")[0] == 0
    scene.back = True
    scene.world.control.app_start(scene.site(0), scene.source, seed=8)
    scene.work()
    return scene


def hooked(monkeypatch: pytest.MonkeyPatch, hooks: dict[str, list[Callable[[], None]]]) -> None:
    """What stands in `hooks` under a moment happens at it: the first the first time, and so on."""

    def strike(moment: str) -> None:
        if waiting := hooks.get(moment):
            waiting.pop(0)()

    def wrap(method: str, before: str | None = None, after: str | None = None) -> None:
        owner = FailbackPorts if method == "keep_replica_state" else VSpherePorts
        real = getattr(owner, method)

        def wrapped(self: VSpherePorts, *args: Any) -> Any:
            a = method == "sync" and args[0].endswith("-a")
            if before is not None:
                strike("point A" if a else before)
            result = real(self, *args)
            if after is not None and not a:
                strike(after)
            return result

        monkeypatch.setattr(owner, method, wrapped)

    wrap("keep_replica_state", "freeze")
    wrap("sync", "final sync", "fence")
    wrap("source_can_shut_down", "look")
    wrap("shut_down_source", "request", "shutdown")
    wrap("power_on_replica", "power-on", "boot")


def mend(scene: Scene) -> None:
    """Whatever the fault was, its cause is gone."""
    world = scene.world
    for site in world.sites:
        world.control.clear_faults(site["name"])
        world.control.set_host(site["name"])
        for name in site["datastores"]:
            world.control.set_datastore(site["name"], name, capacity=64 << 30)
    scene.guest(tools="running", shutdown="works", quiesce="works")


# -- a guest that does not shut down: every policy has its own end --------------------------------


@dataclass(frozen=True)
class End:
    state: str
    code: int
    on: tuple[bool, bool]
    point: str | None = None
    level: str | None = None
    pulled: bool = False


ENDS = {
    "abort": End("aborted", 9, (True, False)),
    "use-quiesced": End("running", 0, (False, True), "-a", "application", pulled=True),
    "power-off": End("running", 0, (False, True), "-b", "crash", pulled=True),
    "wait": End("running", 0, (False, True), "-b", "clean-shutdown"),
}


ASKED = End("shutting-down", 9, (True, False))


def hangs(scene: Scene) -> None:
    """The guest goes on working. When it is asked once more, it works."""
    scene.guest(shutdown="hangs")
    scene.hooks["shutdown"] = [scene.work]
    scene.hooks["request"] = [lambda: None, lambda: mend(scene)]


def tools_absent(scene: Scene) -> None:
    """From the first look at them on; at the third they are there again."""
    away = lambda: scene.guest(tools="notRunning")  # noqa: E731
    scene.hooks["look"] = [away, lambda: None, lambda: mend(scene)]


TROUBLES = {"it hangs": hangs, "Tools are absent": tools_absent}


def troubles() -> Iterator[Any]:
    for trouble, policy in product(TROUBLES, POLICIES):
        quick = trouble == "it hangs" or policy in ("abort", "wait")
        yield pytest.param(trouble, policy, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("trouble", "policy"), list(troubles()))
def test_a_guest_that_does_not_shut_down_ends_as_the_policy_says(
    scene: Scene, trouble: str, policy: str
) -> None:
    # Of runs. It keeps no plug from being pulled, and not what was pulled from booting.
    scene.setting('require = "application"')
    before = points(scene.job)
    TROUBLES[trouble](scene)
    end = ENDS[policy]
    if (trouble, policy) == ("it hangs", "abort"):
        end = ASKED  # it may go off yet
    code, said = scene.begin(policy)
    shown = scene.shown()
    assert (code, shown["state"]) == (end.code, end.state), said
    assert scene.on() == end.on
    made = points(scene.job)
    assert [p.id for p in made][: len(before)] == [p.id for p in before]
    a = next(p for p in made if p.id.endswith("-a"))
    for point in (*before, a):
        assert scene.level_in(point, 0) == "application", "it stays bootable"
    steps_done = [e["step"] for e in shown["entries"] if e["kind"] == "call"]
    assert ("PowerOff source" in steps_done) is end.pulled
    scene.hooks.clear()
    mend(scene)
    if end.state == "aborted":
        assert scene.cli("run", "-q", scene.vm)[0] == 0, "the job is on"
        assert scene.begin(policy)[0] == 0
        assert scene.on() == (False, True)
        return
    if end is ASKED:
        assert scene.cli("run", "-q", scene.vm)[0] == 3, "the job stays off"
        scene.world.control.power(scene.world.here, scene.vm, on=False)
        assert scene.cli("undo", scene.vm, "-q")[0] == 0
        assert scene.on() == (True, False)
        return
    assert (shown["point"][-2:], shown["level"]) == (end.point, end.level)
    if policy == "wait":
        # The shutdown finished the transfer that was half done: one transaction more.
        assert scene.level_in(made[-1], scene.committed + 1) == "application"
    assert scene.cli("undo", scene.vm, "-q")[0] == 0
    assert scene.on() == (True, False)
    assert scene.cli("run", "-q", scene.vm)[0] == 0


# -- everything else: the same under every policy -------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """`moment`: when it strikes; None: before the failover begins. What is to be seen then."""

    moment: str | None
    strike: Callable[[Scene], None]
    state: str
    code: int
    on: tuple[bool, bool]
    settings: tuple[str, ...] = ()
    mended: Callable[[Scene], None] = mend


def host_gone(number: int) -> Callable[[Scene], None]:
    return lambda s: s.world.control.set_host(s.site(number), connected=False)


def vcenter_gone(number: int) -> Callable[[Scene], None]:
    return lambda s: s.world.control.add_fault(
        s.site(number), method="*", action="drop", count=None
    )


def vcenter_restarts_at(method: str) -> Callable[[Scene], None]:
    return lambda s: s.world.control.add_fault(s.site(0), method=method, action="restart")


def full(scene: Scene) -> None:
    world, store = scene.world, scene.way.placement.datastore
    with world.connect(1 ^ scene.back) as session:
        (found,) = [d for d in session.datastores() if d.name == store]
    used = found.capacity_bytes - found.free_bytes
    world.control.set_datastore(scene.there, store, capacity=used + MIB // 2)


def changed_outside(scene: Scene) -> None:
    control = scene.world.control
    control.power(scene.there, scene.replica, on=True)
    control.guest_write(scene.there, scene.replica, 2000, 512, b"others".ljust(512, b"."))
    control.power(scene.there, scene.replica, on=False)


def discard(scene: Scene) -> None:
    scene.setting('on_replica_change = "discard"')


def quiesce_fails(scene: Scene) -> None:
    scene.guest(quiesce="applicationFault")


FAULTS = {
    "quiescing fails and is required": Fault(
        None, quiesce_fails, "disabled", 6, (True, False), ('quiesce = "require"',)
    ),
    "datastore full at point A": Fault("point A", full, "disabled", 3, (True, False)),
    "destination host down at point A": Fault(
        "point A", host_gone(1), "disabled", 5, (True, False)
    ),
    "source host gone when it is asked": Fault(
        "request", host_gone(0), "insured", 5, (True, False)
    ),
    "vCenter restarts when it is asked": Fault(
        None, vcenter_restarts_at("ShutdownGuest"), "insured", 5, (True, False)
    ),
    "vCenter gone during the shutdown": Fault(
        "shutdown", vcenter_gone(0), "shutting-down", 5, (False, False)
    ),
    "datastore full at the final sync": Fault("final sync", full, "source-off", 3, (False, False)),
    "replica changed by others": Fault(
        "final sync", changed_outside, "source-off", 3, (False, False), mended=discard
    ),
    "destination host down at the final sync": Fault(
        "final sync", host_gone(1), "source-off", 5, (False, False)
    ),
    "source host gone at the final sync": Fault(
        "final sync", host_gone(0), "source-off", 3, (False, False)
    ),
    "source vCenter gone at the fence": Fault(
        "fence", vcenter_gone(0), "synced", 5, (False, False)
    ),
    "source host gone at the fence": Fault("fence", host_gone(0), "synced", 5, (False, False)),
    "destination host down at the power-on": Fault(
        "power-on", host_gone(1), "fenced", 5, (False, False)
    ),
    "destination vCenter gone while it boots": Fault(
        "boot", vcenter_gone(1), "booting", 5, (False, True)
    ),
}
RESUMED_IN_CI = [
    "vCenter restarts when it is asked",
    "datastore full at the final sync",
    "replica changed by others",
    "destination host down at the power-on",
    "source host gone at the fence",
]


def cases() -> Iterator[Any]:
    for fault, policy, then in product(FAULTS, POLICIES, ("resume", "undo")):
        quick = policy == "abort" and then == ("resume" if fault in RESUMED_IN_CI else "undo")
        marks = () if quick else pytest.mark.slow
        yield pytest.param(fault, policy, then, marks=marks, id=f"{fault}: {policy}, {then}")


@pytest.mark.parametrize(("fault", "policy", "then"), list(cases()))
def test_a_fault_stops_it_as_documented_and_nothing_is_lost(
    scene: Scene, fault: str, policy: str, then: str
) -> None:
    strikes_and_goes_on(scene, FAULTS[fault], policy, then)


FROZEN = {
    "original's vCenter gone when its last state is to be frozen": Fault(
        "freeze", vcenter_gone(1), "ready", 5, (True, False)
    ),
    "original's host down when its last state is to be frozen": Fault(
        "freeze", host_gone(1), "ready", 5, (True, False)
    ),
}
BACK_IN_CI = [("datastore full at the final sync", "resume"), (next(iter(FROZEN)), "undo")]


def cases_back() -> Iterator[Any]:
    for fault, then in product({**FAULTS, **FROZEN}, ("resume", "undo")):
        marks = () if (fault, then) in BACK_IN_CI else pytest.mark.slow
        yield pytest.param(fault, then, marks=marks, id=f"{fault}: {then}")


@pytest.mark.parametrize(("fault", "then"), list(cases_back()))
def test_a_fault_stops_a_failback_in_the_same_way(there: Scene, fault: str, then: str) -> None:
    strikes_and_goes_on(there, {**FAULTS, **FROZEN}[fault], "abort", then)


def strikes_and_goes_on(scene: Scene, expected: Fault, policy: str, then: str) -> None:
    before = () if scene.back else points(scene.job)
    for line in expected.settings:
        scene.setting(line)
    if expected.moment is None:
        expected.strike(scene)
    else:
        scene.hooks[expected.moment] = [lambda: expected.strike(scene)]
    code, said = scene.begin(policy)
    assert not any(scene.hooks.values()), "it struck"
    shown = scene.shown()
    assert (code, shown["state"]) == (expected.code, expected.state), said
    assert "failover resume" in said, "how it goes on is said"
    if expected.state == "shutting-down":
        for _ in range(50):
            if scene.on() == expected.on:
                break
            time.sleep(0.1)
    assert scene.on() == expected.on
    expected.mended(scene)
    mend(scene)
    kept = points(scene.way) if expected.state != "ready" else ()
    assert [p.id for p in kept][: len(before)] == [p.id for p in before], "no point is lost"
    for point in kept:
        assert scene.level_in(point, 0) == "application", f"{point.id} stays bootable"

    assert scene.cli("run", "-q", scene.vm)[0] == 3, "the job is off meanwhile"
    args = ["failover", "resume", scene.vm] if then == "resume" else ["undo", scene.vm]
    code, said = scene.cli(*args, "-q")
    assert code == 0, said
    shown = scene.shown()
    if then == "resume":
        assert (shown["state"], shown["level"]) == ("running", "clean-shutdown")
        assert scene.on() == (False, True)
        final = points(scene.way)[-1]
        # The shutdown finished the transfer that was half done: one transaction more.
        assert scene.level_in(final, scene.committed + 1) == "application"
        calls = [e["step"] for e in shown["entries"] if e["kind"] == "call"]
        assert "PowerOff source" not in calls
        return
    early = expected.state in ("ready", "disabled", "insured") and "ShutdownGuest source" not in [
        e["step"] for e in shown["entries"] if e["kind"] == "intent"
    ]
    assert shown["state"] == ("aborted" if early else "undone")
    assert scene.on() == (True, False)
    done = scene.committed
    scene.work(1)
    assert scene.committed > done, "the source has every transaction, and goes on"
    if scene.back:
        assert scene.cli("run", "-q", scene.vm)[0] == 3, "the replica is in service still"
        code, said = scene.begin(policy)
        assert code == 0, said
        assert scene.level_in(points(scene.way)[-1], scene.committed + 1) == "application"
        return
    assert scene.cli("run", "-q", scene.vm)[0] == 0
    assert scene.level_in(points(scene.job)[-1], scene.committed) == "application"


def test_vcenters_that_restart_while_they_are_only_asked_are_waited_for(scene: Scene) -> None:
    control = scene.world.control
    scene.hooks["shutdown"] = [lambda: control.restart_site(scene.world.here)]
    scene.hooks["boot"] = [lambda: control.restart_site(scene.there)]
    code, said = scene.begin("abort")
    assert code == 0, said
    assert scene.shown()["level"] == "clean-shutdown"
    assert scene.on() == (False, True)


@pytest.mark.parametrize(
    ("fault", "point", "level"),
    [
        ("source vCenter gone at the fence", "-b", "clean-shutdown"),
        pytest.param(
            "source host gone when it is asked", "-a", "application", marks=[pytest.mark.slow]
        ),
        pytest.param(
            "vCenter gone during the shutdown", "-a", "application", marks=[pytest.mark.slow]
        ),
    ],
)
def test_a_source_that_is_gone_for_good_on_the_way_is_gone_on_without(
    scene: Scene, fault: str, point: str, level: str
) -> None:
    expected = FAULTS[fault]
    assert expected.moment is not None
    scene.hooks[expected.moment] = [lambda: expected.strike(scene)]
    assert scene.begin("abort")[0] == expected.code
    assert scene.cli("undo", scene.vm, "-q")[0] == 3, "it could not be started"
    assert scene.shown()["state"] == expected.state
    # What the operator says is true: the host burnt down.
    scene.world.control.host_power_loss(scene.world.here)
    code, said = scene.cli("failover", "resume", scene.vm, "--source-lost", "-q")
    assert code == 0, said
    shown = scene.shown()
    assert (shown["state"], shown["point"][-2:], shown["level"]) == ("running", point, level)
    assert scene.on() == (False, True)
    assert scene.cli("commit", scene.vm, "-q")[0] == 0


def test_a_point_below_what_is_required_is_not_booted(scene: Scene) -> None:
    hangs(scene)
    code, said = scene.begin("power-off", "--require", "application")
    assert (code, scene.shown()["state"]) == (9, "source-off"), said
    assert scene.on() == (False, False)
    assert scene.cli("failover", "resume", scene.vm, "-q")[0] == 9, "it is not higher now"
    mend(scene)
    assert scene.cli("undo", scene.vm, "-q")[0] == 0
    assert scene.on() == (True, False)
    *_, a, b = points(scene.job)
    assert (a.level.value, b.level.value) == ("application", "crash")
    code, said = scene.cli("failover", scene.vm, "--final-sync", "no", "--point", a.id, "-q")
    assert code == 0, said
    assert scene.on() == (False, True)
    assert scene.level_in(a, 0) == "application"


def test_ctrl_c_on_the_way_says_where_it_stands(scene: Scene) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    scene.hooks["final sync"] = [interrupt]
    code, said = scene.cli("failover", scene.vm, "--final-sync", "yes")
    assert code == 130
    assert "is source-off: `vreplica-sync failover resume" in said
    assert scene.on() == (False, False)
    assert scene.cli("failover", "resume", scene.vm, "-q")[0] == 0
    assert scene.on() == (False, True)


def test_what_a_source_wrote_after_the_final_sync_is_not_left_behind(scene: Scene) -> None:
    """Somebody, or HA, started it; it is off again when the replica is to be started."""

    def ran() -> None:
        scene.world.power_on(scene.vm)
        scene.work()
        with scene.world.connect(0) as session:
            ref = session.find_vm(scene.vm)
            session.shutdown_guest(ref)
            session.wait_power(ref, "poweredOff", 20.0)

    scene.hooks["fence"] = [ran]
    code, said = scene.begin("abort")
    assert (code, scene.shown()["state"]) == (9, "synced"), said
    assert "does not have what it wrote then" in said
    assert scene.cli("failover", "resume", scene.vm, "-q")[0] == 9
    assert scene.on() == (False, False)
    assert scene.cli("undo", scene.vm, "-q")[0] == 0
    done = scene.committed
    scene.work(1)
    assert scene.committed > done
    code, said = scene.begin("abort")
    assert code == 0, said
    assert scene.level_in(points(scene.job)[-1], scene.committed + 1) == "application"


def test_what_others_did_to_the_replica_is_never_booted_as_its_point(scene: Scene) -> None:
    control, no = scene.world.control, ("--final-sync", "no", "--heartbeat-timeout", "10s", "-q")
    control.power(scene.there, scene.replica, on=True)
    control.guest_write(scene.there, scene.replica, 2000, 512, b"others".ljust(512, b"."))
    code, said = scene.cli("failover", scene.vm, *no)
    assert (code, "is on, and this failover has not started it" in said) == (3, True), said
    control.power(scene.there, scene.replica, on=False)
    assert "it was powered on at" in scene.cli("failover", scene.vm, "--dry-run")[1]
    code, said = scene.cli("failover", scene.vm, *no)
    assert (code, "was changed by others" in said) == (3, True), said
    assert "resume" not in said, "nothing was begun"
    assert scene.on() == (True, False)
    assert scene.cli("failover", "list", scene.vm)[1].count("fo-") == 0
    discard(scene)
    code, said = scene.cli("failover", scene.vm, *no)
    assert code == 0, said
    assert scene.on() == (False, True)
    assert control.guest_read(scene.there, scene.replica, 2000, 512, 512)[:6] != b"others"


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_a_source_that_somebody_starts_keeps_the_replica_off(scene: Scene, policy: str) -> None:
    scene.hooks["fence"] = [lambda: scene.world.power_on(scene.vm)]
    code, said = scene.begin(policy)
    assert (code, scene.shown()["state"]) == (9, "synced"), said
    assert scene.cli("failover", "resume", scene.vm, "-q")[0] == 9
    assert scene.on() == (True, False)
    done = scene.committed
    scene.work()
    assert scene.cli("undo", scene.vm, "-q")[0] == 0
    assert scene.on() == (True, False)
    scene.work(1)
    assert scene.committed > done
    assert scene.cli("run", "-q", scene.vm)[0] == 0
    assert scene.level_in(points(scene.job)[-1], scene.committed) == "application"
