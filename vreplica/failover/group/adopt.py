"""Adopts the failovers of a group's members, and writes the group's own journal anew.

Each member is adopted by itself. Those that have failovers of one id, begun for this group, are the
group's: its journal is written from the job file, and says no more than which members belong
together. Members whose replicas no failover has are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.failover.adopt import Adoptable, Adopted, KnownStates, adopt, read_adoptable
from vreplica.failover.group.report import GroupOutcome, folder_of, show
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.errors import NothingToAdopt
from vreplica.failover.machine.group_order import Group
from vreplica.failover.machine.journal import Entry, Journal, load, next_number
from vreplica.files import make_private_folder
from vreplica.sync.job import Job
from vreplica.sync.job_dir import in_state_dir

OF_GROUP = "of_group"
"""The choice of a member's failover that names the group it was begun for."""


@dataclass(frozen=True, slots=True)
class GroupAdopted:
    """The outcome: each member that was adopted, and the group's failover, if it was one."""

    group: Group
    members: tuple[Adopted, ...]
    troubles: Mapping[str, str]
    """Job -> why it could not be adopted."""
    outcome: GroupOutcome | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "group": self.group.name,
            "failover": self.outcome.id if self.outcome is not None else None,
            "state": self.outcome.state if self.outcome is not None else None,
            "members": [member.to_dict() for member in self.members],
            "troubles": dict(self.troubles),
        }


def read_adoptable_members(
    group: Group, jobs: Mapping[str, Job], known: KnownStates
) -> tuple[Adoptable, ...]:
    """Reads the failovers that `adopt_members` would continue. Changes nothing.

    Raises NothingToAdopt where it is nothing, and what the reading of a member raises.
    """
    found, nothing = list[Adoptable](), list[NothingToAdopt]()
    for member in group.members:
        try:
            found.append(read_adoptable(jobs[member.name], known))
        except NothingToAdopt as error:
            nothing.append(error)
    if not found:
        raise nothing[0]
    return tuple(found)


def adopt_members(
    state_dir: Path,
    group: Group,
    jobs: Mapping[str, Job],
    seen: Sequence[Adoptable],
    report: Reporter,
) -> GroupAdopted:
    """Adopts each member that was seen. An error does not stop the others."""
    done, troubles = list[Adopted](), dict[str, str]()
    for one in seen:

        def tell(text: str, job: str = one.job) -> None:
            report(f"{job}: {text}")

        try:
            done.append(adopt(jobs[one.job], one, tell))
        except VReplicaError as error:
            troubles[one.job] = str(error)
            tell(str(error))
    outcome = None
    for id_, entries in _of_group(group, done).items():
        outcome = _write_journal(state_dir, group, id_, entries)
    return GroupAdopted(group, tuple(done), troubles, outcome)


def _of_group(group: Group, done: Sequence[Adopted]) -> dict[str, tuple[Entry, ...]]:
    """The ids of the group's failovers, oldest first, each with the journal of a member.

    Marks of older versions do not name the group: there two members of one id are enough.
    """
    found = [one for adopted in done for one in adopted.found.found]
    times = Counter(one.id for one in found)
    named = {one.id for one in found if one.entries[0].data.get(OF_GROUP) == group.label}
    ours = {one.id: one.entries for one in found if one.id in named or times[one.id] > 1}
    return dict(sorted(ours.items(), key=lambda item: item[1][0].time))


def _write_journal(
    state_dir: Path, group: Group, id_: str, entries: tuple[Entry, ...]
) -> GroupOutcome:
    folder = folder_of(state_dir, group.name, id_)
    if not load(folder):
        choices = FailoverChoices.from_dict(entries[0].data).to_dict()
        data = {"choices": choices, "group": group.to_dict(), "back": id_.startswith("fb-")}
        with in_state_dir():
            make_private_folder(folder.parent)
        with suppress(FileExistsError):
            Journal.begin(folder, {**data, **next_number(folder.parent)}).close()
    return show(folder)
