"""Answers of a server, damaged at random: BadReply or another error of the server, no defect.

Real answers of the lab are recorded, one is changed, and the same question is asked again over
pyVmomi's own reader. Change areas are compared as well: what is accepted names places on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from random import Random
from typing import Any

import pytest
from pyVmomi import SoapAdapter

from tests.support.mutations import mutated, no_longer_than, one_bit
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.lab import LabControl
from vreplica.units import MIB
from vreplica.vsphere.connection import fit, tasks
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.operations import snapshots
from vreplica.vsphere.session import Session

CAPACITY = 8 * MIB
Question = Callable[[Session], Any]


class Replay:
    """Gives recorded answers in their order, and hangs up behind the last."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        self.answers: Iterator[bytes] = iter(())

    def __call__(self, mo: Any, info: Any, args: Any, outerStub: Any = None) -> Any:
        data = next(self.answers, None)
        if data is None:
            raise HTTPException("no further answer")
        found = SoapAdapter.SoapResponseDeserializer(self.stub).Deserialize(data, info.result)
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Recording:
    """A question, and the answers that it took."""

    ask: Question
    answers: list[bytes]


@contextmanager
def recorded(into: list[bytes]) -> Iterator[None]:
    """Keeps each answer that is read inside."""
    real = SoapAdapter.SoapResponseDeserializer.Deserialize

    def keep(self: Any, response: Any, *more: Any, **named: Any) -> Any:
        data = response if isinstance(response, bytes) else response.read()
        into.append(data)
        return real(self, data, *more, **named)

    SoapAdapter.SoapResponseDeserializer.Deserialize = keep
    try:
        yield
    finally:
        SoapAdapter.SoapResponseDeserializer.Deserialize = real


@pytest.fixture(scope="module")
def recordings(control: LabControl, source: Session) -> list[Recording]:
    disks = [(CAPACITY, True, None)]
    control.create_vm("site-a", "hostile", disks=disks, power_on=True, guest_id="ubuntu64Guest")
    ref = source.find_vm("hostile")
    source.enable_cbt(ref)
    source.remove_snapshot(ref, source.create_snapshot(ref, "stun").moref)
    first = source.create_snapshot(ref, "one")
    control.guest_write("site-a", "hostile", 2000, MIB, b"x" * 4096)
    second = source.create_snapshot(ref, "two")
    since = first.disks[0].change_id or ""
    info = source.read_vm(ref)
    questions: list[Question] = [
        lambda s: s.find_vm("hostile"),
        lambda s: s.read_vm(ref),
        lambda s: s.read_snapshots(ref),
        lambda s: s.read_guest(ref),
        lambda s: s.power_state(ref),
        lambda s: s.datastores(),
        lambda s: s.hosts(),
        lambda s: s.networks(),
        lambda s: s.events(ref),
        lambda s: s.recent_tasks(ref),
        lambda s: s.vm_locations(),
        lambda s: s.missing_privileges(info),
        lambda s: s.refresh(),
        lambda s: s.changed_extents(ref, second.moref, 2000, since, CAPACITY),
        lambda s: s.set_extra_config(ref, {"vreplica.x": "1"}),
        lambda s: s.remove_snapshot(ref, second.moref),
    ]
    found = []
    for ask in questions:
        answers: list[bytes] = []
        with recorded(answers):
            ask(source)
        found.append(Recording(ask, answers))
    return found


@pytest.fixture
def replay(source: Session, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Answers in place of the server of `source`."""
    link = source._link
    made = Replay(link._stub)
    monkeypatch.setattr(link._stub, "InvokeMethod", fit.checked(made))
    for name, module in (("FIRST_POLL_S", tasks), ("LAST_POLL_S", tasks)):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(snapshots, "CONSOLIDATION_PAUSE_S", 0.0)
    return made


def over(seeds: range, source: Session, recordings: list[Recording], replay: Replay) -> None:
    session = Session(source._link, patience_s=0.0)
    read = 0
    for seed in seeds:
        random = Random(seed)
        recording = random.choice(recordings)
        answers = list(recording.answers)
        at = random.randrange(len(answers))
        change = one_bit if random.random() < 0.3 else mutated
        answers[at] = change(answers[at], random)
        replay.answers = iter(answers)
        with no_longer_than(30):
            try:
                found = recording.ask(session)
                read += 1
            except VReplicaError as error:
                error.explain()
                continue
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
        if isinstance(found, Extents):
            assert found.end <= CAPACITY, f"seed {seed}"
        if isinstance(found, VmRef):
            assert isinstance(found.moref, str), f"seed {seed}"
    assert read > len(seeds) // 20, "most answers are refused: is anything read?"


def test_damaged_answers_end_no_command(
    source: Session, recordings: list[Recording], replay: Replay
) -> None:
    over(range(400), source, recordings, replay)


@pytest.mark.slow
def test_many_damaged_answers_end_no_command(
    source: Session, recordings: list[Recording], replay: Replay
) -> None:
    over(range(1000, 11_000), source, recordings, replay)
