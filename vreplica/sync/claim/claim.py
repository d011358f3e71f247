"""Describes a claim: the writer that has a replica, as the replica itself says it.

    vreplica.claim   {"v": 1, "owner": RUN, "run": RUN, "token": ..., "epoch": 7, "kind": "run",
                      "user": "root", "host": "mover1", "pid": 812, "process": BOOT/NS/PID/START,
                      "since": "...Z", "renewed": "...Z"}

`owner` is what holds the replica: a run, a seed, or a failover from its begin to its end; with
`journal`, the journal of that failover which may act (points/failover_mark.py). `run` is
the run that writes for it now; a point that this run makes freezes the claim, so that

    point.id == claim.run        in a recovery point that its owner made
    point.id != claim.run        in a snapshot that a writer made after it had lost the replica

A claim is taken by a new writer where

    nobody has it                                 empty
    it is its own                                 the same owner, for example a failover's next run;
                                                  of a failover also the same journal
    its process is gone                           on this machine, in this boot and container
    it was not renewed for LEASE_S                by the destination's clock; never a failover's
    the operator says so                          --take-over

Times are the destination's: movers' clocks may differ. What keeps two writers apart is not the
time but the claim itself, the open disks and the checks in `writer.py`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from vreplica.points.vm_keys import CLAIM_KEY
from vreplica.sync.claim.process import is_gone, this_process

FORMAT: Final = 1

LEASE_S: Final = 600.0
"""A claim that was not renewed for so long may be taken over."""

RENEW_S: Final = 120.0
"""A writer renews its claim so often."""


class ClaimKind(StrEnum):
    """The work that a claim is for."""

    RUN = "run"
    SEED = "seed"
    VERIFY = "verification"
    FAILOVER = "failover"


@dataclass(frozen=True, slots=True)
class Claim:
    """One writer's claim of one replica. Times are ISO 8601, the destination's clock, UTC."""

    owner: str
    run: str
    token: str
    epoch: int
    """Counts the claims of a replica, for people; a revert takes it back."""
    kind: str
    user: str
    host: str
    pid: int
    process: str
    since: str
    renewed: str
    journal: str = ""
    """Of a failover: the journal that may act. Claims of older versions name none."""

    @classmethod
    def new(
        cls,
        owner: str,
        kind: ClaimKind,
        *,
        run: str,
        epoch: int,
        now: datetime,
        journal: str = "",
    ) -> Self:
        """A claim of this process."""
        at = now.isoformat(timespec="seconds")
        return cls(
            owner=owner,
            run=run,
            token=uuid.uuid4().hex,
            epoch=epoch,
            kind=kind.value,
            user=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            process=this_process(),
            since=at,
            renewed=_moment(now),
            journal=journal,
        )

    def renew(self, now: datetime) -> Self:
        return replace(self, renewed=_moment(now))

    # -- as it is stored --------------------------------------------------------------------

    @property
    def option(self) -> dict[str, str]:
        """The entry of extraConfig."""
        return {CLAIM_KEY: json.dumps({"v": FORMAT, **asdict(self)}, separators=(",", ":"))}

    @classmethod
    def of(cls, extra_config: Mapping[str, str]) -> Self | None:
        """The claim in a VM's or a snapshot's extraConfig.

        None where there is none, or none that can be read: nobody can prove a claim by it. What a
        newer version adds is not looked at.
        """
        try:
            value: dict[str, Any] = json.loads(extra_config.get(CLAIM_KEY) or "{}")
            found = cls(**{f.name: value[f.name] for f in fields(cls) if f.name in value})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        texts = [getattr(found, f.name) for f in fields(cls) if f.name not in ("epoch", "pid")]
        numbers = (found.epoch, found.pid)
        good = all(isinstance(t, str) for t in texts) and all(type(n) is int for n in numbers)
        return found if good else None

    # -- who may take it --------------------------------------------------------------------

    @property
    def process_is_gone(self) -> bool:
        return is_gone(self.process)

    def idle_s(self, now: datetime) -> float | None:
        """Seconds since it was renewed, by the destination's clock; None where nobody knows."""
        with suppress(ValueError, TypeError, OverflowError):
            return (now - datetime.fromisoformat(self.renewed)).total_seconds()
        return None

    def why_over(self, now: datetime) -> str | None:
        """Says why its owner cannot be working any more; None where it may be."""
        if self.kind == ClaimKind.FAILOVER:
            # A failover waits for days between two commands, and no process runs meanwhile.
            return None
        if self.process_is_gone:
            return "its process is gone"
        idle_s = self.idle_s(now)
        if idle_s is not None and idle_s > LEASE_S:
            return f"it was not renewed for {idle_s / 60:.0f} minutes"
        return None

    @property
    def text(self) -> str:
        """The claim's owner, as a person looks for it."""
        at = re.sub(r"\.\d+", "", self.renewed)
        renewed = f", renewed {at}" if self.kind != ClaimKind.FAILOVER else ""
        return (
            f"{self.kind} {self.owner} ({self.user} on {self.host}, process {self.pid}; "
            f"since {self.since}{renewed})"
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _moment(time: datetime) -> str:
    """As precise as vCenter's events, with which it is compared."""
    return time.isoformat(timespec="milliseconds")
