"""Block-level replication of VMware VMs for disaster recovery.

The public API is what `__all__` names; it is loaded on first use, so that a helper process
that needs one small part does not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0.dev0"

_EXPORTS: dict[str, str] = {
    "Extents": "vreplica.extents",
    "VReplicaError": "vreplica.errors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
