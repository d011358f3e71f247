"""Adopting a failover at every state, on the model: the first mover dies at every call.

Another mover knows nothing but the mark on the replica. It ends as the first would have; and the
first, when it comes back, can do nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.failover.test_run import SCENARIOS, YES, no_waiting
from tests.support.failover_model import Killed, Model
from tests.support.reporting import quiet
from vreplica.errors import VReplicaError
from vreplica.failover.machine.journal import load, write_whole
from vreplica.failover.machine.mark import adopted, entries_of, mark_of
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.runner import (
    begin_failover,
    commit_failover,
    resume_failover,
    undo_failover,
)
from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.points.failover_mark import FailoverMark
from vreplica.points.vm_keys import FAILOVER_KEY
from vreplica.sync.errors import FailoverNotHere

__all__ = ["no_waiting"]  # a fixture of all tests

KILLED = [
    *("yes", "no tools, abort", "hangs, use-quiesced", "hangs, power-off", "no", "lost", "back"),
    "disconnected",
]

DERIVED = (FailoverState.SHUTTING_DOWN, FailoverState.SYNCED, FailoverState.BOOTING)
"""States from which the next mark tells: no effect needs to lie between the two."""


def adopt(model: Model, folder: Path) -> FailoverState:
    """Adopts what the model's mark tells, as another mover does. The state that it finds."""
    assert model.mark is not None
    stored = FailoverMark.of({FAILOVER_KEY: model.mark.text})
    assert stored is not None, "the mark cannot be read"
    entries = adopted(entries_of(stored), number={}, by={"by": "mover2"}, at=datetime.now(UTC))
    write_whole(folder, entries)
    model.mark = mark_of(folder.name, entries)
    model.claim = model.mark.id, model.mark.journal
    return outcome_of(folder).state


def check_old_is_refused(old: Path, model: Model) -> None:
    """The first mover comes back, whatever it is told to do."""
    if not load(old) or outcome_of(old).state in ENDED:
        return
    before, calls = (model.mark, model.job_on), list(model.calls)
    for verb in (resume_failover, undo_failover, commit_failover):
        with pytest.raises(VReplicaError) as refused:
            verb(old, model, quiet)
        assert refused.value.exit_code in (3, 9)
    assert (model.mark, model.job_on) == before
    assert model.calls == calls


def killed_at(make: Callable[[], Model], at: int, call: Callable[[Model], Any]) -> Model:
    model = make()
    model.kill.at = at
    with pytest.raises(Killed):
        call(model)
    model.kill.at = None
    return model


@pytest.mark.parametrize("name", KILLED)
def test_adopted_at_every_call_it_ends_as_it_would_have(name: str, tmp_path: Path) -> None:
    make, choices = SCENARIOS[name]
    straight = make()
    expected = begin_failover(tmp_path / "straight" / "f1", straight, choices, quiet)
    seen = set()
    for at in range(straight.kill.passed):
        old, new = tmp_path / f"{at}" / "f1", tmp_path / f"{at}-new" / "f1"
        model = killed_at(make, at, lambda m, old=old: begin_failover(old, m, choices, quiet))
        if not model.adoptable:
            # Nothing was done yet, or all was put back.
            assert (model.source_on, model.replica_on) == (make().source_on, False)
            continue
        state = adopt(model, new)
        seen.add(state)
        check_old_is_refused(old, model)
        outcome = resume_failover(new, model, quiet) if state not in ENDED else outcome_of(new)
        assert outcome.state is expected.state, at
        assert (model.source_on, model.replica_on) == (straight.source_on, straight.replica_on)
        kept = [(p.id, p.level) for p in model.chain]
        assert kept == [(p.id, p.level) for p in straight.chain], at
        known = {k: v for k, v in expected.facts.items() if k not in ("others", "off_since")}
        assert known.items() <= outcome.facts.items(), at
        check_old_is_refused(old, model)
    assert seen, "nothing was adopted"


