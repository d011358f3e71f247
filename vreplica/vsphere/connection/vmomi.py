"""Gives access to pyVmomi: its namespaces as `Any`, and helpers that need its private names.

pyVmomi makes its classes at run time from tables. Its stubs say `list` for typed arrays and `str`
for enums, so checking against them proves nothing. All that is read becomes the frozen values of
`model` at once.

pyVmomi is loaded by the first connection. A module must not read an attribute of `vim` or `vmodl`
while it is imported: a table of classes is a cached function.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from vreplica.lazy import LoadedOnUse

pyvmomi: Final[Any] = LoadedOnUse("pyVmomi")
vim: Final[Any] = LoadedOnUse("pyVmomi", "vim")
vmodl: Final[Any] = LoadedOnUse("pyVmomi", "vmodl")
support: Final[Any] = LoadedOnUse("pyVmomi.VmomiSupport")


def moref(managed: Any) -> str:
    """Returns the id of a managed object, as `vm-12`. pyVmomi has no public name for it."""
    return str(managed._GetMoId())  # noqa: SLF001


def utc(moment: datetime) -> datetime:
    """Returns a time in UTC, without pyVmomi's own zone class, which cannot be pickled."""
    return moment.astimezone(UTC)


def wire_name(fault: Any) -> str:
    """Returns a fault's name in the API: `vim.fault.NoDiskSpace` -> `NoDiskSpace`."""
    return type(fault).__name__.rpartition(".")[2]
