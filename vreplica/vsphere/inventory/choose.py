"""Chooses an object by what a job says: its name, the end of its inventory path, or its moref.

An error lists the choices as `path (moref)`; each part of that, and the whole, can be given back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from vreplica.vsphere.connection.collector import FoundObject
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.inventory.tree import InventoryTree
from vreplica.vsphere.names import is_path_end, same_name

_CHOICE: Final = re.compile(r".* \(([\w.-]+)\)")


def matching(
    tree: InventoryTree, wanted: str, candidates: Iterable[FoundObject]
) -> list[FoundObject]:
    """Returns the candidates that `wanted` stands for: by name, else by moref, else by path."""
    candidates, wanted = list(candidates), wanted.strip()
    if choice := _CHOICE.fullmatch(wanted):
        by_choice = [f for f in candidates if f.moref == choice[1]]
        if by_choice:
            return by_choice
    return (
        [f for f in candidates if same_name(tree.name(f), wanted)]
        or [f for f in candidates if f.moref == wanted]
        or [f for f in candidates if is_path_end(wanted, tree.path(f))]
    )


def the_one(
    server: str, tree: InventoryTree, kind: str, wanted: str, candidates: Sequence[FoundObject]
) -> FoundObject:
    """Returns the one candidate that `wanted` stands for.

    Raises PlacementNotFound, PlacementAmbiguous.
    """
    hits = matching(tree, wanted, candidates)
    if not hits:
        names = sorted({tree.name(f) for f in candidates})
        raise PlacementNotFound(server, kind, wanted, tuple(names))
    if len(hits) > 1:
        kind = f"{kind.removesuffix(' called')} called {wanted}"
        raise ambiguous(server, tree, kind, hits)
    return hits[0]


def ambiguous(
    server: str, tree: InventoryTree, kind: str, hits: Iterable[FoundObject]
) -> PlacementAmbiguous:
    paths = tuple(f"{tree.path(f)} ({f.moref})" for f in hits)
    return PlacementAmbiguous(server, kind, paths)
