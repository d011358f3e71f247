"""Block-level replication of VMware VMs for disaster recovery.

    config = vreplica.load("vreplica.toml")
    report = vreplica.run(config["web01"])

The public API is what `__all__` names; it is loaded on first use, so that a helper process
that needs one small part does not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vreplica.errors import VReplicaError
    from vreplica.extents import Extents
    from vreplica.jobs import Config, load
    from vreplica.points import RecoveryPoint
    from vreplica.sync import Job, Plan, RunReport, VerifyReport, run
    from vreplica.sync import points as recovery_points
    from vreplica.sync.plan import plan
    from vreplica.sync.verify import verify

__version__ = "0.1.0.dev0"

_EXPORTS: dict[str, str] = {
    "Config": "vreplica.jobs:Config",
    "Extents": "vreplica.extents:Extents",
    "Job": "vreplica.sync:Job",
    "Plan": "vreplica.sync:Plan",
    "RecoveryPoint": "vreplica.points:RecoveryPoint",
    "RunReport": "vreplica.sync:RunReport",
    "VReplicaError": "vreplica.errors:VReplicaError",
    "VerifyReport": "vreplica.sync:VerifyReport",
    "load": "vreplica.jobs:load",
    "plan": "vreplica.sync:plan",
    # `points` is the name of a part already.
    "recovery_points": "vreplica.sync:points",
    "run": "vreplica.sync:run",
    "verify": "vreplica.sync:verify",
}

__all__ = [
    "Config",
    "Extents",
    "Job",
    "Plan",
    "RecoveryPoint",
    "RunReport",
    "VReplicaError",
    "VerifyReport",
    "__version__",
    "load",
    "plan",
    "recovery_points",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module, _, attribute = _EXPORTS[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
