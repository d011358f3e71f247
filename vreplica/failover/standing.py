"""Says where a job's VM is in service, and where its failovers stand, by the sites' names. Pure.

source-off, synced, fenced   off at both sites
booting ... committed        at the site to which it was moved
anything else                at the site from which it is moved

failover  fo-...   from the source's site to the destination's
failback  fb-...   the other way
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BOOTED: Final = "booted"
"""The state of a failover of which no more is known than a mark on the replica."""
ARRIVED: Final = frozenset({"booting", "running", BOOTED, "committing", "committed"})
"""States in which the VM was powered on at its new site."""
OFF_AT_BOTH: Final = frozenset({"source-off", "synced", "fenced"})
ENDED: Final = frozenset({"committed", "undone", "aborted"})

_UNDER_WAY: Final = {
    "ready": "begins",
    "disabled": "schedule switched off",
    "insured": "safety point made",
    "shutting-down": "guest asked to shut down",
    "source-off": "off at {here}",
    "synced": "off at {here}, point chosen",
    "fenced": "confirmed off at {here}",
    "keeping": "going back to {here}, what was written is kept first",
    "undoing": "being put back to {here}",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A failover or failback, as far as it is known. `state`: a value of `FailoverState`."""

    id: str
    state: str

    @property
    def back(self) -> bool:
        """It is a failback."""
        return self.id.startswith("fb-")

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Sides:
    """The names of a job's two sites."""

    source: str
    destination: str


def current(known: Sequence[Standing]) -> Standing | None:
    """The one that says where the VM is: the newest that has not ended, else the last committed.

    `known`: oldest first. None: the VM is at the source's site.
    """
    under_way = [one for one in known if not one.ended]
    committed = [one for one in known if one.state == "committed"]
    return next(reversed(under_way or committed), None)


def site_of(one: Standing | None, sides: Sides) -> str | None:
    """The site at which the VM is in service; None: off at both, or being put back."""
    if one is None:
        return sides.source
    if one.state in OFF_AT_BOTH or one.state in ("keeping", "undoing"):
        return None
    here, there = _ends(one, sides)
    return there if one.state in ARRIVED else here


def in_words(one: Standing, sides: Sides) -> str:
    """`in service at dr (not committed), fo-...`; `moving to dr: safety point made, fo-...`"""
    here, there = _ends(one, sides)
    verb = "back at" if one.back else "in service at"
    match one.state:
        case "booting":
            return f"starting at {there}, {one.id}"
        case "running":
            return f"{verb} {there} (not committed), {one.id}"
        case "booted":
            return f"{verb} {there} (its journal is not known here), {one.id}"
        case "committing":
            return f"{verb} {there} (commit under way), {one.id}"
        case "committed":
            kind = "failback" if one.back else "failover"
            return f"{verb} {there} ({kind} committed), {one.id}"
        case "undone":
            return f"put back to {here}, {one.id}"
        case "aborted":
            return f"given up, at {here}, {one.id}"
    said = _UNDER_WAY.get(one.state, one.state).format(here=here, there=there)
    return f"moving {'back ' if one.back else ''}to {there}: {said}, {one.id}"


def _ends(one: Standing, sides: Sides) -> tuple[str, str]:
    """The sites from which and to which it moves the VM."""
    return (sides.destination, sides.source) if one.back else (sides.source, sides.destination)
