"""What must hold in the groups of a job file: known members, and an order that can begin. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vreplica.config.errors import Problem
from vreplica.config.problems import problem_at, suggestion
from vreplica.config.schema.jobfile import NAME, GroupTable, JobFile
from vreplica.config.toml_positions import KeyPath, Lines
from vreplica.failover.machine.group_order import cycle


def broken_groups(file: JobFile, lines: Lines) -> Iterator[Problem]:
    for name, group in file.groups.items():
        path: KeyPath = ("groups", name)
        if not NAME.fullmatch(name):
            yield problem_at(
                lines,
                path,
                "is not a name that a group can have",
                "Use letters, digits, dot, dash and underscore, beginning with a letter or digit.",
            )
        for member in group.members:
            if member not in file.jobs:
                yield problem_at(
                    lines,
                    (*path, "members", member),
                    f"there is no job {member}",
                    suggestion(member, file.jobs, "Jobs in this file"),
                )
        yield from _order(group, lines, (*path, "members"))


def _order(group: GroupTable, lines: Lines, path: KeyPath) -> Iterator[Problem]:
    known = True
    for name, member in group.members.items():
        for number, other in enumerate(member.after):
            if other not in group.members:
                known = False
                yield problem_at(
                    lines,
                    (*path, name, "after", number),
                    f"{other} is not a member of this group",
                    suggestion(other, group.members, "Members"),
                )
    ring = cycle({name: member.after for name, member in group.members.items()})
    if known and ring:
        yield problem_at(
            lines,
            (*path, ring[0], "after"),
            f"nobody can begin: {' waits for '.join(ring)}",
            "Take one of these out of `after`.",
        )
