"""The library in a helper process: data paths, crashes, hangs, and the end of either side."""

from __future__ import annotations

import logging
import mmap
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.disk import Arena
from vreplica.disk_errors import DiskAccessError
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.errors import (
    HelperDied,
    HelperFailed,
    HelperTimeout,
    LibraryIncomplete,
    LibraryNotFound,
    LibraryNotLoadable,
)
from vreplica.vddk.open import open_vddk_disk


def pid_of(disk: VddkDisk) -> int:
    assert disk.helper_pid is not None
    return disk.helper_pid


def is_gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped by whoever inherited it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def wait_until_gone(pid: int, limit_s: float = 10) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if is_gone(pid):
            return True
        time.sleep(0.02)
    return False


Reports = Callable[[str], list[str]]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Reports:
    """`reports("mapped")`: the files that a helper has mapped ("holds": has open) at Open.

    It says so itself, since it is not dumpable and so not everybody may look from outside.
    """
    monkeypatch.setenv("DUMMY_REPORT", "1")
    caplog.set_level(logging.DEBUG, "vreplica.vddk")

    def collect(word: str) -> list[str]:
        # Log lines come on a thread of their own, after the answer perhaps.
        end = time.monotonic() + 10
        while "end of report" not in caplog.messages and time.monotonic() < end:
            time.sleep(0.01)
        assert "end of report" in caplog.messages
        lines = [r.message.removeprefix(f"{word} ") for r in caplog.records if word in r.message]
        caplog.clear()
        return lines

    return collect


def test_the_library_is_not_loaded_into_this_process(
    build_dummy: Any, dummy: Any, reports: Reports
) -> None:
    config = VddkConfig(libdir=build_dummy())
    with open_vddk_disk(config, VddkConnection(), str(dummy.disk(bytes(MIB)))) as disk:
        assert str(config.libdir) not in Path("/proc/self/maps").read_text()
        assert any(str(config.libdir) in line for line in reports("mapped"))
    assert is_gone(pid_of(disk))


def test_each_disk_has_a_helper_of_its_own(dummy: Any) -> None:
    first, second = (dummy.open(dummy.disk(bytes(MIB), name)) for name in ("a", "b"))
    os.kill(pid_of(first), signal.SIGKILL)
    with pytest.raises(HelperDied):
        first.read_into(0, memoryview(bytearray(512)))
    second.read_into(0, memoryview(bytearray(512)))
    first.close()
    second.close()


def test_reads_land_in_an_arena_without_passing_through_this_process(dummy: Any) -> None:
    content = os.urandom(4 * MIB)
    arena = Arena(8 * MIB)
    with dummy.open(dummy.disk(content)) as disk:
        disk.register(arena)
        disk.register(arena)
        before = disk._backend._slots[: 4 * MIB]
        disk.read_many([(0, arena.view[MIB : 3 * MIB]), (2 * MIB, arena.view[5 * MIB : 7 * MIB])])
        assert disk._backend._slots[: 4 * MIB] == before == bytes(4 * MIB), "slots were not used"
    assert arena.view[MIB : 3 * MIB] == content[: 2 * MIB]
    assert arena.view[5 * MIB : 7 * MIB] == content[2 * MIB :]
    arena.close()


def test_a_closed_arena_is_forgotten_on_both_sides(dummy: Any, reports: Reports) -> None:
    """A disk outlives the arenas of several copies, and their addresses are used again."""
    content = os.urandom(2 * MIB)
    with dummy.open(dummy.disk(content), read_only=False) as disk:
        for _ in range(3):
            arena = Arena(2 * MIB)
            disk.register(arena)
            disk.read_into(0, arena.view)
            assert arena.view == content
            arena.close()
            with mmap.mmap(-1, 2 * MIB) as other, memoryview(other) as view:
                disk.read_into(0, view)
                assert view == content
        last = Arena(MIB)
        disk.register(last)
        assert list(disk._backend._arenas.values()) == [last]
        reports("mapped")
        disk.flush()
        assert len([line for line in reports("mapped") if "vreplica-arena" in line]) == 1
        disk.read_into(MIB, last.view)
        assert last.view == content[MIB:]
    last.close()


def test_requests_mix_two_arenas_and_foreign_memory(dummy: Any) -> None:
    content = os.urandom(40 * MIB)
    arenas = [Arena(8 * MIB), Arena(8 * MIB)]
    foreign = memoryview(bytearray(24 * MIB))
    with dummy.open(dummy.disk(content), io_depth=2) as disk:
        for arena in arenas:
            disk.register(arena)
        disk.read_many(
            [
                (32 * MIB, arenas[1].view),
                (8 * MIB, foreign),
                (0, arenas[0].view),
            ]
        )
    assert arenas[0].view == content[: 8 * MIB]
    assert foreign == content[8 * MIB : 32 * MIB]
    assert arenas[1].view == content[32 * MIB :]
    for arena in arenas:
        arena.close()


