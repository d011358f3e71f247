"""Sharing one ESXi host between disks, threads and processes of one machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from vreplica.nfc.admission import HostAdmission, host_dir
from vreplica.nfc.config import HostLimits
from vreplica.nfc.errors import AdmissionTimeout, RuntimeDirUnusable
from vreplica.units import MIB

HOLD = """
import sys
from pathlib import Path
from vreplica.nfc.config import HostLimits
from vreplica.nfc.admission import HostAdmission
limits = HostLimits(4 << 20, 2, wait_s=5, runtime_dir=Path(sys.argv[1]))
with HostAdmission("esx01", limits) as admission, admission.in_flight(3 << 20, 3 << 20):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def limits(tmp_path: Path) -> HostLimits:
    return HostLimits(4 * MIB, 2, wait_s=0.2, runtime_dir=tmp_path / "run")


@contextmanager
def another_process(limits: HostLimits) -> Iterator[subprocess.Popen[str]]:
    """That holds one disk and 3 of 4 MiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(limits.runtime_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


def test_one_disk_alone_gets_all_that_it_wants(limits: HostLimits) -> None:
    with HostAdmission("esx01", limits) as admission:
        with admission.in_flight(MIB, 4 * MIB) as granted:
            assert granted == 4 * MIB
        with admission.in_flight(1, 64 * 1024) as granted:
            assert granted == MIB


def test_two_disks_share_and_get_at_least_what_they_need(limits: HostLimits) -> None:
    with HostAdmission("esx01", limits) as first, HostAdmission("esx01", limits) as second:
        with first.in_flight(MIB, 3 * MIB), second.in_flight(MIB, 4 * MIB) as granted:
            assert granted == MIB
        with second.in_flight(MIB, 4 * MIB) as granted:
            assert granted == 4 * MIB


def test_too_little_is_waited_for_and_then_an_error(limits: HostLimits) -> None:
    with HostAdmission("esx01", limits) as first, HostAdmission("esx01", limits) as second:
        with first.in_flight(3 * MIB, 3 * MIB):
            start = monotonic()
            with pytest.raises(AdmissionTimeout) as caught, second.in_flight(2 * MIB, 2 * MIB):
                pass
            assert monotonic() - start >= 0.2
        assert caught.value.retryable
        # What it had taken of the wait was given back.
        with first.in_flight(4 * MIB, 4 * MIB) as granted:
            assert granted == 4 * MIB


def test_a_request_above_the_host_limit_is_let_through_alone(limits: HostLimits) -> None:
    with (
        HostAdmission("esx01", limits) as first,
        HostAdmission("esx01", limits) as second,
        first.in_flight(16 * MIB, 16 * MIB) as granted,
    ):
        assert granted == 16 * MIB
        with pytest.raises(AdmissionTimeout), second.in_flight(1, 1):
            pass


def test_open_disks_are_limited(limits: HostLimits) -> None:
    with ExitStack() as stack:
        stack.enter_context(HostAdmission("esx01", limits))
        second = stack.enter_context(HostAdmission("esx01", limits))
        with pytest.raises(AdmissionTimeout) as caught:
            HostAdmission("esx01", limits)
        assert "open disk" in str(caught.value)
        stack.enter_context(HostAdmission("esx02", limits))
        second.close()
        second.close()
        stack.enter_context(HostAdmission("esx01", limits))


def test_copies_inside_one_host_do_not_wait_for_each_others_second_disk(tmp_path: Path) -> None:
    limits = HostLimits(4 * MIB, 3, wait_s=20, runtime_dir=tmp_path)
    together, done = threading.Barrier(3), []

    def copy() -> None:
        together.wait()
        with HostAdmission("esx01", limits, first_of_two=True):
            sleep(0.05)
            with HostAdmission("esx01", limits):
                done.append(1)

    threads = [threading.Thread(target=copy) for _ in range(3)]
    start = monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3
    assert monotonic() - start < limits.wait_s


def test_another_process_counts_and_its_death_frees(limits: HostLimits) -> None:
    with another_process(limits) as process, HostAdmission("ESX01", limits) as admission:
        with admission.in_flight(MIB, 4 * MIB) as granted:
            assert granted == MIB
        with pytest.raises(AdmissionTimeout):
            HostAdmission("esx01", limits)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with admission.in_flight(MIB, 4 * MIB) as granted:
            assert granted == 4 * MIB
        HostAdmission("esx01", limits).close()


def test_the_limit_holds_under_contention(tmp_path: Path) -> None:
    limits = HostLimits(4 * MIB, 8, wait_s=20, runtime_dir=tmp_path)
    used, peak, rounds, lock = 0, 0, 0, threading.Lock()

    def run() -> None:
        nonlocal used, peak, rounds
        with HostAdmission("esx01", limits) as admission:
            for _ in range(20):
                with admission.in_flight(MIB, 3 * MIB) as granted:
                    with lock:
                        used += granted
                        peak = max(peak, used)
                    sleep(0.0005)
                    with lock:
                        used -= granted
                        rounds += 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rounds == 6 * 20
    assert peak <= 4 * MIB


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(RuntimeDirUnusable):
        host_dir("esx01", HostLimits(runtime_dir=shared))


def test_a_directory_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeDirUnusable):
        host_dir("esx01", HostLimits(runtime_dir=tmp_path / "file" / "run"))


def test_the_directory_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VREPLICA_RUNTIME_DIR", str(tmp_path / "named"))
    folder = host_dir("esx01", HostLimits())
    assert folder.parent == tmp_path / "named"
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.delenv("VREPLICA_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert host_dir("esx01", HostLimits()).parent == tmp_path / "vreplica"


def test_slots_leave_no_descriptor_behind(limits: HostLimits) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with HostAdmission("esx01", limits) as admission, admission.in_flight(1, MIB):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
