"""Shows what `failover adopt` would continue, and what it has adopted. Pure: JSON in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from vreplica.cli.render.text import BAD, GOOD, HEAD, facts

POWER: Final = {"poweredOn": "on", "poweredOff": "off"}

NEXT: Final = {
    "running": "`vreplica-sync commit JOB` keeps it in service, `vreplica-sync undo JOB` goes back",
    "committing": "`vreplica-sync commit JOB` ends the commit",
    "committed": "`vreplica-sync failback JOB` brings the VM back",
    "keeping": "`vreplica-sync undo JOB` continues the undo",
    "undoing": "`vreplica-sync undo JOB` continues the undo",
}
HALF_WAY: Final = (
    "`vreplica-sync failover resume JOB` continues it, `vreplica-sync undo JOB` goes back"
)


def consequence(found: Mapping[str, Any]) -> str:
    """One sentence for the operator who confirms it."""
    sides = f"the replica is {_power(found['replica'])}, the source is {_source(found)}"
    if found["failover"] is None:
        over = ", ".join(found["set_aside"])
        return (
            f"{found['job']}: no failover has the replica; what this machine remembers of {over} "
            f"is set aside, and the job is switched on; {sides}"
        )
    if found["by_hand"] is not None:
        return (
            f"{found['job']}: the replica was started {found['by_hand']}, by no failover; adopt "
            f"takes it as in service, as failover {found['failover']}; {sides}"
        )
    mover = found["mover"] or "the mover that had it"
    return (
        f"{found['job']}: adopt continues {found['failover']} ({found['state']}) on this machine; "
        f"{mover} can do nothing with it any more; {sides}"
    )


def adopted(value: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The outcome of one job, or of each member of a group."""
    if "members" not in value:
        yield from _of_job(value)
        return
    for member in value["members"]:
        yield from _of_job(member)
    for job, reason in value["troubles"].items():
        yield Text.assemble((job, HEAD), ": not adopted: ", (reason, BAD))
    group = f"group:{value['group']}"
    if value["failover"] is not None:
        text = f": {value['failover']} is {value['state']}; `vreplica-sync failover show {group}`"
        yield Text.assemble((group, HEAD), text)


def _of_job(value: Mapping[str, Any]) -> Iterator[RenderableType]:
    job, state = value["job"], value["state"]
    if value["failover"] is None:
        yield Text.assemble((job, HEAD), ": no failover has the replica; the job is on again")
        next_ = f"`vreplica-sync plan {job}` shows the next run"
    else:
        had = "is this machine's already" if value["here"] else "is this machine's now"
        yield Text.assemble((job, HEAD), f": {value['failover']} {had}, ", (str(state), GOOD))
        next_ = NEXT.get(str(state), HALF_WAY).replace("JOB", job)
    rows = {
        "replica": _power(value["replica"]),
        "source": _source(value),
        "had it": value["mover"],
        "started": value["by_hand"],
        "point": value["facts"].get("point"),
        "set aside": ", ".join(value["set_aside"]),
        "next": next_,
    }
    yield facts(*((name, [text]) for name, text in rows.items() if text))
    if value["both_on"]:
        yield Text("both VMs are on: shut one of them down", BAD)


def _power(state: str) -> str:
    return POWER.get(state, state)


def _source(found: Mapping[str, Any]) -> str:
    if found["source"] is None:
        return f"not known ({found['source_trouble']})"
    return _power(found["source"])
