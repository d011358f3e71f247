"""The changeId that a snapshot's disk has: the mark from which changed areas can be asked for.

52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81
generation of the tracking                      number, opaque
"""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.vsphere.errors import CbtNotActive, ChangeIdInvalid
from vreplica.vsphere.model import VmDisk

ALL_IN_USE = "*"
"""The changeId that asks for all areas in use instead of changes."""


@dataclass(frozen=True, slots=True)
class ChangeId:
    """`<uuid>/<n>`: the uuid is the generation of the tracking, the number is opaque."""

    generation: str
    number: str

    @classmethod
    def parse(cls, text: str) -> ChangeId:
        """Raises ChangeIdInvalid for anything else than two parts around a slash."""
        generation, slash, number = text.rpartition("/")
        if not (generation.strip() and slash and number.strip()):
            raise ChangeIdInvalid(text, "it does not have the form uuid/number")
        return cls(generation_of(text), number.strip())

    def __str__(self) -> str:
        return f"{self.generation}/{self.number}"


def generation_of(change_id: str) -> str:
    """The tracking generation of a changeId; empty where it does not have the form uuid/number."""
    return " ".join(change_id.rpartition("/")[0].lower().split())


def same_generation(earlier: str, later: str) -> bool:
    """Whether changes since `earlier` can be asked for: tracking did not start anew between."""
    return ChangeId.parse(earlier).generation == ChangeId.parse(later).generation


def require_change_id(disk: VmDisk) -> str:
    """The changeId of a snapshot's disk; raises CbtNotActive where tracking wrote none."""
    if not disk.change_id:
        raise CbtNotActive("the snapshot's disk has no changeId").at(disk=disk.label)
    return disk.change_id
