"""Defines the answers of plan, run and verify: values for programs, `to_dict` for `--json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from vreplica.delta.compare.root_digest import BLAKE3, total
from vreplica.delta.compare.spot_check import SpotCheckResult
from vreplica.delta.copy.modes import CopyMode
from vreplica.points import Level, RecoveryPoint
from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.run_record import Resumable
from vreplica.vsphere.model import NotCarried

if TYPE_CHECKING:
    from vreplica.sync.run_record import Resumable


def audit_off(label: str, reason: str) -> str:
    """The warning that a delta of this disk goes without its digest map."""
    return (
        f"{label}: no checksums of the replica (its digest map: {reason}): unchanged rewrites are "
        "sent, and the audit of change tracking is off; the run reads the replica after its point "
        "and rebuilds them"
    )


NOT_LOOKED_AT: Final = (
    "storage policy",
    "tags",
    "custom attributes",
    "permissions",
    "DRS and HA rules",
)
"""What vCenter keeps beside a VM, and no plan compares: it is set on the replica by hand."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer of `plan`: the next run. `problems` is empty where it can start."""

    job: str
    source_vm: str
    replica_vm: str
    replica_exists: bool
    disks: tuple[DiskPlan, ...]
    excluded: tuple[str, ...]
    transport: str
    """The transport and the reason for it."""
    expected_level: Level
    base_point: RecoveryPoint | None
    steps: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    foreign_changes: tuple[str, ...] = ()
    """What somebody else did to the replica since its latest point."""
    expiring: tuple[RecoveryPoint, ...] = ()
    """What retention will remove once the run has made its point."""
    resumes: Resumable | None = None
    """The run that broke off and is resumed."""
    not_carried: tuple[NotCarried, ...] = ()
    """What the source has and the replica does not get."""
    not_looked_at: tuple[str, ...] = NOT_LOOKED_AT

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "source_vm": self.source_vm,
            "replica_vm": self.replica_vm,
            "replica_exists": self.replica_exists,
            "disks": [{**asdict(d), "mode": d.mode.value} for d in self.disks],
            "excluded": list(self.excluded),
            "transport": self.transport,
            "expected_level": self.expected_level.value,
            "base_point": self.base_point.id if self.base_point else None,
            "steps": list(self.steps),
            "expiring": [p.id for p in self.expiring],
            "warnings": list(self.warnings),
            "problems": list(self.problems),
            "foreign_changes": list(self.foreign_changes),
            "resumes": self.resumes.to_dict() if self.resumes else None,
            "not_carried": [{"what": n.what, "means": n.means} for n in self.not_carried],
            "not_looked_at": list(self.not_looked_at),
        }


@dataclass(frozen=True, slots=True)
class DiskRun:
    """Counts of one disk in one run. All sizes in bytes.

        looked at = redundant + zero already + zeroed + data
                    |      not written       |  written   |

    docs/glossary.md says what each count is.
    """

    key: int
    label: str
    mode: CopyMode
    reason: str
    capacity_bytes: int
    allocated_bytes: int | None
    looked_at_bytes: int
    read_bytes: int
    redundant_bytes: int
    zero_already_bytes: int
    zeroed_bytes: int
    data_bytes: int
    audited_bytes: int
    """Read of what change tracking calls unchanged; not part of the other counts."""
    seconds: float
    compressibility: float | None = None
    """Of a sample of the data: size after zlib / before; None without a sample."""
    high_entropy_share: float | None = None
    """How much of the sample looks encrypted or compressed."""
    retries: int = 0
    """Requests that failed and were repeated."""
    digest_map_problem: str | None = None
    """The reason why a delta had no digest map, so that it could not audit change tracking."""

    @property
    def written_bytes(self) -> int:
        return self.zeroed_bytes + self.data_bytes

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        seconds = values.pop("seconds")
        return {
            **values,
            "mode": self.mode.value,
            "written_bytes": self.written_bytes,
            "duration_s": seconds,
        }


