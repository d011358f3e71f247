"""A whole replication over NFC alone, where no VixDiskLib can be loaded, and the same over VDDK."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vreplica.lab import LabControl, down, up
from vreplica.units import KIB, MIB

CAPACITY = 24 * MIB + 512
KEY = 2000

CLIENT = """
import json, sys
from dataclasses import replace
from pathlib import Path

transport, name, folder = sys.argv[1:]
helpers = []

def watch(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
        helpers.append(event)
    if event == "ctypes.dlopen" and "vixDiskLib" in str(arguments[0]) and transport == "nfc":
        raise OSError("there is no VixDiskLib here")

sys.addaudithook(watch)
import vreplica
from vreplica.sync.job import Transport

job = vreplica.load(Path(folder) / "jobs.toml")["web01"]
job = replace(
    job, name=name, transport=Transport(transport), placement=replace(job.placement, name=name)
)
report = vreplica.run(job, verify=True)
mapped = "libvixDiskLib" in Path("/proc/self/maps").read_text()
print(json.dumps({"report": report.to_dict(), "helpers": helpers, "mapped": mapped}))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("nfc-cycle") / "lab"
    up(folder)
    yield folder
    down(folder)


def cycle(lab: Path, transport: str, name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, transport, name, str(lab)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "VREPLICA_RUNTIME_DIR": str(lab / "run")},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def content(control: LabControl, site: str, vm: str) -> bytes:
    """What the VM's guest would read from its disk."""
    control.power(site, vm, on=True)
    try:
        pieces = [
            control.guest_read(site, vm, KEY, at, min(4 * MIB, CAPACITY - at))
            for at in range(0, CAPACITY, 4 * MIB)
        ]
    finally:
        control.power(site, vm, on=False)
    return b"".join(pieces)


def test_nfc_alone_replicates_what_vddk_replicates(lab: Path) -> None:
    control = LabControl(lab)
    control.create_vm("site-a", "web01", disks=[(CAPACITY, True, None)], cbt=True, power_on=True)
    source = random.Random(7)

    def guest_writes(count: int) -> None:
        for _ in range(count):
            at = source.randrange(0, CAPACITY // 512 - 256) * 512
            control.guest_write("site-a", "web01", KEY, at, source.randbytes(128 * KIB))

    modes: dict[str, list[str]] = {"nfc": [], "vddk": []}
    guest_writes(24)
    for _ in range(2):
        shipped = {}
        for transport, name in (("nfc", "replica-nfc"), ("vddk", "replica-vddk")):
            answer = cycle(lab, transport, name)
            (disk,) = answer["report"]["disks"]
            modes[transport].append(disk["mode"])
            shipped[transport] = disk["written_bytes"]
            # VDDK's library lives in helper processes; for NFC it is nowhere at all.
            assert bool(answer["helpers"]) == (transport == "vddk")
            assert not answer["mapped"]
        assert shipped["nfc"] == shipped["vddk"] > 0
        guest_writes(6)
    assert modes["nfc"] == modes["vddk"] == ["full", "delta"]
    by_nfc, by_vddk_ = (content(control, "site-b", f"replica-{t}") for t in ("nfc", "vddk"))
    assert by_nfc == by_vddk_
    assert any(by_nfc)
