"""Describes the mark of a failover on its replica: the failover's journal in short.

    vreplica.failover   {"v": 1, "id": "fo-...", "state": "running", "point": "...",
                         "began": "...Z", "journal": "4f1c...",
                         "log": [[0.0, "begin", "", {choices}],
                                 [0.4, "event", "job disabled", {}],
                                 [9.7, "intent", "ShutdownGuest source", {}], ...], "sum": "..."}

A line of the log is one entry of the journal: seconds since it began, kind, name, data. The log has
the choices, every event with its facts, and the first intent of each effect: all that another
mover needs to continue (failover/machine/mark.py). `journal` names the journal that may act: a
mover that adopts the failover begins another one.

The mark means something only beside the claim of its failover, or the leaf's mark: a revert brings
an old one back. After an undo, and after a failback's commit, it has the state `over` and no log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, Self

from vreplica.points.vm_keys import FAILOVER_KEY
from vreplica.stored import Damaged, Data, Id, Layout, Moment, Text, check_json, seal_json

FORMAT: Final = 1

OVER: Final = "over"
"""The state of a failover that has given the replica back."""

Line = tuple[float, Literal["begin", "event", "intent"], Text, Data]
"""Seconds since the failover began, kind, name of the event or effect, data."""


class _Stored(Layout):
    v: int
    id: Id
    state: Text
    point: Id | None = None
    began: Moment
    journal: Text
    log: list[Line]


@dataclass(frozen=True, slots=True)
class FailoverMark:
    """A failover as its replica tells it. `state`: a value of `FailoverState`."""

    id: str
    state: str
    point: str | None
    """The point that boots, once it is settled."""
    began: datetime
    journal: str
    log: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The value of the entry of extraConfig."""
        value: dict[str, Any] = {
            "v": FORMAT,
            "id": self.id,
            "state": self.state,
            "point": self.point,
            "began": self.began.isoformat(),
            "journal": self.journal,
            "log": self.log,
        }
        return seal_json(json.dumps(value, separators=(",", ":")))

    @property
    def over(self) -> FailoverMark:
        """The mark that stays when the failover gives the replica back. Its journal is told to
        those of other movers, which come back later."""
        return replace(self, state=OVER, log=())

    @classmethod
    def of(cls, extra_config: Mapping[str, str]) -> Self | None:
        """The mark in a VM's extraConfig; None where there is none that can be believed."""
        text = extra_config.get(FAILOVER_KEY, "")
        with suppress(Damaged):
            check_json(text)
            found = _Stored.parse(text)
            if found.v == FORMAT:
                return cls(
                    id=found.id,
                    state=found.state,
                    point=found.point,
                    began=found.began,
                    journal=found.journal,
                    log=tuple(found.log),
                )
        return None


def is_newer(extra_config: Mapping[str, str]) -> bool:
    """True where only a newer version can read the mark."""
    with suppress(ValueError, AttributeError, RecursionError):
        found = json.loads(extra_config.get(FAILOVER_KEY) or "{}").get("v", FORMAT)
        return isinstance(found, int) and found > FORMAT
    return False
