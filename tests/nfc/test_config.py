"""Settings of the NFC transport stay within what hosts take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vreplica.config import load
from vreplica.errors import ConfigError
from vreplica.nfc.config import HostLimits, NfcConfig
from vreplica.units import KIB, MIB


def test_the_defaults_encrypt_and_stay_under_a_hosts_memory() -> None:
    config = NfcConfig()
    assert config.mode == "nbdssl"
    assert config.depth * config.io_bytes <= config.limits.in_flight_bytes <= 32 * MIB


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "hotadd"},
        {"depth": 0},
        {"io_bytes": 4 * KIB},
        {"io_bytes": MIB + 1},
        {"buffer_bytes": 4 * MIB},
        {"buffer_bytes": 2 * MIB, "buffer_count": 9},
        {"reconnects": -1},
        {"limits": HostLimits(open_disks=0)},
        {"limits": HostLimits(in_flight_bytes=64 * KIB)},
    ],
)
def test_what_a_host_would_refuse_is_refused_before(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        NfcConfig(**settings)
    assert next(iter(settings)) in str(caught.value)


def test_a_job_file_sets_what_matters(tmp_path: Path) -> None:
    pin = "AB" * 32
    (tmp_path / "a.password").touch(0o600)
    (tmp_path / "a.password").write_text("secret")
    (tmp_path / "jobs.toml").write_text(
        f"""
        [sites.a]
        host = "vc"
        user = "u"
        password = {{ file = "a.password" }}
        sha256 = "{pin}"
        [jobs.web]
        source = {{ site = "a", vm = "web" }}
        destination = {{ site = "a", name = "web-replica", datastore = "ds" }}
        [nfc]
        mode = "nbd"
        depth = 2
        in_flight_mib = 4
        open_disks = 5
        sha256 = {{ "esx1" = "{pin}" }}
        """
    )
    config = load(tmp_path / "jobs.toml")["web"].nfc
    assert (config.mode, config.depth) == ("nbd", 2)
    assert (config.limits.in_flight_bytes, config.limits.open_disks) == (4 * MIB, 5)
    assert config.pinned_sha256["esx1"].replace(":", "") == pin
