"""Reads the state of a group's failovers and failbacks from their journals.

<state_dir>/.groups/<group>/<id>/journal.jsonl      begin {choices, group, back}, then for each turn
                                                    intent "start web01", call "start web01" {...}
<state_dir>/<job>/failovers/<id>/                   each member's own, under the group's id

The group's journal names its members, and each member's journal says how far that one got. So no
two files have to agree. The job file is not read: a failover is shown with the members that it was
begun with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.errors import NoFailover
from vreplica.failover.machine.group_order import Group, label_of
from vreplica.failover.machine.journal import Entry, begun_below, damaged, load, state_of
from vreplica.failover.machine.record import Record, record_of
from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.sync.job_dir import failovers_below


@dataclass(frozen=True, slots=True)
class MemberReport:
    """The state of one member. `state`: None where its failover was never begun."""

    job: str
    state: FailoverState | None
    record: Record | None
    trouble: str | None
    """The error of its last turn, or the reason why it had none."""


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """The state of a group's failover, with the record of each member."""

    id: str
    group: Group
    choices: FailoverChoices
    back: bool
    """True: a failback, from the replicas to the originals."""
    entries: tuple[Entry, ...]
    members: tuple[MemberReport, ...]

    @property
    def state(self) -> str:
        """running | committed | undone | aborted where all members are; stopped: they differ."""
        begun = {m.state for m in self.members if m.state is not None}
        if not begun or begun <= {FailoverState.ABORTED}:
            return "aborted"
        if begun <= {FailoverState.ABORTED, FailoverState.UNDONE}:
            return "undone"
        if self.troubles or len(begun) > 1 or None in {m.state for m in self.members}:
            return "stopped"
        (only,) = begun
        return only.value if only in (FailoverState.RUNNING, FailoverState.COMMITTED) else "stopped"

    @property
    def committed(self) -> bool:
        return self.state == FailoverState.COMMITTED.value

    @property
    def given_up(self) -> bool:
        return self.state == FailoverState.ABORTED.value

    @property
    def incomplete(self) -> bool:
        """A member stopped on its way, or its last turn failed."""
        return self.state == "stopped" or bool(self.troubles)

    @property
    def kind(self) -> str:
        return "failback" if self.back else "failover"

    @property
    def troubles(self) -> dict[str, str]:
        return {m.job: m.trouble for m in self.members if m.trouble is not None}

    @property
    def ended(self) -> bool:
        return all(m.state is None or m.state in ENDED for m in self.members)

    def to_dict(self) -> dict[str, Any]:
        return {
            "failover": self.id,
            "group": self.group.to_dict(),
            "back": self.back,
            "state": self.state,
            "choices": self.choices.to_dict(),
            "started": self.entries[0].time.isoformat() if self.entries else None,
            "last": self.entries[-1].time.isoformat() if self.entries else None,
            "members": [
                {
                    "job": m.job,
                    "state": m.state.value if m.state is not None else None,
                    "trouble": m.trouble,
                    **({"record": m.record.to_dict()} if m.record is not None else {}),
                }
                for m in self.members
            ],
        }


def folder_of(state_dir: Path, group: str, id_: str) -> Path:
    """The folder of a group's failover with this id."""
    return state_dir / ".groups" / group / id_


def folders(state_dir: Path, group: str) -> list[Path]:
    """The group's failovers and failbacks, oldest first."""
    return begun_below(state_dir / ".groups" / group)


def member_folder(folder: Path, member: str) -> Path:
    """The folder of a member's own failover. `folder`: of the group's."""
    return failovers_below(folder.parents[2] / member) / folder.name


def current(state_dir: Path, group: str) -> Path:
    """The folder of the group's unfinished failover, else of the newest. Raises NoFailover."""
    found = folders(state_dir, group)
    if not found:
        raise NoFailover(job=label_of(group))
    return next((f for f in found if not show(f).ended), found[-1])


def show(folder: Path) -> GroupOutcome:
    """Reads where a group's failover stands. Takes nothing over."""
    entries = load(folder)
    if not entries or "group" not in entries[0].data:
        raise damaged(folder, "it names no group")
    begun = entries[0].data
    group = Group.from_dict(begun["group"])
    troubles: dict[str, str | None] = {}
    for entry in entries:
        if entry.kind in ("call", "note"):
            troubles[entry.data.get("job", "")] = entry.data.get("trouble")
    members = []
    for member in group.members:
        journal = load(member_folder(folder, member.name))
        members.append(
            MemberReport(
                job=member.name,
                state=state_of(journal) if journal else None,
                record=record_of(member.name, folder.name, journal) if journal else None,
                trouble=troubles.get(member.name),
            )
        )
    return GroupOutcome(
        id=folder.name,
        group=group,
        choices=FailoverChoices.from_dict(begun["choices"]),
        back=begun.get("back", False),
        entries=tuple(entries),
        members=tuple(members),
    )
