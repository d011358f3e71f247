"""Checks between the tables of a job file: sites, replicas, networks, groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vreplica.config.errors import Problem
from vreplica.config.problems import problem_at, suggestion
from vreplica.config.schema.base import NAME
from vreplica.config.schema.groups import GroupTable
from vreplica.config.schema.jobfile import JobFile
from vreplica.config.schema.jobs import JobTable
from vreplica.config.toml_positions import KeyPath, Lines
from vreplica.failover.machine.group_order import cycle


def broken_rules(file: JobFile, lines: Lines) -> Iterator[Problem]:
    """The problems that one table alone does not show."""
    replicas: dict[tuple[str, str, str], str] = {}
    for name, job in file.jobs.items():
        path: KeyPath = ("jobs", name)
        if not NAME.fullmatch(name):
            yield _bad_name(lines, path, "job")
        unknown = [
            problem_at(
                lines,
                (*path, end, "site"),
                f"there is no site {site}",
                suggestion(site, file.sites, "Sites in this file"),
            )
            for end, site in (("source", job.source.site), ("destination", job.destination.site))
            if site not in file.sites
        ]
        yield from unknown
        if not unknown:
            yield from _check_replica(file, lines, path, job, replicas)
            yield from _check_test_network(file, lines, path, job)
    yield from _broken_groups(file, lines)
    for name in file.notify:
        if not NAME.fullmatch(name):
            yield _bad_name(lines, ("notify", name), "receiver")


def _bad_name(lines: Lines, path: KeyPath, noun: str) -> Problem:
    return problem_at(
        lines,
        path,
        f"is not a name that a {noun} can have",
        "Use letters, digits, dot, dash and underscore, beginning with a letter or digit.",
    )


def _check_test_network(
    file: JobFile, lines: Lines, path: KeyPath, job: JobTable
) -> Iterator[Problem]:
    """Refuses a test network that is also one of production: a test VM there would act for it."""
    to, there = job.destination, file.sites[job.destination.site]
    networks = {**there.networks, **to.networks}
    if (to.test_network or there.test_network) in networks.values():
        yield problem_at(
            lines,
            (*path, "destination", "test_network"),
            "is a network that the replica is connected to at a failover",
            "Name an isolated network, on a switch without an uplink.",
        )


def _check_replica(
    file: JobFile,
    lines: Lines,
    path: KeyPath,
    job: JobTable,
    replicas: dict[tuple[str, str, str], str],
) -> Iterator[Problem]:
    """Refuses a job whose replica is its source, and two jobs with one replica."""
    place = (*path, "destination", "name")
    target = _server(file, job.destination.site)
    if target == _server(file, job.source.site) and job.source.vm == job.destination.name:
        yield problem_at(
            lines,
            place,
            "is the source VM itself",
            "Give the replica another name or another site.",
        )
    folder = job.destination.folder or file.sites[job.destination.site].folder or ""
    replica = (target, folder, job.destination.name)
    if other := replicas.get(replica):
        yield problem_at(
            lines,
            place,
            f"is the replica of job {other} already",
            "Give each job a replica of its own.",
        )
    replicas.setdefault(replica, str(path[-1]))


def _server(file: JobFile, site: str) -> str:
    """The server of a site: two sites may be the same server."""
    return f"{file.sites[site].host.lower()}:{file.sites[site].port}"


def _broken_groups(file: JobFile, lines: Lines) -> Iterator[Problem]:
    """Problems of groups: unknown members, and an order in which no member can begin."""
    for name, group in file.groups.items():
        path: KeyPath = ("groups", name)
        if not NAME.fullmatch(name):
            yield _bad_name(lines, path, "group")
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
            f"no member can begin: {' waits for '.join(ring)}",
            "Take one of these out of `after`.",
        )
