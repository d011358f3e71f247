"""Where a VM is in service, and where its failover stands, by the sites' names."""

from __future__ import annotations

import pytest

from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.failover.standing import (
    ARRIVED,
    BOOTED,
    OFF_AT_BOTH,
    Sides,
    Standing,
    current,
    in_words,
    site_of,
)
from vreplica.failover.standing import ENDED as ENDED_HERE

SIDES = Sides("main", "dr")
AT = {
    "ready": "main",
    "disabled": "main",
    "insured": "main",
    "shutting-down": "main",
    "source-off": None,
    "synced": None,
    "fenced": None,
    "booting": "dr",
    "running": "dr",
    "booted": "dr",
    "committing": "dr",
    "committed": "dr",
    "keeping": None,
    "undoing": None,
    "undone": "main",
    "aborted": "main",
}
OTHER = {"main": "dr", "dr": "main", None: None}


def test_it_knows_every_state_of_a_failover() -> None:
    states = {state.value for state in FailoverState}
    assert states <= AT.keys()
    assert {state.value for state in ENDED} == ENDED_HERE
    assert states | {BOOTED} >= ARRIVED | OFF_AT_BOTH


@pytest.mark.parametrize(("state", "site"), AT.items())
def test_a_vm_is_at_one_site_or_off_and_a_failback_goes_the_other_way(
    state: str, site: str | None
) -> None:
    there, back = Standing("fo-1", state), Standing("fb-1", state)
    assert site_of(there, SIDES) == site
    assert site_of(back, SIDES) == OTHER[site]
    said = in_words(there, SIDES)
    assert "fo-1" in said
    assert "dr" in said or "main" in said
    if state in ("running", "committed", "booted"):
        assert "in service at dr" in said
        assert "back at main" in in_words(back, SIDES)


def test_a_state_of_a_newer_version_is_shown_as_it_is() -> None:
    assert in_words(Standing("fo-1", "held"), SIDES) == "moving to dr: held, fo-1"


@pytest.mark.parametrize(
    ("known", "chosen", "site"),
    [
        ([], None, "main"),
        ([("fo-1", "undone"), ("fo-2", "aborted")], None, "main"),
        ([("fo-1", "committed"), ("fo-2", "aborted")], "fo-1", "dr"),
        ([("fo-1", "committed"), ("fb-2", "insured")], "fb-2", "dr"),
        ([("fo-1", "committed"), ("fb-2", "undone")], "fo-1", "dr"),
        ([("fo-1", "committed"), ("fb-2", "running")], "fb-2", "main"),
        ([("fo-1", "committed"), ("fb-2", "committed")], "fb-2", "main"),
        ([("fo-1", "committed"), ("fb-2", "committed"), ("fo-3", "synced")], "fo-3", None),
    ],
)
def test_the_newest_that_has_not_ended_says_where_the_vm_is(
    known: list[tuple[str, str]], chosen: str | None, site: str | None
) -> None:
    found = current([Standing(*one) for one in known])
    assert (found.id if found else None) == chosen
    assert site_of(found, SIDES) == site
