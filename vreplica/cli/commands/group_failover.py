"""failover and failback group:NAME, their undo, commit, resume, show, list: what cli.failover and
cli.failback hand over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli import exits
from vreplica.cli.render.output import Output
from vreplica.cli.render.text import HEAD, counted, duration, facts, grid, indented, moment

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.failover.crosscheck import Comparison
    from vreplica.failover.group.report import GroupOutcome
    from vreplica.failover.machine.choices import Choices, OnError
    from vreplica.failover.machine.context import Reporter
    from vreplica.failover.machine.group_order import Group

PREFIX = "group:"
"""No job's name has a colon."""

NEXT = {
    "running": "commit it (vreplica-sync commit GROUP) or undo it (vreplica-sync undo GROUP)",
    "committed": "failover: the replicas are in service for good, and `failback GROUP` is the way "
    "back; failback: the jobs replicate forward again",
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
        self._jobs: Config = vreplica.load(config)
        self.group: Group = self._jobs.group(name.removeprefix(PREFIX))

    @property
    def _folder(self) -> Path:
        from vreplica.failover.group import report as groupstate

        return groupstate.current(self._jobs.state_dir, self.group.name)

    def previews(
        self, *, source_lost: bool, max_downtime_s: float | None, back: bool = False
    ) -> tuple[dict[str, Any], Iterator[RenderableType]]:
        """What is known of every member, and the order. For a failback: of those to bring back."""
        from vreplica.cli.render import failover_text
        from vreplica.failover.group import run
        from vreplica.failover.preview import preview, preview_back

        group = run.away(self.group, self._jobs) if back else self.group
        look = preview_back if back else preview
        known = [look(self._jobs[m.name], source_lost=source_lost) for m in group.members]
        members = [each.to_dict(max_downtime_s) for each in known]
        value = {"group": group.to_dict(), "members": members}
        left = [m.name for m in self.group.members if m.name not in group]

        def shown() -> Iterator[RenderableType]:
            yield from order(group)
            if left:
                yield facts(("left out", [f"{name} runs on its original" for name in left]))
            for each in known:
                yield Text("")
                yield from failover_text.preview(each, max_downtime_s)

        return value, shown()

    def begin(
        self, choices: Choices, on_error: str | None, *, commit: bool, back: bool = False
    ) -> int:
        from dataclasses import replace

        from vreplica.failover.group import run

        group = self.group
        if (chosen := _on_error(on_error)) is not None:
            group = replace(group, on_error=chosen)
        start = run.begin_back if back else run.begin
        outcome = start(self._jobs.state_dir, group, self._jobs, choices, self._tell)
        if commit and outcome.state == "running":
            outcome = run.commit(self._folder, self._jobs, self._tell)
        return self._answer(outcome)

    def resume(self, on_error: str | None) -> int:
        from vreplica.failover.group import run

        chosen = _on_error(on_error)
        return self._answer(run.resume(self._folder, self._jobs, self._tell, chosen))

    def undo(self) -> int:
        from vreplica.failover.group import run

        outcome = run.undo(self._folder, self._jobs, self._tell)
        code = self._answer(outcome)
        # Given up is what was asked for.
        return exits.OK if outcome.state == "aborted" and not outcome.troubles else code

    def commit(self) -> int:
        from vreplica.failover.group import run

        return self._answer(run.commit(self._folder, self._jobs, self._tell))

    def show(self, page: Path | None, *, check: bool) -> int:
        """With `check`: each member's record beside vCenter's; 8 where one differs."""
        from vreplica.cli.render import failover_html
        from vreplica.failover.crosscheck import compare
        from vreplica.failover.group import report as groupstate

        outcome = groupstate.show(self._folder)
        records = [m.record for m in outcome.members if m.record is not None] if check else []
        checked = {r.job: compare(self._jobs[r.job], r) for r in records}
        if page is not None:
            page.write_text(failover_html.group(outcome, checked), encoding="utf-8")
        self._answer(outcome, checked)
        same = all(each.equal for each in checked.values())
        return exits.OK if same else exits.DIFFERENT

    def list(self) -> int:
        from vreplica.failover.group import report as groupstate

        folders = groupstate.folders(self._jobs.state_dir, self.group.name)
        found = [groupstate.show(f) for f in folders]
        if self.out.as_json:
            self.out.json({"group": self.group.name, "failovers": [f.to_dict() for f in found]})
            return exits.OK
        table = grid("failover", "began", "state")
        for each in found:
            table.add_row(each.id, moment(each.entries[0].time), each.state)
        self.out.show(indented(table) if found else Text(f"{self.name}: no failover yet"))
        return exits.OK

    @property
    def _tell(self) -> Reporter:
        return self.out.note

    def _answer(
        self, outcome: GroupOutcome, checked: Mapping[str, Comparison] | None = None
    ) -> int:
        from vreplica.cli.render import failover_text

        checked = checked or {}
        if self.out.as_json:
            check = {name: each.to_dict() for name, each in checked.items()}
            self.out.json({**outcome.to_dict(), **({"check": check} if check else {})})
        else:
            said = (failover_text.comparison(each, name) for name, each in checked.items())
            self.out.show(*report(self.name, outcome), *chain.from_iterable(said))
        bad = outcome.state in ("stopped", "aborted") or bool(outcome.troubles)
        return exits.STOPPED if bad else exits.OK


def order(group: Group) -> Iterator[RenderableType]:
    """Who starts when; bringing down goes the other way."""
    from vreplica.failover.machine.group_order import waves

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
    yield Text.assemble((name, HEAD), f": {outcome.kind} {outcome.id} is ", (outcome.state, HEAD))
    table = grid("job", "state", "point", "level", "downtime>", "trouble~")
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
    from vreplica.failover.machine.choices import OnError

    return OnError(value) if value is not None else None
