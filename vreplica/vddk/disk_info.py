"""The library's information about an open disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class VddkDiskInfo:
    """Information from GetInfo. Geometries are (cylinders, heads, sectors).

    links: length of the chain, 1 for a base disk. parent_hint: None for a base disk.
    Sector sizes are None from libraries before 7.0.
    """

    capacity_sectors: int
    adapter: int
    links: int
    parent_hint: str | None
    uuid: str | None
    bios_geometry: tuple[int, int, int]
    physical_geometry: tuple[int, int, int]
    logical_sector_size: int | None
    physical_sector_size: int | None

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Self:
        geometry = {k: tuple(values[k]) for k in ("bios_geometry", "physical_geometry")}
        return cls(**{**values, **geometry})
