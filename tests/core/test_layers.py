"""The import direction of docs/architecture.md, walked over the real imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vreplica

ROOT = Path(vreplica.__file__).parent

LAYERS: list[set[str]] = [
    {"units", "hours", "errors", "extents", "files", "lazy", "redact", "disk", "__init__"},
    {"vddk", "nfc", "vsphere", "delta", "points", "scheduling", "notify"},
    {"sync", "lab"},
    {"failover"},
    {"config"},
    {"service"},
    {"cli"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

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


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards_only(path: Path) -> None:
    own = part_of(path)
    if own == "__init__":
        return  # the face of the library names something of every part
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
