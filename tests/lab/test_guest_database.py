"""The database in the guest over a disk in memory: what a cut, a sync and a freeze leave."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from vreplica.lab.guest.database import GuestApp, inspect_image
from vreplica.lab.guest.sqlite_vfs import BASE, NAMES, PAGE, ROOM, DiskFileSystem

NAME = NAMES[1]


class Disk(bytearray):
    def write(self, offset: int, data: bytes) -> None:
        self[offset : offset + len(data)] = data

    def reader(self, offset: int, size: int) -> bytes:
        return bytes(self[offset : offset + size])


@pytest.fixture
def disk() -> Disk:
    return Disk(18 << 20)


def app_on(disk: Disk, seed: int = 0) -> GuestApp:
    chains = SimpleNamespace(
        read=lambda key, offset, size: disk.reader(offset, size),
        write=lambda key, offset, data: disk.write(offset, bytes(data)),
    )
    vm: Any = SimpleNamespace(chains=chains, guest_state=SimpleNamespace(hook=None))
    app = GuestApp(vm, seed=seed)
    app.start()
    return app


@pytest.mark.parametrize("seed", range(5))
def test_files_read_as_written_and_only_a_sync_is_for_the_next_boot(disk: Disk, seed: int) -> None:
    chance, model, synced = random.Random(seed), bytearray(), b""
    files = DiskFileSystem(disk.reader, disk.write)
    files.resize(NAME, 0)
    for _ in range(300):
        kind, at = chance.randrange(5), chance.randrange(5 * PAGE)
        if kind < 2:
            data = chance.randbytes(chance.randrange(2 * PAGE))
            files.write(NAME, at, data)
            if data:
                model.extend(bytes(max(0, at - len(model))))
                model[at : at + len(data)] = data
        elif kind == 2:
            files.resize(NAME, at)
            model = model[:at].ljust(at, b"\0")
        elif kind == 3:
            files.sync(NAME)
            synced = bytes(model)
            again = DiskFileSystem(disk.reader, disk.write)
            assert again.read(NAME, 0, ROOM) == synced
        assert files.read(NAME, 0, ROOM) == model
        assert files.read(NAME, at, 100) == model[at : at + 100]
    files.sync(NAME)
    before = bytes(disk)
    files.write(NAME, 0, b"x" * PAGE)
    assert disk == before


def test_a_file_that_outgrows_its_room_is_refused(disk: Disk) -> None:
    files = DiskFileSystem(disk.reader, disk.write)
    with pytest.raises(apsw.FullError):
        files.resize(NAME, ROOM + 1)
    disk.write(BASE, b'["no directory"]')
    with pytest.raises(ValueError, match="something else"):
        DiskFileSystem(disk.reader, disk.write)
    assert not inspect_image(disk.reader).opens


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_loses_what_was_acknowledged_last_and_never_the_database(
    disk: Disk, share: float
) -> None:
    app = app_on(disk)
    for turn in range(12):
        done = app.work(1 + 5 * turn)
        app.write_back(share)
        found = inspect_image(disk.reader)
        assert found.opens
        assert found.level(done) == "crash"
    app.on_event("lost")
    with pytest.raises(ValueError, match="does not run"):
        app.work(1)
    app.on_event("start")
    assert 0 < app.acknowledged < done
    # Recovered in memory and not on the disk yet, as any other write.
    assert inspect_image(disk.reader).transactions == app.acknowledged


def test_levels_of_an_image_are_those_of_how_it_was_taken(disk: Disk) -> None:
    app = app_on(disk)
    done = app.work(20)
    assert inspect_image(disk.reader).level(done) == "crash"
    app.on_event("sync")
    assert inspect_image(disk.reader).level(done) == "filesystem"
    app.on_event("thaw")
    done = app.work(1)
    app.on_event("freeze")
    app.on_event("sync")
    # The half of a transfer that was in the application's memory is there, too.
    assert app.acknowledged == done + 1
    assert inspect_image(disk.reader).level(done + 1) == "application"
    app.on_event("thaw")
    done = app.work(3)
    app.on_event("stop")
    image = bytes(disk)
    assert inspect_image(disk.reader).level(done + 1) == "application"
    assert disk == image


def test_a_frozen_guest_holds_its_work_until_it_is_thawed(disk: Disk) -> None:
    app = app_on(disk)
    app.on_event("sync")
    frozen, image = app.acknowledged, bytes(disk)
    worker = threading.Thread(target=app.work, args=(5,))
    worker.start()
    worker.join(0.05)
    assert worker.is_alive()
    assert (app.acknowledged, bytes(disk)) == (frozen, image)
    app.on_event("thaw")
    worker.join(10)
    assert app.acknowledged == frozen + 9
