"""A job file becomes jobs; passwords come from where the file says and are shown nowhere."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

import vreplica
from vreplica.config import Config, find, load
from vreplica.config.errors import NoJobFile, UnknownJob
from vreplica.config.secrets import SecretUnavailable
from vreplica.points import Level
from vreplica.sync.job import OnCbtLoss, QuiescePolicy, Transport

SHA256 = ":".join(["AB"] * 32)
SITES = f"""\
[sites.main]
host = "vc.main.example"
user = "replication@vsphere.local"
password = {{ env = "MAIN_PASSWORD" }}
sha256 = "{"ab" * 32}"

[sites.dr]
host = "[fd00::7]"
port = 8443
user = "root"
password = {{ file = "dr.password" }}
sha256 = "{SHA256}"
"""
JOBS = """\
[defaults]
keep = 3
require = "filesystem"

[jobs.web01]
source = { site = "main", vm = "web01" }
destination = { site = "dr", datastore = "store1", name = "web01-replica" }

[jobs.db01]
source = { site = "main", vm = "/dc/vm/db01" }
quiesce = "require"
quiesce_timeout_min = 20
quiesce_attempts = 1
require = "application"
on_cbt_loss = "fail"
exclude_disks = ["Hard disk 3"]
keep = 28
transport = "nfc"
parallel_disks = 4

[jobs.db01.destination]
site = "dr"
datastore = "store2"
name = "db01-replica"
host = "esx1"
resource_pool = "dr"
folder = "replicas"
networks = { "VM Network" = "DR Network" }
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAIN_PASSWORD", "main-secret")
    secret = tmp_path / "dr.password"
    secret.write_text("dr-secret\n")
    secret.chmod(0o600)
    file = tmp_path / "vreplica.toml"
    file.write_text(SITES + JOBS)
    return file


def test_a_job_has_everything_that_the_file_says(job_file: Path, tmp_path: Path) -> None:
    job = load(job_file)["db01"]
    assert job.source.host == "vc.main.example"
    assert job.source.port == 443
    assert job.source.password == "main-secret"
    assert job.source.sha256 == SHA256
    assert job.source_vm == "/dc/vm/db01"
    assert job.destination.host == "fd00::7"
    assert job.destination.port == 8443
    assert job.destination.password == "dr-secret"
    assert job.placement.datastore == "store2"
    assert job.placement.name == "db01-replica"
    assert job.placement.host == "esx1"
    assert job.placement.resource_pool == "dr"
    assert job.placement.folder == "replicas"
    assert job.placement.networks == {"VM Network": "DR Network"}
    assert job.quiesce is QuiescePolicy.REQUIRE
    assert (job.quiesce_timeout_min, job.quiesce_attempts) == (20, 1)
    assert job.require is Level.APPLICATION
    assert job.on_cbt_loss is OnCbtLoss.FAIL
    assert job.exclude_disks == {"Hard disk 3"}
    assert job.retention.last == 28
    assert job.parallel_disks == 4
    assert job.transport is Transport.NFC
    assert job.nfc.mode == "nbdssl"


def test_a_job_takes_from_defaults_what_it_does_not_say_itself(job_file: Path) -> None:
    job = load(job_file)["web01"]
    assert job.retention.last == 3
    assert job.require is Level.FILESYSTEM
    assert job.quiesce is QuiescePolicy.TRY
    assert job.on_cbt_loss is OnCbtLoss.ASK


def test_a_config_is_a_mapping_in_the_order_of_the_file(job_file: Path) -> None:
    config = vreplica.load(str(job_file))
    assert isinstance(config, Config)
    assert list(config) == ["web01", "db01"]
    assert len(config) == 2
    assert "web01" in config
    assert config.get("nothing") is None


def test_an_unknown_job_is_answered_with_the_one_that_was_meant(job_file: Path) -> None:
    with pytest.raises(UnknownJob) as caught:
        load(job_file)["Web1"]
    assert str(caught.value) == f"{job_file} has no job Web1"
    assert caught.value.explain() == ["what to do: Did you mean web01?"]
    with pytest.raises(UnknownJob) as caught:
        load(job_file)["mail"]
    assert caught.value.explain() == ["what to do: Jobs in this file: web01, db01."]


