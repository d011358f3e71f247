"""One replication cycle of one VM, end to end, and the questions around it.

check(job)  what a run needs, tried (changes nothing)
plan(job)   what the next run would do, and why          (changes nothing)
run(job)    one cycle: ends with a new recovery point, or with the replica as it was
points(job) the recovery points, read from the destination itself
verify(job) compares a recovery point with the source, block by block
"""

from vreplica.sync.check import CheckReport, Finding, check
from vreplica.sync.cycle import run
from vreplica.sync.events import Event, Listener, Progress, Step, Warn
from vreplica.sync.job import Job, OnCbtLoss, OnReplicaChange, Placement, QuiescePolicy, Transport
from vreplica.sync.plan import plan
from vreplica.sync.report import DiskPlan, DiskRun, DiskVerify, Mode, Plan, RunReport, VerifyReport
from vreplica.sync.state import points
from vreplica.sync.verify import verify

__all__ = [
    "CheckReport",
    "DiskPlan",
    "DiskRun",
    "DiskVerify",
    "Event",
    "Finding",
    "Job",
    "Listener",
    "Mode",
    "OnCbtLoss",
    "OnReplicaChange",
    "Placement",
    "Plan",
    "Progress",
    "QuiescePolicy",
    "RunReport",
    "Step",
    "Transport",
    "VerifyReport",
    "Warn",
    "check",
    "plan",
    "points",
    "run",
    "verify",
]
