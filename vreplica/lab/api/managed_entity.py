"""The base of all objects in the inventory: name, parent, status, tasks, custom attributes."""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.managed import Managed, live, vmodl_class
from vreplica.lab.api.names import entity_name, named
from vreplica.lab.api.vmodl import fault, invalid_argument, vim

TASKS_RECENT = 20


class ManagedEntity(Managed, vim.ManagedEntity):
    """An object of the inventory."""

    name: Any
    parent: Any
    overallStatus: Any = "green"
    configStatus: Any = "green"
    alarmActionsEnabled = True
    effectiveRole: Any = (-1,)

    @live
    def recentTask(self) -> Any:
        return [t for t in self._site.tasks.all[-200:] if t.entity is self][-TASKS_RECENT:]

    @live
    def availableField(self) -> Any:
        kind = vmodl_class(type(self))
        fields = self._site.content.customFieldsManager.field
        return [f for f in fields if f.managedObjectType in (None, kind)]

    def setCustomValue(self, key: str, value: str) -> None:
        found = next((f for f in self.availableField if f.name == key), None)
        if found is None:
            raise invalid_argument("key")
        self.store_value(found.key, value)

    def store_value(self, key: int, value: str) -> None:
        made = vim.CustomFieldsManager.StringValue(key=key, value=value)
        kept = [v for v in self.customValue if v.key != key]
        self.set(customValue=[*kept, made], value=[*kept, made])

    def Rename_Task(self, newName: str) -> None:
        name = entity_name(newName)
        self.require_unique(name)
        self.name = name

    @property
    def above(self) -> Any:
        """What it is in: its parent, but for vApps and the VMs in them."""
        return self.parent

    def siblings(self) -> Any:
        """The objects among which its name is the only one, itself among them."""
        return getattr(self.above, "childEntity", None) or ()

    def require_unique(self, name: str) -> None:
        """Raises DuplicateName where another object in the same folder has the name."""
        taken = named((c for c in self.siblings() if c is not self), name)
        if taken is not None:
            raise duplicate_name(name, taken)

    def RefreshStorageInfo(self) -> None:
        self.touch()

    def Reload(self) -> None:
        self.touch()


def duplicate_name(name: str, item: Any) -> Any:
    """The fault DuplicateName, to be raised: `item` has the name."""
    return fault(
        vim.fault.DuplicateName, f"The name '{name}' already exists.", name=name, object=item
    )