def test_relative_paths_are_relative_to_the_file(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'state_dir = "state"\n[vddk]\nlibdir = "vddk"\nconfig = "/etc/vixdisklib.conf"\n'
    job_file.write_text(
        text + 'isolation = false\ntransport_modes = "nbd"\n[nfc]\nmode = "nbd"\n' + SITES + JOBS
    )
    monkeypatch.chdir("/")
    job = load(job_file)["web01"]
    assert job.state_dir == tmp_path / "state"
    assert job.vddk.libdir == tmp_path / "vddk"
    assert job.vddk.config_file == Path("/etc/vixdisklib.conf")
    assert job.vddk.isolation is False
    assert job.nfc.mode == "nbd"
    assert job.vddk.transport_modes == "nbd"


def test_the_state_is_kept_where_xdg_says(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert load(job_file).state_dir == tmp_path / "xdg" / "vreplica"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(job_file).state_dir == tmp_path / ".local" / "state" / "vreplica"


def test_the_file_is_looked_for_here_then_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VREPLICA_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoJobFile, match=r"\./vreplica\.toml, .*/xdg/vreplica/vreplica\.toml"):
        find()
    users = tmp_path / "xdg" / "vreplica" / "vreplica.toml"
    users.parent.mkdir(parents=True)
    users.touch()
    assert find() == users
    Path("vreplica.toml").touch()
    assert find() == Path("vreplica.toml")
    monkeypatch.setenv("VREPLICA_CONFIG", "/named.toml")
    assert find() == Path("/named.toml")


# -- passwords ------------------------------------------------------------------------------


def test_passwords_are_in_no_repr(job_file: Path) -> None:
    config = load(job_file)
    shown = f"{config!r} {config['web01']!r} {config['db01']}"
    assert "secret" not in shown


def test_a_job_runs_without_the_passwords_of_other_sites(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SITES[SITES.index("[sites.dr]") :].replace("sites.dr", "sites.third")
    job_file.write_text(SITES + other.replace('file = "dr.password"', 'env = "UNSET"') + JOBS)
    assert load(job_file)["web01"].destination.password == "dr-secret"


def refused(job_file: Path) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as caught:
        load(job_file)["web01"]
    assert caught.value.exit_code == 2
    assert "secret" not in f"{caught.value} {caught.value.explain()} {caught.value.to_dict()}"
    return caught.value


def test_an_unset_variable_says_which(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIN_PASSWORD")
    error = refused(job_file)
    assert str(error) == "cannot read the password of site main: MAIN_PASSWORD is not set"
    monkeypatch.setenv("MAIN_PASSWORD", "")
    assert "MAIN_PASSWORD is empty" in str(refused(job_file))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_password_file_that_others_can_open_is_refused(
    job_file: Path, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "dr.password").chmod(mode)
    error = refused(job_file)
    assert f"(mode {mode:04o})" in str(error)
    assert f"chmod 600 {tmp_path}/dr.password" in error.explain()[0]


def test_a_password_file_loses_one_line_end_and_nothing_else(
    job_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "dr.password").write_bytes(b"  two words \r\n")
    assert load(job_file)["web01"].destination.password == "  two words "


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"", "it is empty"), (b"\xff", "it is not UTF-8 text")],
)
def test_a_password_file_that_is_of_no_use_says_why(
    job_file: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "dr.password"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert str(refused(job_file)).endswith(f"{file}: {reason}")


class KeyringError(Exception):
    pass


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch, job_file: Path) -> types.ModuleType:
    """The keyring package's two functions that are used, over a dictionary."""
    module, errors = types.ModuleType("keyring"), types.ModuleType("keyring.errors")
    vars(errors)["KeyringError"] = KeyringError
    entries = {("dc", "root"): "ring-secret"}
    vars(module).update(
        errors=errors, get_password=lambda service, user: entries.get((service, user))
    )
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    job_file.write_text((SITES + JOBS).replace('file = "dr.password"', 'keyring = "dc"'))
    return module


def test_a_password_comes_from_the_keyring(keyring: types.ModuleType, job_file: Path) -> None:
    assert load(job_file)["web01"].destination.password == "ring-secret"


def test_a_keyring_without_the_entry_says_how_to_make_it(
    keyring: types.ModuleType, job_file: Path
) -> None:
    job_file.write_text(job_file.read_text().replace('"dc"', '"other"'))
    error = refused(job_file)
    assert "service other has no password for root" in str(error)
    assert error.explain() == ["what to do: keyring set other root"]


def test_a_keyring_that_fails_says_why(keyring: types.ModuleType, job_file: Path) -> None:
    def locked(service: str, user: str) -> str:
        raise KeyringError("the collection is locked")

    vars(keyring)["get_password"] = locked
    assert "the collection is locked" in str(refused(job_file))


def test_a_missing_keyring_package_says_how_to_install_it(
    keyring: types.ModuleType, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert refused(job_file).explain() == ["what to do: pip install 'vreplica[keyring]'"]


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("https://vc.example/sdk", "vc.example"),
        ("HTTPS://vc.example", "vc.example"),
        ("https://[fd00::7]/ui/#/x", "fd00::7"),
    ],
)
def test_a_url_of_a_site_is_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, host: str
) -> None:
    monkeypatch.setenv("MAIN_PASSWORD", "geheim")
    file = tmp_path / "vreplica.toml"
    file.write_text((SITES + JOBS).replace('"vc.main.example"', f'"{given}"'))
    assert load(file).endpoint("main").host == host
