"""Which module may import which, walked over the real imports (docs/architecture.md draws it).

Imports inside functions and under TYPE_CHECKING count like all others. Four rules:

1. Packages stand in layers (`LAYERS`). A module imports its own package and packages of lower
   layers. Only the command imports the lab. The face of the library, `vreplica/__init__.py`,
   names something of every layer and stands above all that it names.
2. Inside a package, sub-packages stand in rows (`ROWS`, the lowest first). A sub-package imports
   sub-packages of lower rows, and modules of its parent that stand lower. A module of the parent
   stands above the highest row that it reaches by its imports, directly or through other modules
   of the parent; one that reaches no sub-package stands below all of them.
3. Sub-packages in `SEES` import fewer packages than their own package may.
4. Modules do not import each other in a circle, however long the way round is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vreplica

ROOT = Path(vreplica.__file__).parent

LAYERS: list[set[str]] = [
    {
        "units",
        "clocks",
        "hours",
        "disk_errors",
        "errors",
        "extents",
        "files",
        "formats",
        "printable",
        "stored",
        "lazy",
        "limited_http",
        "limited_stream",
        "redact",
        "disk",
        "version",
    },
    {"vddk", "nfc", "vsphere", "delta", "points", "scheduling", "notify"},
    {"sync", "lab"},
    {"failover"},
    {"config"},
    {"service"},
    {"cli"},
    {"__init__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

ROWS: dict[str, list[set[str]]] = {
    "cli": [{"results"}, {"render"}, {"commands"}],
    "cli/commands": [{"demo", "failover", "service"}],
    "config": [{"schema"}],
    "delta": [{"compare", "copy"}],
    "failover": [{"machine"}, {"guest"}, {"testing"}, {"group"}],
    "failover/machine": [{"steps"}],
    "lab": [{"api"}, {"storage"}, {"guest"}, {"vm"}, {"site"}, {"web"}, {"nfc"}, {"vcenter"}],
    "points": [{"digestmap"}],
    "service": [{"catalog"}],
    "service/catalog": [{"migrations"}],
    "service/catalog/migrations": [{"versions"}],
    "sync": [{"transport"}, {"claim"}, {"replica"}, {"source"}, {"copy"}, {"plan"}, {"verify"}],
    "vddk": [{"helper"}],
    "vsphere": [{"connection"}, {"inventory"}, {"operations"}],
}

SEES = {
    "failover/machine": {"clocks", "errors", "files", "formats", "points", "redact", "stored"},
    "scheduling": {"clocks", "hours", "units"},
}
"""The part and what it may import beside itself: both are tested without anything around them."""

ONLY_IN = {
    "pyVmomi": ("vsphere/", "nfc/ticket.py", "lab/"),
    "pyVim": ("vsphere/", "lab/"),
    "ctypes": ("vddk/",),
    "xxhash": ("delta/block_hash.py",),
    "apsw": ("lab/guest/database.py", "lab/guest/sqlite_vfs.py"),
    "dbos": ("service/dbos_engine.py",),
    "sqlalchemy": ("service/catalog/",),
    "alembic": ("service/catalog/",),
    "prometheus_client": ("service/metrics.py",),
}

MODULES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names: of modules, and of what is imported from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def name_of(path: Path) -> str:
    """`sync/copy/disks.py` is "sync.copy.disks", `sync/__init__.py` is "sync"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(path: Path) -> Iterator[str]:
    """The modules that a module imports. `from a import b` is a.b where that is a module, else a.

    A package's `__init__` runs too when a module of it is imported. That is not counted: it would
    make a circle of every package that names its modules.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if short(name) in BY_NAME else str(node.module) for name in inner]
        else:
            continue
        yield from (short(name) for name in names if short(name) in BY_NAME)


def short(name: str) -> str:
    """A dotted name without `vreplica.`; of anything else, itself with a mark."""
    if name == "vreplica":
        return ""
    return name.removeprefix("vreplica.") if name.startswith("vreplica.") else f"!{name}"


BY_NAME = {name_of(path): path for path in MODULES}


@cache
def imported_by(name: str) -> frozenset[str]:
    return frozenset(modules_of(BY_NAME[name])) - {name}


@cache
def reached_by(name: str) -> frozenset[str]:
    """Every module that one imports, directly or by way of others."""
    found: set[str] = set()
    following = [name]
    while following:
        new = imported_by(following.pop()) - found
        found |= new
        following += new
    return frozenset(found)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards_only(path: Path) -> None:
    own = part_of(path)
    for name in imports_of(path):
        if not name.startswith("vreplica."):
            continue
        other = name.split(".")[1]
        if other == own or other not in LEVEL:
            continue
        assert LEVEL[other] < LEVEL[own] or LEVEL[own] == LEVEL[other] == 0, (
            f"{path} imports {name}"
        )
        assert other != "lab" or own == "cli", f"{path} imports the lab"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_in_their_place(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    for name in imports_of(path):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or relative.startswith(places), f"{relative} imports {name}"


def test_every_part_has_a_layer() -> None:
    assert {part_of(p) for p in MODULES} <= set(LEVEL)


# -- inside a package -------------------------------------------------------------------------


def child_of(package: str, name: str) -> str | None:
    """The part of a package that a module is or belongs to; None: neither."""
    inside = name.removeprefix(f"{package}.")
    return inside.split(".")[0] if inside != name else None


def heights(package: str) -> dict[str, float]:
    """Where the parts of a package stand: a sub-package at its row, a module between two rows."""
    row = {part: number for number, parts in enumerate(ROWS[package]) for part in parts}
    package = package.replace("/", ".")
    children: dict[str, set[str]] = {}
    for name in BY_NAME:
        if part := child_of(package, name):
            below = {child_of(package, other) for other in imported_by(name)}
            children.setdefault(part, set()).update(b for b in below if b not in (None, part))
    found: dict[str, float] = {}
    for part in children:
        seen, following = {part}, [part]
        while following:
            one = following.pop()
            if one in row and one != part:
                continue  # what stands below a sub-package is that sub-package's own matter
            following += children[one] - seen
            seen |= children[one]
        below = [row[one] for one in seen - {part} if one in row]
        found[part] = row[part] if part in row else max(below, default=-1) + 0.5
    return found


def breaches() -> set[tuple[str, str]]:
    found = set()
    for folder, rows in ROWS.items():
        package, height = folder.replace("/", "."), heights(folder)
        for part in set().union(*rows):
            for name in BY_NAME:
                if child_of(package, name) != part:
                    continue
                for other in imported_by(name):
                    its = child_of(package, other)
                    if its not in (None, part) and height[its] >= height[part]:
                        found.add((name, other))
    return found


def test_a_sub_package_imports_only_what_stands_lower_in_its_package() -> None:
    assert sorted(breaches()) == [], "(module, what it imports although that stands higher)"


def test_every_sub_package_has_a_row() -> None:
    packages = {path.parent.relative_to(ROOT).as_posix() for path in MODULES} - {"."}
    inner = {package for package in packages if "/" in package}
    assert inner == {
        f"{outer}/{part}" for outer, rows in ROWS.items() for part in set().union(*rows)
    }


@pytest.mark.parametrize("part", SEES)
def test_what_is_tested_alone_stands_alone(part: str) -> None:
    own = part.replace("/", ".")
    for name in BY_NAME:
        if name == own or name.startswith(f"{own}."):
            for other in imported_by(name):
                inside = other == own or other.startswith(f"{own}.")
                assert inside or other.split(".")[0] in SEES[part], f"{name} imports {other}"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    circles = {
        frozenset(other for other in reached_by(name) if name in reached_by(other))
        for name in BY_NAME
        if name in reached_by(name)
    }
    assert [sorted(circle) for circle in circles] == []
