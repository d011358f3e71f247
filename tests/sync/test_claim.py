"""One writer of a replica: who may take the claim, and what a writer finds that has lost it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.vms import make_vm
from vreplica.points.vm_keys import CLAIM_KEY
from vreplica.sync.claim import held_claim, process
from vreplica.sync.claim.claim import LEASE_S, Claim, ClaimKind
from vreplica.sync.claim.held_claim import (
    Claimant,
    HeldClaim,
    claim_now,
    release_of_failover,
    take_claim,
)
from vreplica.sync.claim.process import is_gone, this_process
from vreplica.sync.errors import (
    ClaimLost,
    ReplicaChangedMeanwhile,
    ReplicaClaimed,
    ReplicaInFailover,
)
from vreplica.vsphere.errors import ConfigurationChanged, OutcomeUnknown, VmNotFound
from vreplica.vsphere.model import SnapshotInfo, VmInfo, VmOptions, VmRef

REF = VmRef("vm-1", "web-replica")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Destination:
    """A site with one VM."""

    def __init__(self) -> None:
        self.now = START
        self.extra: dict[str, str] = {}
        self.version = 1
        self.current: str | None = "snapshot-1"
        self.files = {2000: "[ds] a.vmdk"}
        self.before_write: Callable[[], None] = lambda: None
        self.reply_is_lost = False

    def server_time(self) -> datetime:
        return self.now

    def find_vm(self, name: str) -> VmRef:
        if name != REF.name:
            raise VmNotFound("site", name)
        return REF

    def read_vm(self, ref: VmRef) -> VmInfo:
        return make_vm(ref, extra_config=dict(self.extra), change_version=str(self.version))

    def read_options(self, ref: VmRef) -> VmOptions:
        return VmOptions(str(self.version), dict(self.extra), self.current, dict(self.files))

    def set_extra_config(
        self, ref: VmRef, values: Mapping[str, str], *, change_version: str | None = None
    ) -> None:
        act, self.before_write = self.before_write, lambda: None
        act()
        if change_version not in (None, str(self.version)):
            raise ConfigurationChanged("writing the VM's options")
        self.extra = {k: v for k, v in {**self.extra, **values}.items() if v}
        self.version += 1
        if self.reply_is_lost:
            raise OutcomeUnknown("site", 443, "connection reset", "writing the VM's options")

    def someone_writes(self, values: Mapping[str, str]) -> None:
        self.extra.update(values)
        self.version += 1


@pytest.fixture
def there() -> Iterator[Any]:
    yield Destination()
    held_claim._held.clear()


def claimant(owner: str, kind: ClaimKind = ClaimKind.RUN, **more: Any) -> Claimant:
    return Claimant("web", owner, kind, more.pop("run", owner), **more)


def take(there: Any, owner: str, **more: Any) -> HeldClaim:
    return claim_now(there, REF, claimant(owner, **more)).held


def elsewhere(there: Any, owner: str, kind: ClaimKind = ClaimKind.RUN) -> Claim:
    """A claim of another machine, as it stands on the replica."""
    made = Claim.new(owner, kind, run=owner, epoch=3, now=there.now)
    made = replace(made, host="mover2", process="other/4026/1/2")
    there.someone_writes(made.option)
    return made


# -- who may take it ----------------------------------------------------------------------------


def test_a_free_replica_is_claimed_and_given_back(there: Any) -> None:
    held = take(there, "r1")
    assert Claim.of(there.extra) == held.claim
    assert held.claim.run == held.claim.owner == "r1"
    held.check()
    held.release({"vreplica.leaf": ""})
    assert CLAIM_KEY not in there.extra
    take(there, "r2").check()


def test_of_two_that_read_the_same_state_one_gets_it(there: Any) -> None:
    seen = there.read_vm(REF)
    take_claim(there, seen, claimant("r1"))
    with pytest.raises(ConfigurationChanged):
        take_claim(there, seen, claimant("r2"))
    assert Claim.of(there.extra).owner == "r1"  # type: ignore[union-attr]


def test_the_refusal_names_the_owner(there: Any) -> None:
    elsewhere(there, "r1")
    with pytest.raises(ReplicaClaimed) as caught:
        take(there, "r2")
    assert caught.value.exit_code == 3
    for word in ("run r1", "mover2", "2026-01-01T00:00:00"):
        assert word in str(caught.value)
    assert "--take-over" in caught.value.advice()


def test_a_claim_that_is_not_renewed_ends(there: Any) -> None:
    before = elsewhere(there, "r1")
    there.now += timedelta(seconds=LEASE_S)
    with pytest.raises(ReplicaClaimed):
        take(there, "r2")
    there.now += timedelta(seconds=1)
    taken = claim_now(there, REF, claimant("r2"))
    assert taken.before == before
    assert taken.held.claim.epoch == before.epoch + 1
    assert "not renewed for 10 minutes" in taken.text


def test_a_clock_that_was_put_back_ends_no_claim(there: Any) -> None:
    elsewhere(there, "r1")
    there.now -= timedelta(days=1)
    with pytest.raises(ReplicaClaimed):
        take(there, "r2")


def test_an_operator_may_take_it(there: Any) -> None:
    elsewhere(there, "r1")
    taken = claim_now(there, REF, claimant("r2", take_over=True))
    assert "the operator said so" in taken.text


def test_a_process_that_is_gone_has_nothing(there: Any) -> None:
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vreplica.sync.claim.process import this_process; print(this_process())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    made = Claim.new("r1", ClaimKind.RUN, run="r1", epoch=1, now=there.now)
    there.someone_writes(replace(made, process=child).option)
    assert "its process is gone" in claim_now(there, REF, claimant("r2")).text


def test_an_earlier_run_of_this_process_has_nothing_once_it_has_ended(there: Any) -> None:
    held = take(there, "r1")
    with pytest.raises(ReplicaClaimed):
        take(there, "r2")
    held.forget()
    assert "its run has ended" in claim_now(there, REF, claimant("r2")).text


def test_a_failover_keeps_its_claim_until_it_ends(there: Any) -> None:
    elsewhere(there, "fo-1", ClaimKind.FAILOVER)
    there.now += timedelta(days=30)
    with pytest.raises(ReplicaInFailover) as caught:
        take(there, "r1")
    assert "vreplica-sync undo web" in caught.value.advice()
    # A run of the failover itself.
    held = take(there, "fo-1", kind=ClaimKind.FAILOVER, run="r1")
    assert (held.claim.owner, held.claim.run) == ("fo-1", "r1")
    release_of_failover(there, REF.name, claimant("fo-2"))
    held.check()
    release_of_failover(there, REF.name, claimant("fo-1"))
    assert CLAIM_KEY not in there.extra
    release_of_failover(there, "no such VM", claimant("fo-1"))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{}",
        "null",
        "[" * 10000,
        '{"v": 1, "owner": 7}',
        json.dumps({"v": 1, "owner": "r", "epoch": "many"}),
    ],
)
def test_what_is_no_claim_keeps_nobody_out(there: Any, text: str) -> None:
    there.someone_writes({CLAIM_KEY: text})
    take(there, "r1").check()


@pytest.mark.parametrize(
    ("field", "value"),
    [("renewed", "soon"), ("renewed", "9999-12-31T23:59:59"), ("process", "///"), ("kind", "x")],
)
def test_odd_values_keep_others_out_and_break_nothing(there: Any, field: str, value: str) -> None:
    made = replace(elsewhere(there, "r1"), **{field: value})
    there.someone_writes(made.option)
    with pytest.raises(ReplicaClaimed):
        take(there, "r2")
    take(there, "r2", take_over=True)


def test_a_newer_version_s_claim_is_heeded(there: Any) -> None:
    value = json.loads(elsewhere(there, "r1").option[CLAIM_KEY])
    there.someone_writes({CLAIM_KEY: json.dumps({**value, "v": 2, "more": {}})})
    with pytest.raises(ReplicaClaimed):
        take(there, "r2")


# -- what its owner finds -----------------------------------------------------------------------


def test_who_lost_it_can_do_nothing_more(there: Any) -> None:
    held = take(there, "r1")
    held.check()
    elsewhere(there, "r2")
    with pytest.raises(ClaimLost) as caught:
        held.write({"vreplica.point": "{}"})
    assert "run r2" in str(caught.value)
    assert "mover2" in str(caught.value)
    with pytest.raises(ClaimLost):
        held.raise_if_lost()
    held.release({"vreplica.leaf": "x"})
    assert Claim.of(there.extra).owner == "r2"  # type: ignore[union-attr]
    assert "vreplica.leaf" not in there.extra


def test_a_claim_that_somebody_removed_is_lost(there: Any) -> None:
    held = take(there, "r1")
    there.someone_writes({CLAIM_KEY: ""})
    with pytest.raises(ClaimLost, match="nobody"):
        held.check()


def test_changes_of_others_that_leave_the_claim_do_no_harm(there: Any) -> None:
    held = take(there, "r1")
    there.before_write = lambda: there.someone_writes({"guestinfo.x": "1"})
    held.write({"vreplica.point": "{}"})
    assert there.extra["vreplica.point"] == "{}"
    there.before_write = lambda: elsewhere(there, "r2")
    with pytest.raises(ClaimLost):
        held.write({"vreplica.point": "[]"})
    assert there.extra["vreplica.point"] == "{}"


def test_another_snapshot_or_disk_file_is_seen(there: Any) -> None:
    held = take(there, "r1")
    held._stands = (there.current, dict(there.files))
    held.check()
    there.current = "snapshot-2"
    with pytest.raises(ReplicaChangedMeanwhile, match="snapshot"):
        held.check()
    there.current, there.files = "snapshot-1", {2000: "[ds] b.vmdk"}
    with pytest.raises(ReplicaChangedMeanwhile, match="other files"):
        held.write({"vreplica.point": "{}"})


def test_a_frozen_claim_of_another_is_seen(there: Any) -> None:
    held = take(there, "r1")
    held._stands = ("snapshot-1", {})
    now = SnapshotInfo("snapshot-2", "r1", "", "snapshot-1", START, False, None, (), there.extra)
    held.check_snapshot(now)
    elsewhere(there, "r2")
    with pytest.raises(ReplicaChangedMeanwhile):
        held.check_snapshot(replace(now, extra_config=dict(there.extra)))
    with pytest.raises(ReplicaChangedMeanwhile):
        held.check_snapshot(replace(now, parent="snapshot-0"))


def test_renewing_tells_the_time_and_keeps_the_token(there: Any) -> None:
    held = take(there, "r1")
    token = held.claim.token
    there.now += timedelta(minutes=9)
    held.renew()
    found = Claim.of(there.extra)
    assert found is not None
    assert (found.token, found.idle_s(there.now)) == (token, 0)
    held.check()


def test_after_a_revert_it_is_claimed_again(there: Any) -> None:
    frozen = elsewhere(there, "r0").option
    there.someone_writes({CLAIM_KEY: ""})
    held = take(there, "r1")
    with held.reverting(frozen):
        there.someone_writes(frozen)
        held.write({"vreplica.reverted": "now"}, place=False)
    held.check()
    assert there.extra["vreplica.reverted"] == "now"
    assert Claim.of(there.extra) == held.claim
    with held.reverting(frozen):
        there.someone_writes(frozen)
        elsewhere(there, "r2")
        with pytest.raises(ClaimLost):
            held.write({}, place=False)


def test_a_revert_whose_answer_was_lost_loses_no_claim(there: Any) -> None:
    frozen = elsewhere(there, "r0").option
    there.someone_writes({CLAIM_KEY: ""})
    held = take(there, "r1")
    with suppress(ConnectionError), held.reverting(frozen):
        there.someone_writes(frozen)
        raise ConnectionError
    held.check()
    held.release({"mark": "of the end"})
    assert (Claim.of(there.extra), there.extra["mark"]) == (None, "of the end")
    # After a revert that was answered, the older claim is another writer's.
    held = take(there, "r2")
    with held.reverting(frozen):
        held.write({}, place=False)
    there.someone_writes(frozen)
    with pytest.raises(ClaimLost):
        held.check()


def test_a_lost_reply_is_looked_up(there: Any) -> None:
    there.reply_is_lost = True
    held = take_claim(there, there.read_vm(REF), claimant("r1")).held
    there.reply_is_lost = False
    held.check()


# -- processes ----------------------------------------------------------------------------------


def test_this_process_is_alive_and_its_name_is_its_own() -> None:
    assert this_process()
    assert not is_gone(this_process())
    assert f"/{os.getpid()}/" in this_process()


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("", False),
        ("/", False),
        ("other-boot/1/1/1", False),
        ("{space}/{pid}/1", True),
        ("{space}/999999999/1", True),
        ("{space}/../1", False),
        ("{space}/x/1", False),
    ],
)
def test_only_what_can_be_known_is_said(name: str, gone: bool) -> None:
    space = this_process().rsplit("/", 2)[0]
    assert is_gone(name.format(space=space, pid=os.getpid())) is gone


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert process._start_of(child.pid) == ""
    finally:
        child.wait()
