"""Previews the failover or failback of a group: each member's preview, and the members' order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vreplica.failover.group.run import members_in_service
from vreplica.failover.machine.group_order import Group
from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.failover.preview import Preview, preview, preview_back
from vreplica.sync.job import Job


@dataclass(frozen=True, slots=True)
class GroupPreview:
    """The state of every member before the operator decides. Nothing was changed to read it.

    `group`: the members that take part, in their order. `left_out`: the members that a failback
    leaves out, because they run on their originals. `members`: one preview for each of `group`.
    """

    group: Group
    left_out: tuple[str, ...]
    members: tuple[Preview, ...]

    @property
    def spread(self) -> tuple[Preview, Preview] | None:
        """The members whose points, without a final sync, are the oldest and the newest one.

        None where fewer than two members have a point to boot.
        """
        found = sorted(
            (taken, n) for n, m in enumerate(self.members) if (taken := m.boots_until) is not None
        )
        if len(found) < 2:
            return None
        return self.members[found[0][1]], self.members[found[-1][1]]

    @property
    def spread_s(self) -> float | None:
        """The seconds between these two points: what belongs together is apart by so much."""
        if self.spread is None:
            return None
        oldest, newest = (m.boots_until for m in self.spread)
        assert oldest is not None
        assert newest is not None
        return (newest - oldest).total_seconds()

    def to_dict(self, max_downtime_s: float | None = None) -> dict[str, Any]:
        members = [member.to_dict(max_downtime_s) for member in self.members]
        return {"group": self.group.to_dict(), "members": members, "spread_s": self.spread_s}


def preview_group(
    group: Group,
    jobs: Mapping[str, Job],
    *,
    source_lost: bool = False,
    boot: PointChoice = NEWEST,
) -> GroupPreview:
    """Reads both sides of every member. Raises as `preview` of a job."""
    known = tuple(
        preview(jobs[m.name], source_lost=source_lost, boot=boot.of_member(m.name))
        for m in group.members
    )
    return GroupPreview(group, (), known)


def preview_group_back(
    group: Group,
    jobs: Mapping[str, Job],
    *,
    source_lost: bool = False,
    boot: PointChoice = NEWEST,
) -> GroupPreview:
    """Reads both sides of every member that a failback brings back.

    Raises NothingToFailBack where no member's replica is in service, and as `preview_back` of a
    job.
    """
    taking_part = members_in_service(group, jobs)
    known = tuple(
        preview_back(jobs[m.name], source_lost=source_lost, boot=boot.of_member(m.name))
        for m in taking_part.members
    )
    left_out = tuple(m.name for m in group.members if m.name not in taking_part)
    return GroupPreview(taking_part, left_out, known)
