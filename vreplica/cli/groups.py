"""failover group:NAME and its undo, commit, resume, show, list: what cli.failover hands over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli import exits
from vreplica.cli.output import Output
from vreplica.cli.show import HEAD, counted, duration, facts, grid, indented, moment

if TYPE_CHECKING:
    from vreplica.failover.choices import Choices, OnError
    from vreplica.failover.group import Group
    from vreplica.failover.runner import Tell
    from vreplica.jobs import Config
    from vreplica.jobs.groups import GroupOutcome
    from vreplica.sync import Job

PREFIX = "group:"
"""No job's name has a colon."""

STOPPED = 9

NEXT = {
    "running": "commit it (vreplica-sync commit GROUP) or undo it (vreplica-sync undo GROUP)",
    "committed": "the replicas are in service for good; their jobs stay off",
    "undone": "both sides are as before, and the jobs are on again",
    "aborted": "no replica was started; the jobs are on again",
    "stopped": "mend the trouble, then vreplica-sync failover resume GROUP;"
    " or put everything back: vreplica-sync undo GROUP",
}


def is_group(name: str) -> bool:
    return name.startswith(PREFIX)


class Commands:
    """One group of a job file, with its members' jobs."""

    def __init__(self, out: Output, name: str, config: Path | None) -> None:
        import vreplica

        self.out, self.name = out, name
        self._loaded: Config = vreplica.load(config)
        self.group: Group = self._loaded.group(name.removeprefix(PREFIX))

    @property
    def jobs(self) -> dict[str, Job]:
        return {member.name: self._loaded[member.name] for member in self.group.members}

    @property
    def _folder(self) -> Path:
        from vreplica.jobs import groups

        return groups.current(self._loaded.state_dir, self.jobs, self.group.name)

    def previews(self, *, source_lost: bool) -> tuple[dict[str, Any], Iterator[RenderableType]]:
        """What is known of every member, and the order."""
        from vreplica.cli import showfailover
        from vreplica.jobs import failover

        known = [failover.preview(job, source_lost=source_lost) for job in self.jobs.values()]
        value = {"group": self.group.to_dict(), "members": [each.to_dict() for each in known]}

        def shown() -> Iterator[RenderableType]:
            yield from order(self.group)
            for each in known:
                yield Text("")
                yield from showfailover.preview(each)

        return value, shown()

    def begin(self, choices: Choices, on_error: str | None, *, commit: bool) -> int:
        from dataclasses import replace

        from vreplica.jobs import groups

        group = self.group
        if (chosen := _on_error(on_error)) is not None:
            group = replace(group, on_error=chosen)
        outcome = groups.begin(self._loaded.state_dir, group, self.jobs, choices, self._tell)
        if commit and outcome.state == "running":
            outcome = groups.commit(self._folder, self.jobs, self._tell)
        return self._answer(outcome)

    def resume(self, on_error: str | None) -> int:
        from vreplica.jobs import groups

        chosen = _on_error(on_error)
        return self._answer(groups.resume(self._folder, self.jobs, self._tell, chosen))

    def undo(self) -> int:
        from vreplica.jobs import groups

        return self._answer(groups.undo(self._folder, self.jobs, self._tell))

    def commit(self) -> int:
        from vreplica.jobs import groups

        return self._answer(groups.commit(self._folder, self.jobs, self._tell))

    def show(self, page: Path | None) -> int:
        from vreplica.cli import failoverpage
        from vreplica.jobs import groups

        outcome = groups.show(self._folder, self.jobs)
        if page is not None:
            page.write_text(failoverpage.group(outcome), encoding="utf-8")
        self._answer(outcome)
        return exits.OK

    def list(self) -> int:
        from vreplica.jobs import groups

        jobs = self.jobs
        found = [
            groups.show(f, jobs) for f in groups.folders(self._loaded.state_dir, self.group.name)
        ]
        if self.out.as_json:
            self.out.json({"group": self.group.name, "failovers": [f.to_dict() for f in found]})
            return exits.OK
        table = grid("failover", "began", "state")
        for each in found:
            table.add_row(each.id, moment(each.entries[0].time), each.state)
        self.out.show(indented(table) if found else Text(f"{self.name}: no failover yet"))
        return exits.OK

    @property
    def _tell(self) -> Tell:
        return self.out.note

    def _answer(self, outcome: GroupOutcome) -> int:
        if self.out.as_json:
            self.out.json(outcome.to_dict())
        else:
            self.out.show(*report(self.name, outcome))
        bad = outcome.state in ("stopped", "aborted") or bool(outcome.troubles)
        return STOPPED if bad else exits.OK


def order(group: Group) -> Iterator[RenderableType]:
    """Who starts when; bringing down goes the other way."""
    from vreplica.failover.group import waves

    head = f": {counted(len(group.members), 'member')}, at most {group.parallel} at once"
    yield Text.assemble((f"{PREFIX}{group.name}", HEAD), head, f", on error {group.on_error.value}")
    table = grid("start", "job", "after~", "delay>", "ready when")
    for number, wave in enumerate(waves(group.forwards), 1):
        for name in wave:
            member = group[name]
            table.add_row(
                str(number),
                name,
                ", ".join(member.after) or "-",
                duration(member.delay_s) if member.delay_s else "-",
                "its guest answers" if member.heartbeat else "it is on",
            )
    yield indented(table)


def report(name: str, outcome: GroupOutcome) -> Iterator[RenderableType]:
    yield Text.assemble((name, HEAD), f": failover {outcome.id} is ", (outcome.state, HEAD))
    table = grid("job", "state", "booted", "level", "downtime>", "trouble~")
    for member in outcome.members:
        record = member.record
        down = record.downtime_s if record is not None else None
        table.add_row(
            member.job,
            str(member.state or "not begun"),
            (record.point if record is not None else None) or "-",
            (record.level if record is not None else None) or "-",
            duration(down) if down is not None else "-",
            member.trouble or "",
        )
    yield indented(table)
    yield facts(("next", [NEXT[outcome.state].replace("GROUP", name)]))


def _on_error(value: str | None) -> OnError | None:
    from vreplica.failover.choices import OnError

    return OnError(value) if value is not None else None
