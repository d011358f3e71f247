"""Previews the failover or failback of a group: each member's preview, and the members' order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vreplica.failover.group.run import members_in_service
from vreplica.failover.machine.group_order import Group
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

    def to_dict(self, max_downtime_s: float | None = None) -> dict[str, Any]:
        members = [member.to_dict(max_downtime_s) for member in self.members]
        return {"group": self.group.to_dict(), "members": members}


def preview_group(
    group: Group, jobs: Mapping[str, Job], *, source_lost: bool = False
) -> GroupPreview:
    """Reads both sides of every member. Raises as `preview` of a job."""
    known = tuple(preview(jobs[m.name], source_lost=source_lost) for m in group.members)
    return GroupPreview(group, (), known)


def preview_group_back(
    group: Group, jobs: Mapping[str, Job], *, source_lost: bool = False
) -> GroupPreview:
    """Reads both sides of every member that a failback brings back.

    Raises NothingToFailBack where no member's replica is in service, and as `preview_back` of a
    job.
    """
    taking_part = members_in_service(group, jobs)
    known = tuple(preview_back(jobs[m.name], source_lost=source_lost) for m in taking_part.members)
    left_out = tuple(m.name for m in group.members if m.name not in taking_part)
    return GroupPreview(taking_part, left_out, known)
