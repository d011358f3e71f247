"""Parses the changeId of a snapshot's disk: the mark from which changed areas can be read.

    52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81
    generation of the tracking                      number, opaque

Changes can be read between two changeIds of one generation only.
"""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.vsphere.errors import ChangeIdInvalid

ALL_IN_USE = "*"
"""This changeId asks for all areas in use instead of changes."""


@dataclass(frozen=True, slots=True)
class ChangeId:
    """The two parts of `<uuid>/<n>`."""

    generation: str
    number: str

    @classmethod
    def parse(cls, text: str) -> ChangeId:
        """Splits at the slash. Raises ChangeIdInvalid where there are not two parts."""
        generation, slash, number = text.rpartition("/")
        if not (generation.strip() and slash and number.strip()):
            raise ChangeIdInvalid(text, "it does not have the form uuid/number")
        return cls(generation_of(text), number.strip())

    def __str__(self) -> str:
        return f"{self.generation}/{self.number}"


def generation_of(change_id: str) -> str:
    """Returns the generation in one spelling; empty where the form is not uuid/number."""
    return " ".join(change_id.rpartition("/")[0].lower().split())
