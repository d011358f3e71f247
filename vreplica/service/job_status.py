"""The values of `status`: a job's state, and the service that works on the jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from vreplica.scheduling.planner import AlarmKind

if TYPE_CHECKING:
    from vreplica.failover.live import LiveJob
    from vreplica.service.catalog.movers import Mover


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of one job.

    `scheduled`: the service plans its runs. `source`, `destination`: names of its sites. `vm_at`:
    the site at which its VM is in service; None where it is off at both (`vm_off`) or not known.
    `point`, `level`: of the newest point. `asked`: the destination's points are known; `seen`: when
    they were read last. `age`: of the newest point's data; None where no point is known, or where
    the time of the newest lies ahead of now (`point_ahead`). `next_at`: when the next run begins,
    if nothing else happens. `why`: the reason of `state` and `next_at`, for people. `error`: of the
    last run, where that failed, at `failed_at`; `failures`: how many failed in a row. `failover`:
    the failover that is under way, or that moved the VM. `flagged`: the oldest point that looks
    like mass encryption and was not accepted.
    """

    job: str
    state: str
    """idle | running | paused | failing | failing over | disabled"""
    age: timedelta | None
    target: timedelta | None
    alarm: str | None
    next_at: datetime | None
    why: str
    failures: int = 0
    error: str | None = None
    failed_at: datetime | None = None
    failover: dict[str, Any] | None = None
    flagged: str | None = None
    point_ahead: bool = False
    scheduled: bool = True
    source: str = ""
    destination: str = ""
    vm_at: str | None = None
    vm_off: bool = False
    point: str | None = None
    level: str | None = None
    asked: bool = True
    seen: datetime | None = None
    live: LiveJob | None = None
    """Both VMs as they were read; None: no site was asked."""

    @property
    def violated(self) -> bool:
        """True where the newest point is older than its target."""
        return self.alarm == str(AlarmKind.VIOLATED)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: durations in seconds, times in UTC."""
        return {
            "job": self.job,
            "state": self.state,
            "scheduled": self.scheduled,
            "source_site": self.source,
            "destination_site": self.destination,
            "vm_at": self.vm_at,
            "vm_off": self.vm_off,
            "point": self.point,
            "level": self.level,
            "points_known": self.asked,
            "points_seen": _iso(self.seen),
            "age_s": self.age.total_seconds() if self.age is not None else None,
            "target_s": self.target.total_seconds() if self.target else None,
            "alarm": self.alarm,
            "next_at": _iso(self.next_at),
            "why": self.why,
            "failures": self.failures,
            "error": self.error,
            "failed_at": _iso(self.failed_at),
            "failover": self.failover,
            "flagged": self.flagged,
            "point_ahead": self.point_ahead,
            "live": self.live.to_dict() if self.live is not None else None,
        }


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The jobs, and the service that works on them.

    `catalog`: its place; None: none has been made yet. `as_of`: when somebody last wrote to it.
    `movers`: those that are registered; `Mover.at_work` says whether a lease is valid.
    """

    jobs: tuple[JobStatus, ...]
    now: datetime
    catalog: str | None = None
    as_of: datetime | None = None
    movers: tuple[Mover, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the jobs, for JSON."""
        return {
            "catalog": self.catalog,
            "as_of": _iso(self.as_of),
            "age_s": (self.now - self.as_of).total_seconds() if self.as_of else None,
            "at_work": any(mover.at_work(self.now) for mover in self.movers),
            "movers": [
                {
                    "mover": mover.id,
                    "version": mover.version,
                    "lease_until": _iso(mover.until),
                    "at_work": mover.at_work(self.now),
                    "active_runs": mover.active,
                    "capacity_runs": mover.capacity,
                }
                for mover in self.movers
            ],
        }


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time is not None else None