def test_writes_from_arena_and_foreign_memory_arrive(dummy: Any) -> None:
    path = dummy.disk(bytes(20 * MIB))
    content = os.urandom(20 * MIB)
    arena = Arena(4 * MIB)
    arena.view[:] = content[: 4 * MIB]
    with dummy.open(path, read_only=False, io_depth=3) as disk:
        disk.register(arena)
        disk.write_many([(4 * MIB, memoryview(content)[4 * MIB :]), (0, arena.view)])
        disk.flush()
    assert path.read_bytes() == content
    arena.close()


def test_a_crash_of_the_library_fails_the_disk_with_its_last_words(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    disk = dummy.open(path, read_only=False)
    dummy.fault(path, "read segv")
    with pytest.raises(HelperDied, match=r"SIGSEGV.*about to crash in read") as caught:
        disk.read_into(0, memoryview(bytearray(512)))
    assert caught.value.retryable
    assert caught.value.remedy
    assert str(path) in str(caught.value)
    with pytest.raises(HelperDied, match="SIGSEGV"):
        disk.allocated()
    assert is_gone(pid_of(disk))
    disk.close()
    disk.close()


def test_an_exit_of_the_library_fails_the_disk(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    with dummy.open(path) as disk:
        dummy.fault(path, "read exit")
        with pytest.raises(HelperDied, match="ended by itself with status 3"):
            disk.read_into(0, memoryview(bytearray(512)))


def test_a_crash_while_opening_is_reported(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    dummy.fault(path, "open segv")
    with pytest.raises(HelperDied, match="SIGSEGV"):
        dummy.open(path)


def test_a_hang_of_the_library_ends_at_the_limit(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    disk = dummy.open(path, timeout_s=2.0)
    dummy.fault(path, "read hang")
    started = time.monotonic()
    with pytest.raises(HelperTimeout, match="a read did not end within 2 s") as caught:
        disk.read_into(0, memoryview(bytearray(512)))
    assert 1.9 < time.monotonic() - started < 10
    assert caught.value.retryable
    assert is_gone(pid_of(disk)), "killed, so that it cannot write into shared memory later"
    disk.close()


def test_a_stopped_helper_ends_at_the_limit(dummy: Any) -> None:
    with dummy.open(dummy.disk(bytes(MIB)), timeout_s=2.0, read_only=False) as disk:
        os.kill(pid_of(disk), signal.SIGSTOP)
        with pytest.raises(HelperTimeout, match="a flush"):
            disk.flush()
        assert is_gone(pid_of(disk))


def test_a_helper_killed_in_the_middle_of_a_read_is_noticed_at_once(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    disk = dummy.open(path)
    dummy.fault(path, "read hang")
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {pid_of(disk)}"])
    started = time.monotonic()
    with pytest.raises(HelperDied, match="SIGKILL"):
        disk.read_into(0, memoryview(bytearray(512)))
    assert time.monotonic() - started < 10
    killer.wait()
    disk.close()


PARENT = """
import sys, time
from pathlib import Path
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk
disk = open_vddk_disk(VddkConfig(libdir=Path(sys.argv[1])), VddkConnection(), sys.argv[2])
print(disk.helper_pid, flush=True)
if sys.argv[3] == "idle":
    time.sleep(60)
Path(sys.argv[2] + ".fault").write_text("read hang\\n")
disk.read_into(0, memoryview(bytearray(512)))
"""


@pytest.mark.parametrize("state", ["idle", "hung"])
def test_the_helper_ends_when_its_parent_is_killed(dummy: Any, state: str) -> None:
    path = dummy.disk(bytes(MIB))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(dummy.libdir), str(path), state],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    helper = int(parent.stdout.readline())
    time.sleep(0.3)
    assert not is_gone(helper)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    # An idle helper closes its disk and ends at once; a hung call has a grace of 5 s.
    assert wait_until_gone(helper, 4 if state == "idle" else 15)


def test_an_interrupted_request_ends_the_helper_and_nothing_is_mixed_up(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    disk = dummy.open(path)
    dummy.fault(path, "read hang")
    interrupter = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -INT {os.getpid()}"])
    with pytest.raises(KeyboardInterrupt):
        disk.read_into(0, memoryview(bytearray(512)))
    interrupter.wait()
    assert is_gone(pid_of(disk))
    with pytest.raises(HelperFailed, match="interrupted"):
        disk.allocated()
    disk.close()


def test_the_helper_is_light_and_keeps_tls_and_numpy_out(dummy: Any, reports: Reports) -> None:
    dummy.open(dummy.disk(bytes(MIB))).close()
    mapped = reports("mapped")
    assert mapped
    for unwanted in ("libssl", "libcrypto", "_hashlib", "numpy", "site-packages"):
        assert not [line for line in mapped if unwanted in line]


def test_library_path_reaches_the_helper_but_not_its_children(
    dummy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/before")
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    dummy.open(dummy.disk(bytes(MIB))).close()
    started = next(r.message for r in caplog.records if r.message.startswith("init"))
    # The library's getenv() sees what a program started by it would inherit.
    assert "with -, /opt/before 100%" in started


def test_log_lines_arrive_formatted_and_at_their_level(
    dummy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    path = dummy.disk(bytes(MIB))
    with dummy.open(path) as disk:
        dummy.fault(path, "read 8")
        with pytest.raises(DiskAccessError):
            disk.read_into(0, memoryview(bytearray(512)))
    lines = [(r.levelname, r.message) for r in caplog.records]
    assert ("WARNING", "injected 8 at read") in lines
    assert ("DEBUG", "disconnect") in lines
    assert any(m.startswith(f"init 6.5 in {dummy.libdir} with -") for _, m in lines)


def test_wrong_libdir_says_where_it_looked(tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    with pytest.raises(LibraryNotFound, match=r"no VixDiskLib in .*nothing.*9,8,7,6"):
        open_vddk_disk(VddkConfig(libdir=empty), VddkConnection(), "/x")


def test_a_library_without_required_functions_is_refused_by_name(
    build_dummy: Any, dummy: Any
) -> None:
    config = VddkConfig(libdir=build_dummy("-DBARE"))
    with pytest.raises(
        LibraryIncomplete, match="lacks VixDiskLib_WriteAsync, VixDiskLib_Flush"
    ) as caught:
        open_vddk_disk(config, VddkConnection(), str(dummy.disk(bytes(MIB))))
    assert caught.value.exit_code == 2


def test_a_file_that_is_no_library_is_refused(dummy: Any, tmp_path: Path) -> None:
    libdir = tmp_path / "broken"
    (libdir / "lib64").mkdir(parents=True)
    (libdir / "lib64" / "libvixDiskLib.so.8").write_bytes(b"not a library")
    with pytest.raises(LibraryNotLoadable, match="cannot be loaded"):
        open_vddk_disk(VddkConfig(libdir=libdir), VddkConnection(), "/x")


def test_descriptors_of_one_disk_do_not_leak_into_the_helper_of_another(
    dummy: Any, reports: Reports
) -> None:
    arena = Arena(MIB)
    first = dummy.open(dummy.disk(bytes(MIB), "a"))
    first.register(arena)
    reports("holds")
    second = dummy.open(dummy.disk(bytes(MIB), "b"))
    second.close()
    first.close()
    arena.close()
    # /dev/null, the log pipe twice, the socket, its own slots; the disk is not open yet.
    held = sorted(reports("holds"))
    assert [line.split(":")[0] for line in held] == [
        "/dev/null",
        "/memfd",
        "pipe",
        "pipe",
        "socket",
    ]
    assert "vreplica-slots" in held[1]


def test_signals_for_the_parent_do_not_end_the_helper(dummy: Any) -> None:
    with dummy.open(dummy.disk(bytes(MIB))) as disk:
        os.kill(pid_of(disk), signal.SIGINT)
        os.kill(pid_of(disk), signal.SIGTERM)
        disk.read_into(0, memoryview(bytearray(512)))
        assert os.getpgid(pid_of(disk)) != os.getpgid(0), "Ctrl-C does not reach it"


def test_a_crash_leaves_no_core_file(dummy: Any, tmp_path: Path) -> None:
    with dummy.open(dummy.disk(bytes(MIB))) as disk:
        limits = Path(f"/proc/{pid_of(disk)}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file"))
        assert core.split()[4:6] == ["0", "0"]


def test_a_helper_costs_little_to_start(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    best = min(_cpu_of_a_helper(dummy, path) for _ in range(5))
    # 40 ms where this was written; importing numpy alone would add 100.
    assert best < 0.12


def _cpu_of_a_helper(dummy: Any, path: Path) -> float:
    """Seconds of processor time, which a busy machine does not stretch as it does a clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    dummy.open(path).close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_helper_source_needs_only_the_standard_library() -> None:
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import vreplica.vddk.helper.main
        print(*sorted(m for m in sys.modules if m.startswith("vreplica")))
        assert not {"numpy", "ssl", "hashlib", "dataclasses"} & set(sys.modules)
    """
    import vreplica

    root = str(Path(vreplica.__file__).parent.parent)
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(program), root],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "vreplica.vddk.session" in run.stdout
    assert "vreplica.vddk.errors" not in run.stdout