@pytest.mark.parametrize("name", KILLED)
def test_adopted_at_every_call_it_is_undone(name: str, tmp_path: Path) -> None:
    make, choices = SCENARIOS[name]
    straight = make()
    began = begin_failover(tmp_path / "straight" / "f1", straight, choices, quiet)
    ended = began.state in ENDED
    for at in range(straight.kill.passed):
        old, new = tmp_path / f"{at}" / "f1", tmp_path / f"{at}-new" / "f1"
        model = killed_at(make, at, lambda m, old=old: begin_failover(old, m, choices, quiet))
        if not model.adoptable:
            continue
        adopt(model, new)
        written = model.written
        outcome = undo_failover(new, model, quiet)
        assert outcome.state in (FailoverState.UNDONE, FailoverState.ABORTED), at
        # Given up before the source was touched: it is as it was.
        on = make().source_on or outcome.state is FailoverState.UNDONE
        assert (model.source_on, model.replica_on, model.job_on) == (on, False, True), at
        assert not written or [w for _, w in model.sides] == [written], "what it wrote is kept"
        assert not model.adoptable
        check_old_is_refused(old, model)
        assert (model.source_on, model.replica_on) == (on, False), at
    assert ended or not model.adoptable


@pytest.mark.parametrize("verb", ["undo", "commit"])
@pytest.mark.parametrize("name", ["yes", "no", "disconnected"])
def test_an_undo_and_a_commit_are_adopted_at_every_call(
    name: str, verb: str, tmp_path: Path
) -> None:
    make, choices = SCENARIOS[name]
    act = undo_failover if verb == "undo" else commit_failover

    def both(model: Model, folder: Path) -> Outcome:
        begin_failover(folder, model, choices, quiet)
        return act(folder, model, quiet)

    straight = make()
    begin_failover(tmp_path / "straight" / "f1", straight, choices, quiet)
    first = straight.kill.passed
    expected = act(tmp_path / "straight" / "f1", straight, quiet)
    for at in range(first, straight.kill.passed):
        old, new = tmp_path / f"{at}" / "f1", tmp_path / f"{at}-new" / "f1"
        model = killed_at(make, at, lambda m, old=old: both(m, old))
        if not model.adoptable:
            assert verb == "undo"
            assert (model.source_on, model.replica_on) == (True, False), "both were put back"
            continue
        state = adopt(model, new)
        check_old_is_refused(old, model)
        outcome = act(new, model, quiet) if state not in ENDED else outcome_of(new)
        assert outcome.state is expected.state, at
        assert (model.source_on, model.replica_on) == (straight.source_on, straight.replica_on)
        assert [b.id for b, _ in model.sides] == [b.id for b, _ in straight.sides]


@pytest.mark.parametrize("state", [s for s in FailoverState if s not in ENDED])
def test_every_state_is_told_by_the_mark_and_can_be_left(
    state: FailoverState, tmp_path: Path
) -> None:
    """The table: a mark of each state gives a journal of that state, from which a verb goes on."""
    model, old, new = Model(), tmp_path / "old" / "f1", tmp_path / "new" / "f1"
    back = (FailoverState.KEEPING, FailoverState.UNDOING)
    for at in itertools.count():
        model = Model()
        model.kill.at = at
        old = tmp_path / f"{at}" / "f1"
        try:
            begin_failover(old, model, YES, quiet)
            (undo_failover if state in back else commit_failover)(old, model, quiet)
        except Killed:
            if model.adoptable and model.mark.state == state.value:
                break
        else:
            assert state in DERIVED, state
            return
    model.kill.at = None
    assert adopt(model, new) is state
    assert (
        undo_failover(new, model, quiet).state in ENDED
        if state is not (FailoverState.COMMITTING)
        else commit_failover(new, model, quiet).committed
    )


@pytest.mark.parametrize("effect", ["PowerOn replica", "PowerOff source", "PowerOn source"])
def test_a_mover_that_thaws_before_its_effect_is_refused(effect: str, tmp_path: Path) -> None:
    """Frozen (SIGSTOP) after its last look; meanwhile another machine adopts and undoes."""
    choices = SCENARIOS["no"][1] if effect == "PowerOff source" else YES
    model, old, new = Model(), tmp_path / "old" / "f1", tmp_path / "new" / "f1"
    if effect == "PowerOn source":
        begin_failover(old, model, choices, quiet)
    real = model.hold
    calls: list[str] = []

    def hold(holding: Any) -> None:
        steps = [name for _, kind, name, _ in holding.mark.log if kind == "intent"]
        if steps and steps[-1].startswith(effect) and not calls:
            model.hold = real  # type: ignore[method-assign]
            adopt(model, new)
            undo_failover(new, model, quiet)
            calls.extend(model.calls)
        real(holding)

    model.hold = hold  # type: ignore[method-assign]
    undoes = effect == "PowerOn source"
    act = undo_failover if undoes else partial(begin_failover, choices=choices)
    with pytest.raises(FailoverNotHere):
        act(old, model, report=quiet)
    assert model.calls == calls
    assert (model.source_on, model.replica_on) == (True, False)
