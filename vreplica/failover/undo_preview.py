"""Previews an undo: the VM that it takes out of service, and how much that has written there.

Nothing is changed by a preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vreplica.failover import history
from vreplica.failover.group.report import current as current_of_group
from vreplica.failover.group.report import member_folder
from vreplica.failover.group.report import show as show_group
from vreplica.failover.machine import runner
from vreplica.failover.machine.choices import UndoChoices
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.ports import Written
from vreplica.failover.machine.record import outcome_of
from vreplica.failover.machine.states import ENDED, FailoverEvent
from vreplica.failover.machine.steps.keep import side_branch_of
from vreplica.failover.operations import ports_of
from vreplica.sync.events import ignore
from vreplica.sync.job import Job


@dataclass(frozen=True, slots=True)
class UndoPreview:
    """One job's undo before it is decided.

    `vm` at `site` is taken out of service, `back_to_vm` at `back_to_site` runs again. `since`: when
    `vm` was started, by this machine's clock. `written`: None where it was never started.
    `keeps`: the side branch that keeps what was written; None: it is thrown away.
    """

    job: str
    failover: str
    state: str
    vm: str
    site: str
    back_to_vm: str
    back_to_site: str
    since: datetime | None
    written: Written | None
    keeps: str | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "failover": self.failover,
            "state": self.state,
            "vm": self.vm,
            "site": self.site,
            "back_to_vm": self.back_to_vm,
            "back_to_site": self.back_to_site,
            "since": self.since.isoformat() if self.since is not None else None,
            "started": self.written is not None,
            "written_bytes": self.written.bytes_ if self.written is not None else 0,
            "written_exact": self.written is None or self.written.exact,
            "keeps": self.keeps,
        }


@dataclass(frozen=True, slots=True)
class GroupUndoPreview:
    """The same for each member whose failover has not ended."""

    group: str
    members: tuple[UndoPreview, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"group": self.group, "members": [member.to_dict() for member in self.members]}


def preview_undo(job: Job, choices: UndoChoices) -> UndoPreview:
    """Reads both sides of the failover that has not ended, else of the newest.

    Raises NoFailover, and what an undo would be refused with.
    """
    return _preview(job, history.current(job), choices)


def preview_group_undo(
    state_dir: Path, group: str, jobs: Mapping[str, Job], choices: UndoChoices
) -> GroupUndoPreview:
    """The same for the members of a group; `group`: its name."""
    folder = current_of_group(state_dir, group)
    own = {m.job: member_folder(folder, m.job) for m in show_group(folder).members}
    begun = {name: each for name, each in own.items() if load(each)}
    open_ = {name: each for name, each in begun.items() if outcome_of(each).state not in ENDED}
    members = (_preview(jobs[name], each, choices) for name, each in open_.items())
    return GroupUndoPreview(group, tuple(members))


def _preview(job: Job, folder: Path, choices: UndoChoices) -> UndoPreview:
    entries = load(folder)
    with ports_of(job, folder, ignore) as ports:
        written = runner.look_before_undo(folder, ports, choices)
        source, replica = ports.names()
    started = [e.time for e in entries if e.event is FailoverEvent.REPLICA_STARTED]
    may_keep = written is not None and written.bytes_ != 0 and not choices.discard_written
    return UndoPreview(
        job=job.name,
        failover=folder.name,
        state=outcome_of(folder).state.value,
        vm=replica.vm,
        site=replica.site,
        back_to_vm=source.vm,
        back_to_site=source.site,
        since=started[-1] if started else None,
        written=written,
        keeps=side_branch_of(folder.name) if may_keep else None,
    )
