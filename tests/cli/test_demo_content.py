"""The demo's content: the same each time, inside the disks, and what it is said to be."""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise

import pytest

from vreplica.cli.commands.demo import content


@pytest.fixture(scope="module")
def first() -> list[content.Write]:
    return list(content.before())


CAPACITY = {content.SYSTEM: content.SYSTEM_CAPACITY, content.DATA: content.DATA_CAPACITY}


def test_everything_is_inside_its_disk_and_reaches_its_end(first: list[content.Write]) -> None:
    ends: dict[str, int] = {}
    for write in [*first, *content.changes()]:
        assert write.offset >= 0
        assert write.data
        ends[write.disk] = max(ends.get(write.disk, 0), write.offset + len(write.data))
    assert ends == CAPACITY


def test_pieces_of_the_first_content_do_not_overlap(first: list[content.Write]) -> None:
    pieces = sorted((w.disk, w.offset, w.offset + len(w.data)) for w in first)
    for (disk, _, end), (other, start, _) in pairwise(pieces):
        assert disk != other or end <= start


def test_it_is_the_same_each_time(first: list[content.Write]) -> None:
    assert list(content.changes()) == list(content.changes())
    assert next(w for w in first if w.what == "table").data == content.table()


def test_the_archive_holds_the_running_interpreters_modules() -> None:
    with tarfile.open(fileobj=io.BytesIO(content.python_library())) as archive:
        member = archive.extractfile("tarfile.py")
        assert member is not None
        assert b"class TarFile" in member.read()


def test_the_log_is_one_text_wherever_it_is_cut() -> None:
    whole = content.log_text(0, 1000)
    assert len(whole) == 1000
    assert content.log_text(0, 130) + content.log_text(130, 870) == whole
    assert whole.splitlines()[0].startswith(b"0000000000 node0 worker[00] done in")


def test_what_is_saved_again_is_what_was_there(first: list[content.Write]) -> None:
    archive = next(w for w in first if w.what == "archive")
    again = next(w for w in content.changes() if "unchanged" in w.what)
    assert again.offset == archive.offset
    assert archive.data.startswith(again.data)
