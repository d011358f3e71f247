"""Loads modules and names on first use.

    __getattr__ = on_first_use(__name__, {"sync": ["run", "points as recovery_points"]})
    vim: Any = LoadedOnUse("pyVmomi", "vim")

A program that needs one small part, such as a helper process, does not pay for the rest. Type
checkers find the names through the same imports under `TYPE_CHECKING`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def on_first_use(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Returns the package's `__getattr__` (PEP 562).

    homes: modules below the package, each with the names that it defines.
    """
    home_of: dict[str, tuple[str, str]] = {}
    for module, names in homes.items():
        for name in names:
            attribute, _, known_as = name.partition(" as ")
            home_of[known_as or attribute] = f"{package}.{module}", attribute

    def load(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = home_of[name]
        return getattr(import_module(module), attribute)

    return load


class LoadedOnUse:
    """Stands for a module, or for one attribute of it, and loads it when it is first used."""

    def __init__(self, module: str, attribute: str = "") -> None:
        self._module = module
        self._attribute = attribute

    def __getattr__(self, name: str) -> Any:
        # Only names that are not found come here; so this one is kept.
        found = import_module(self._module)
        value = getattr(getattr(found, self._attribute) if self._attribute else found, name)
        setattr(self, name, value)
        return value
