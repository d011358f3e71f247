"""Block-level replication of VMware VMs for disaster recovery.

    config = vreplica.load("vreplica.toml")
    report = vreplica.run(config["web01"])
    outcome = vreplica.fail_over(config["web01"])
    states = vreplica.status(config)

The public API is what `__all__` names; it is loaded on first use, so that a helper process
that needs one small part does not pay for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreplica.lazy import on_first_use
from vreplica.version import __version__

if TYPE_CHECKING:
    from vreplica.config import Config, load
    from vreplica.errors import VReplicaError
    from vreplica.extents import Extents
    from vreplica.failover.machine.choices import FailoverChoices
    from vreplica.failover.operations import commit, fail_back, fail_over, undo
    from vreplica.failover.operations import resume as resume_failover
    from vreplica.points import RecoveryPoint
    from vreplica.service.status import JobStatus, status
    from vreplica.sync.cycle import run
    from vreplica.sync.job import Job
    from vreplica.sync.plan.plan import plan
    from vreplica.sync.recovery_points import points as recovery_points
    from vreplica.sync.replica.seed import seed
    from vreplica.sync.report import Plan, RunReport, VerifyReport
    from vreplica.sync.verify.verify import verify

__all__ = [
    "Config",
    "Extents",
    "FailoverChoices",
    "Job",
    "JobStatus",
    "Plan",
    "RecoveryPoint",
    "RunReport",
    "VReplicaError",
    "VerifyReport",
    "__version__",
    "commit",
    "fail_back",
    "fail_over",
    "load",
    "plan",
    "recovery_points",
    "resume_failover",
    "run",
    "seed",
    "status",
    "undo",
    "verify",
]

__getattr__ = on_first_use(
    __name__,
    {
        "errors": ["VReplicaError"],
        "extents": ["Extents"],
        "config": ["Config", "load"],
        "failover.machine.choices": ["FailoverChoices"],
        "failover.operations": [
            "commit",
            "fail_back",
            "fail_over",
            # A run can be resumed as well.
            "resume as resume_failover",
            "undo",
        ],
        "points": ["RecoveryPoint"],
        "service.status": ["JobStatus", "status"],
        "sync.cycle": ["run"],
        "sync.job": ["Job"],
        "sync.plan.plan": ["plan"],
        "sync.replica.seed": ["seed"],
        # `points` is the name of a part already.
        "sync.recovery_points": ["points as recovery_points"],
        "sync.report": ["Plan", "RunReport", "VerifyReport"],
        "sync.verify.verify": ["verify"],
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