@dataclass(frozen=True, slots=True)
class DiskVerify:
    """The comparison of one disk.

    `compared` + `changed_since` = capacity, where all was compared. The roots cover `looked_at`,
    ranges of bytes. The image digest covers all of the point's disk; None where it was not asked
    for. docs/verify.md defines the digests.
    """

    key: int
    label: str
    capacity_bytes: int
    compared_bytes: int
    changed_since_bytes: int
    different_bytes: int
    first_differences: tuple[tuple[int, int], ...]
    source_root: str
    replica_root: str
    image_digest: str | None = None
    looked_at: tuple[tuple[int, int], ...] = ()
    spot: SpotCheckResult | None = None
    """None: everything that had not changed since the point was compared."""

    @property
    def equal(self) -> bool:
        return self.different_bytes == 0

    def to_dict(self) -> dict[str, Any]:
        spot = self.spot
        sample = spot and {
            **asdict(spot),
            "share": spot.share,
            "rules_out_pieces": spot.rules_out_pieces,
        }
        return {
            "key": self.key,
            "label": self.label,
            "equal": self.equal,
            "capacity_bytes": self.capacity_bytes,
            "compared_bytes": self.compared_bytes,
            "changed_since_bytes": self.changed_since_bytes,
            "different_bytes": self.different_bytes,
            "first_differences": [list(pair) for pair in self.first_differences],
            "source_root": self.source_root,
            "replica_root": self.replica_root,
            "image_digest": self.image_digest,
            "sample": sample,
            "looked_at": [list(pair) for pair in self.looked_at],
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """One digest over all disks of a point, as delta/compare/root_digest.py makes it."""

    source_root: str
    replica_root: str
    image_digest: str | None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The answer of `verify`."""

    job: str
    point: RecoveryPoint
    disks: tuple[DiskVerify, ...]
    started: datetime
    seconds: float
    algorithm: str = BLAKE3
    source: str = ""
    replica: str = ""
    """Names of the VMs and their sites, for a reader of the report elsewhere."""

    @property
    def equal(self) -> bool:
        """Every disk of the point is on both sides, and no compared byte differs."""
        looked_at = {d.key for d in self.disks}
        return all(d.equal for d in self.disks) and looked_at == {d.key for d in self.point.disks}

    @property
    def sampled(self) -> bool:
        """True where only a share was compared: then `equal` is no proof."""
        return any(d.spot is not None for d in self.disks)

    @property
    def totals(self) -> Totals:
        def over(digests: list[str]) -> str:
            named = zip(self.disks, digests, strict=True)
            return total(self.algorithm, ((d.key, d.capacity_bytes, h) for d, h in named))

        images = [d.image_digest for d in self.disks if d.image_digest is not None]
        return Totals(
            over([d.source_root for d in self.disks]),
            over([d.replica_root for d in self.disks]),
            over(images) if len(images) == len(self.disks) else None,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "equal": self.equal,
            "coverage": "sample" if self.sampled else "full",
            "source": self.source,
            "replica": self.replica,
            "point": self.point.to_dict(),
            "started": self.started.isoformat(),
            "duration_s": self.seconds,
            "algorithm": self.algorithm,
            "totals": asdict(self.totals),
            "disks": [d.to_dict() for d in self.disks],
        }


@dataclass(frozen=True, slots=True)
class RunReport:
    """The answer of `run`. `recovered`: what an earlier run had left, in words."""

    job: str
    point: RecoveryPoint
    disks: tuple[DiskRun, ...]
    recovered: tuple[str, ...]
    removed_points: tuple[str, ...]
    warnings: tuple[str, ...]
    verified: VerifyReport | None
    points: int
    started: datetime
    seconds: float

    @property
    def written_bytes(self) -> int:
        return sum(d.written_bytes for d in self.disks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "point": self.point.to_dict(),
            "disks": [d.to_dict() for d in self.disks],
            "recovered": list(self.recovered),
            "removed_points": list(self.removed_points),
            "warnings": list(self.warnings),
            "verified": self.verified.to_dict() if self.verified else None,
            "points": self.points,
            "started": self.started.isoformat(),
            "duration_s": self.seconds,
        }
