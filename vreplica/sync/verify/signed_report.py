"""Writes and signs the report of a verification as a file, and checks such a file.

{"format": "vreplica-verify-2", "vreplica": "0.1.0", "job": ..., "equal": ..., "disks": ...}

Format 1 named two values otherwise: `seconds` for `duration_s`, and `shipped_bytes` for the
`written_bytes` of a point's disk. What is checked has the same names in both.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vreplica.delta.compare.root_digest import ALGORITHMS, total
from vreplica.errors import ConfigError, VerifyError
from vreplica.formats import written_by_newer
from vreplica.sync.report import VerifyReport
from vreplica.sync.verify import signing
from vreplica.version import __version__

FORMAT: Final = "vreplica-verify-2"
READ: Final = (FORMAT, "vreplica-verify-1")
_NOT_ITS_FORM: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(eq=False)
class NotAReport(ConfigError):
    template = "{path} is not a report of a verification: {reason}"
    remedy = "Name a file that `vreplica-sync verify --report` wrote."
    path: str
    reason: str


@dataclass(eq=False)
class ReportContradictsItself(VerifyError):
    template = "{path} contradicts itself: {what}"
    remedy = "Do not trust this report: verify again, and keep the file that this one came from."
    path: str
    what: str


def write_report(report: VerifyReport, path: Path, key: Ed25519PrivateKey | None = None) -> bytes:
    """Writes the report and, with a key, its signature beside it. Returns the file's bytes."""
    value = {"format": FORMAT, "vreplica": __version__, **report.to_dict()}
    data = json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
    _replace(path, data)
    if key is not None:
        _replace(signature_of(path), key.sign(data))
    return data


def signature_of(path: Path) -> Path:
    return path.with_name(path.name + signing.SUFFIX)


def check_report(path: Path, key: Path, signature: Path | None = None) -> dict[str, Any]:
    """Returns the report after it has checked its signature and its digests.

    Raises SignatureWrong, ReportContradictsItself; KeyUnusable, FileUnreadable, NotAReport.
    """
    data = signing.read_file(path)
    signing.check_signature(path, data, signature or signature_of(path), key)
    try:
        value: dict[str, Any] = json.loads(data)
        if value["format"] not in READ:
            raise NotAReport(str(path), _of_another_format(str(value["format"])))
        _add_up(path, value)
    except _NOT_ITS_FORM as error:
        raise NotAReport(str(path), f"{type(error).__name__}: {error}") from None
    return value


def _of_another_format(found: str) -> str:
    name, _, number = found.rpartition("-")
    own_name, _, own = FORMAT.rpartition("-")
    if name == own_name and number.isdecimal() and int(number) > int(own):
        return f"it was {written_by_newer(int(number), int(own))}; check it with that version"
    return f"its format is {found}"


def _add_up(path: Path, value: dict[str, Any]) -> None:
    disks, algorithm = value["disks"], value["algorithm"]
    if algorithm not in ALGORITHMS:
        raise NotAReport(str(path), f"digests by {algorithm} are not known to this version")
    for name, said in value["totals"].items():
        if said is None:
            continue
        made = total(algorithm, ((d["key"], d["capacity_bytes"], d[name]) for d in disks))
        if made != said:
            raise ReportContradictsItself(str(path), f"the total {name} is not that of its disks")
    there = {d["key"] for d in disks} == {d["key"] for d in value["point"]["disks"]}
    equal = there and all(d["different_bytes"] == 0 for d in disks)
    if value["equal"] != equal:
        raise ReportContradictsItself(str(path), "its verdict is not that of its disks")


def _replace(path: Path, data: bytes) -> None:
    """Replaces the file, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
