"""Reads from a replica's own marks which failover has it, whatever this machine remembers.

    vreplica.claim      owner of kind `failover`         since versions that claim the replica
    vreplica.failover   state, point, the journal        since versions whose failovers are adopted
    vreplica.leaf       "booted by fo-..."               every version, once the replica may run

A mark alone proves nothing: a revert may have brought it back. It counts beside a claim or a leaf
that names the same failover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from vreplica.points.failover_mark import FailoverMark, is_newer
from vreplica.points.vm_keys import BOOTED, LEAF_KEY
from vreplica.sync.claim.claim import Claim, ClaimKind

_IN_SERVICE: Final = frozenset({"booting", "running", "committing", "committed", "keeping"})
"""Values of `FailoverState` in which the replica is in service."""


@dataclass(frozen=True, slots=True)
class InFailover:
    """The failover that has a replica, as the replica tells it."""

    failover: str
    booted: bool
    """The replica's disks may hold what its guest has written."""
    claim: Claim | None
    """None: it is of a version that claimed nothing."""
    mark: FailoverMark | None
    """None: it is of a version that marked less, or the mark is damaged."""
    newer: bool
    """The mark is of a newer version."""

    @property
    def state(self) -> str | None:
        """A value of `FailoverState`; None: the marks do not tell."""
        return self.mark.state if self.mark is not None else None

    @property
    def in_service(self) -> bool:
        return self.state in _IN_SERVICE if self.state is not None else self.booted

    @property
    def mover(self) -> str | None:
        """The host name of the mover that has it; None: the marks do not tell."""
        return self.claim.host if self.claim is not None else None

    @property
    def began(self) -> datetime | None:
        if self.mark is not None:
            return self.mark.began
        try:
            return datetime.strptime(self.failover[3:19], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def in_words(self) -> str:
        """`is in service by failover fo-... of TIME, from mover M (running)`."""
        kind = "failback" if self.failover.startswith("fb-") else "failover"
        verb = "is in service by" if self.in_service else "is in the hands of"
        began = f" of {self.began:%Y-%m-%d %H:%M:%S} UTC" if self.began is not None else ""
        mover = f", from mover {self.mover}" if self.mover is not None else ""
        state = f" ({self.state})" if self.state is not None else ""
        return f"{verb} {kind} {self.failover}{began}{mover}{state}"


def in_failover(extra_config: Mapping[str, str]) -> InFailover | None:
    """The failover that has a replica, by its extraConfig; None: none has."""
    found = Claim.of(extra_config)
    claim = found if found is not None and found.kind == ClaimKind.FAILOVER else None
    leaf = extra_config.get(LEAF_KEY, "")
    booted = leaf.removeprefix(BOOTED) if leaf.startswith(BOOTED) else None
    failover = booted or (claim.owner if claim is not None else None)
    if failover is None:
        return None
    mark = FailoverMark.of(extra_config)
    return InFailover(
        failover=failover,
        booted=booted is not None,
        claim=claim if claim is not None and claim.owner == failover else None,
        mark=mark if mark is not None and mark.id == failover else None,
        newer=is_newer(extra_config),
    )
