"""The errors of a test failover: what it refuses before anything is made."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.failover.machine.errors import FailoverError


@dataclass(eq=False)
class TestFailoverRefused(FailoverError):
    """A test failover was refused. Nothing was made."""

    exit_code = 3


@dataclass(eq=False)
class NoRoomForTest(TestFailoverRefused):
    template = "datastore {datastore} has {free} free; copies of the point may need {needed}"
    remedy = (
        "Free some space on it. Or use a vCenter as the destination's site: it clones a point "
        "without copying it."
    )
    datastore: str
    free: str
    needed: str


@dataclass(eq=False)
class VmInTheWay(TestFailoverRefused):
    template = "a VM named {vm} exists already"
    remedy = (
        "If it is a test VM that was kept, `vreplica-sync test-failover {job} --clean` removes it. "
        "Otherwise rename it."
    )
    job: str
    vm: str


@dataclass(eq=False)
class ProductionNetwork(TestFailoverRefused):
    template = "network {network} is a network of the replica of {job} itself"
    remedy = (
        "Choose an isolated network (`test_network` in the job file, or --network). On this one "
        "the test VM could answer in place of the real VM. --force allows it."
    )
    network: str
    job: str


@dataclass(eq=False)
class NoGuestLogin(TestFailoverRefused):
    template = "job {job} has no login for its guest, and a script needs one"
    remedy = "Give [jobs.{job}.guest] the user and the password of an account in the guest."
    job: str
