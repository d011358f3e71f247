"""An undo before it is decided, as people read it. Pure: values in, renderables out."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli.render.text import HEAD, facts, moment
from vreplica.failover.undo_preview import GroupUndoPreview, UndoPreview
from vreplica.units import human_size


def preview(known: UndoPreview | GroupUndoPreview) -> Iterator[RenderableType]:
    members = known.members if isinstance(known, GroupUndoPreview) else (known,)
    for one in members:
        yield Text.assemble((one.job, HEAD), f": undo of {one.failover} ({one.state})")
        started = f", since {moment(one.since)}" if one.since is not None else ""
        stops = f"{one.vm} at {one.site}{started}" if one.written is not None else ""
        yield facts(
            ("stops", [stops]),
            ("written", [written(one)] if one.written is not None else []),
            ("kept as", [kept(one)] if one.written is not None else []),
            ("runs again", [f"{one.back_to_vm} at {one.back_to_site}"]),
        )


def written(one: UndoPreview) -> str:
    """The size of what its VM has written in service."""
    if one.written is None or one.written.bytes_ == 0:
        return "nothing"
    if one.written.bytes_ is None:
        return "not known"
    size = human_size(one.written.bytes_)
    return size if one.written.exact else f"about {size} (size of its newest disk files)"


def kept(one: UndoPreview) -> str:
    """The place where the undo keeps that."""
    if one.keeps is not None:
        return f"side branch {one.keeps}"
    nothing = one.written is None or one.written.bytes_ == 0
    return "" if nothing else "nothing: it is thrown away"


def consequence(known: UndoPreview | GroupUndoPreview) -> str:
    """The consequence of an undo, in one sentence."""
    members = known.members if isinstance(known, GroupUndoPreview) else (known,)
    return "; ".join(_consequence(one) for one in members)


def _consequence(one: UndoPreview) -> str:
    if one.written is None:
        return f"undo: {one.vm} was not started; {one.back_to_vm} runs at {one.back_to_site}"
    since = f" since {moment(one.since)}" if one.since is not None else ""
    return (
        f"undo shuts {one.vm} down at {one.site} and starts {one.back_to_vm} at "
        f"{one.back_to_site}; written there{since}: {written(one)}"
        + (f"; {kept(one)}" if kept(one) else "")
    )
