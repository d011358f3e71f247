"""The failover's mark on a replica, as the version that introduced it has written it."""

from __future__ import annotations

import json

import pytest

from vreplica.failover.machine.journal import load, write_whole
from vreplica.failover.machine.mark import entries_of, mark_of
from vreplica.failover.machine.states import FailoverState
from vreplica.points.failover_mark import FailoverMark, is_newer
from vreplica.points.vm_keys import FAILOVER_KEY
from vreplica.stored import Damaged, seal_json

FIRST = (
    '{"v":1,"id":"fo-1","state":"shutting-down","point":null,"began":'
    '"2026-11-30T18:43:23.681108+00:00","journal":"","log":[[0.0,"begin","",{"final_sync":"yes",'
    '"on_shutdown_timeout":"abort","shutdown_timeout_s":20,"heartbeat_timeout_s":20,"point":null,'
    '"require":"crash","source_lost":false,"max_downtime_s":null,"disconnect_source_nics":true}],'
    '[0.001,"intent","disable job",{}],[0.003,"event","job disabled",{}],[0.037,"intent",'
    '"sync fo-20261130T184323Z-833ee2-a",{}],[0.419,"event","point A made",{"point_a":'
    '"fo-20261130T184323Z-833ee2-a","level_a":"crash"}],[0.426,"intent","ShutdownGuest source",'
    '{}],[0.429,"event","shutdown requested",{}]],"sum":"fb512c9baa163aaa"}'
)


def of(text: str) -> FailoverMark | None:
    return FailoverMark.of({FAILOVER_KEY: text})


def changed(**values: object) -> str:
    return seal_json(json.dumps({**json.loads(FIRST.partition(',"sum"')[0] + "}"), **values}))


def test_a_mark_of_the_first_version_gives_a_journal(tmp_path) -> None:
    mark = of(FIRST)
    assert mark is not None
    write_whole(tmp_path / "fo-1", entries_of(mark))
    entries = load(tmp_path / "fo-1")
    assert mark_of("fo-1", entries) == mark
    assert mark.state == FailoverState.SHUTTING_DOWN.value
    assert [e.step for e in entries if e.kind == "intent"][-1] == "ShutdownGuest source"
    assert entries[0].data["disconnect_source_nics"] is True


def test_a_mark_that_a_newer_version_has_written_is_told_apart() -> None:
    newer = changed(v=2)
    assert of(newer) is None
    assert is_newer({FAILOVER_KEY: newer})
    assert not is_newer({FAILOVER_KEY: FIRST})
    assert not is_newer({})


def test_a_mark_that_contradicts_itself_gives_no_journal() -> None:
    for log in ([], [[0.0, "event", "job disabled", {}]], [[0.0, "begin", "", {}]]):
        mark = of(changed(log=log))
        assert mark is not None
        with pytest.raises(Damaged):
            entries_of(mark)
    assert of(FIRST.replace("fo-1", "fo-2")) is None, "its checksum does not fit"
