"""The failover's table: every pair of state and event, and what must hold over all paths."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from vreplica.failover.machine.states import (
    ENDED,
    MAY_HAVE_RUN,
    REPLICA_MAY_BE_ON,
    TRANSITIONS,
    FailoverEvent,
    FailoverState,
    diagram,
    next_state,
)


@pytest.mark.parametrize(("state", "event"), list(product(FailoverState, FailoverEvent)))
def test_every_pair_is_either_in_the_table_or_refused(
    state: FailoverState, event: FailoverEvent
) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"{event} may not happen in state {state}"):
            next_state(state, event)


def paths(
    state: FailoverState = FailoverState.READY, taken: tuple[FailoverEvent, ...] = ()
) -> list[tuple[FailoverEvent, ...]]:
    following = [(event, to) for (at, event), to in TRANSITIONS.items() if at is state]
    if not following:
        return [taken]
    return [p for event, to in following for p in paths(to, (*taken, event))]


def walk(path: tuple[FailoverEvent, ...]) -> list[FailoverState]:
    states = [FailoverState.READY]
    for event in path:
        states.append(next_state(states[-1], event))
    return states


def test_every_path_ends_and_only_in_an_ended_state() -> None:
    ends = {walk(path)[-1] for path in paths()}
    assert ends == ENDED


def test_every_state_and_every_event_is_used() -> None:
    assert {s for path in paths() for s in walk(path)} == set(FailoverState)
    assert {event for _, event in TRANSITIONS} == set(FailoverEvent)


def test_the_replica_starts_only_after_the_fence_and_a_settled_point() -> None:
    for path in paths():
        if FailoverEvent.REPLICA_STARTED in path:
            before = path[: path.index(FailoverEvent.REPLICA_STARTED)]
            assert before[-2:] == (FailoverEvent.POINT_SETTLED, FailoverEvent.FENCE_CHECKED)
            assert {FailoverEvent.SOURCE_SEEN_OFF, FailoverEvent.SOURCE_DECLARED_LOST} & set(before)


def test_the_job_is_disabled_before_anything_else() -> None:
    for path in paths():
        assert path[0] in (
            FailoverEvent.JOB_DISABLED,
            FailoverEvent.GIVEN_UP,
            FailoverEvent.UNDO_ASKED,
        )


def test_a_shutdown_is_requested_only_once_the_insurance_is_settled() -> None:
    for path in paths():
        if FailoverEvent.SHUTDOWN_REQUESTED in path:
            before = set(path[: path.index(FailoverEvent.SHUTDOWN_REQUESTED)])
            assert {FailoverEvent.POINT_A_MADE, FailoverEvent.INSURANCE_SKIPPED} & before


def test_giving_up_is_possible_only_while_the_source_may_be_on() -> None:
    for path in paths():
        if path[-1] is FailoverEvent.GIVEN_UP:
            assert not {FailoverEvent.SOURCE_SEEN_OFF, FailoverEvent.SOURCE_DECLARED_LOST} & set(
                path
            )


def test_until_the_commit_there_is_a_way_back_from_everywhere() -> None:
    none = {FailoverState.COMMITTING, FailoverState.KEEPING, FailoverState.UNDOING, *ENDED}
    back = {FailoverEvent.UNDO_ASKED, FailoverEvent.KEEP_ASKED}
    assert {at for at, event in TRANSITIONS if event in back} == set(FailoverState) - none


def test_what_may_have_been_written_is_kept_before_the_replica_goes_back() -> None:
    asked = {at for at, event in TRANSITIONS if event is FailoverEvent.KEEP_ASKED}
    assert asked == MAY_HAVE_RUN - {FailoverState.KEEPING}
    for path in paths():
        if FailoverEvent.KEEP_ASKED in path and FailoverEvent.COMMIT_ASKED not in path:
            assert path[path.index(FailoverEvent.KEEP_ASKED) + 1] is FailoverEvent.KEPT


def test_the_replica_can_only_be_on_behind_the_fence() -> None:
    for path in paths():
        states = walk(path)
        behind = [s in REPLICA_MAY_BE_ON for s in states]
        if FailoverState.FENCED in states:
            first = states.index(FailoverState.FENCED)
            assert not any(behind[:first])


def test_the_diagram_shows_the_whole_table() -> None:
    text = diagram()
    assert all(f"{a} --> {b}: {event}" in text for (a, event), b in TRANSITIONS.items())


def test_the_documentation_shows_the_table_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "failover.md"
    assert diagram() in page.read_text()
