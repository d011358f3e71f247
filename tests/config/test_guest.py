"""A job's guest in the job file: what it becomes, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.job_file import job_table, site_table
from vreplica.config import load
from vreplica.config.errors import JobFileInvalid
from vreplica.config.secrets import SecretUnavailable
from vreplica.failover.guest.customize import describe_customization
from vreplica.sync.job import Customize
from vreplica.vsphere.model import GuestCustomization, GuestLogin, KeepIdentity, NicRule

NETWORKS = ', networks = { a = "b" }'
FILE = site_table() + job_table("web", more=NETWORKS) + "[jobs.web.guest]\n"
LOGIN = 'user = "root"\npassword = { env = "GUEST_PASSWORD" }\n'


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "s")
    monkeypatch.setenv("GUEST_PASSWORD", "g")


def written(tmp_path: Path, guest: str) -> Path:
    file = tmp_path / "jobs.toml"
    file.write_text(FILE + guest)
    return file


def test_rules_and_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'customize = "script"\nhostname = "web"\ndomain = "dr.example"\n'
    nics = (
        'nics = [{ ip = "10.2.0.5/24", gateway = "10.2.0.1", dns = ["10.2.0.2"] }, { dhcp = true }]'
    )
    job = load(written(tmp_path, LOGIN + text + nics))["web"]
    assert job.guest.customize is Customize.SCRIPT
    rules = (NicRule("10.2.0.5/24", "10.2.0.1", ("10.2.0.2",)), NicRule())
    assert job.guest.customization == GuestCustomization("web", "dr.example", rules)
    assert job.guest.login() == GuestLogin("root", "g")
    assert describe_customization(job) == [
        "BIOS UUID: the source's, MAC addresses: its own",
        "by script as root, once the guest answers",
        "web.dr.example",
        "card 1: 10.2.0.5/24 via 10.2.0.1, DNS 10.2.0.2",
        "card 2: DHCP",
    ]
    # Replication does not depend on it: it is only missed when a script needs it.
    monkeypatch.delenv("GUEST_PASSWORD")
    job = load(written(tmp_path, LOGIN))["web"]
    with pytest.raises(SecretUnavailable, match="the guest of job web"):
        job.guest.login()


def test_a_specification_by_its_name(tmp_path: Path) -> None:
    job = load(written(tmp_path, 'spec = "dr-web"\n'))["web"]
    assert (job.guest.customize, job.guest.spec) == (Customize.SPEC, "dr-web")
    assert describe_customization(job)[1:] == [
        "customization specification dr-web, before the power-on"
    ]


def test_whose_names_the_replica_has(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    own = "keep_mac = true, keep_bios_uuid = false, networks = {"
    file.write_text(file.read_text().replace("networks = {", own))
    job = load(file)["web"]
    assert job.placement.keep == KeepIdentity(bios_uuid=False, mac=True)
    assert describe_customization(job) == ["BIOS UUID: its own, MAC addresses: the source's"]


def test_rules_for_the_way_back(tmp_path: Path) -> None:
    back = '[jobs.web.guest.failback]\ncustomize = "script"\nnics = [{ ip = "10.1.0.5/24" }]\n'
    job = load(written(tmp_path, LOGIN + 'spec = "dr-web"\n' + back))["web"]
    assert (job.guest.customize, job.guest.spec) == (Customize.SPEC, "dr-web")
    home = job.guest.failback
    assert home is not None
    assert (home.customize, home.customization.nics) == (
        Customize.SCRIPT,
        (NicRule("10.1.0.5/24"),),
    )
    assert home.login() == GuestLogin("root", "g")
    with pytest.raises(JobFileInvalid, match="has no login for its script"):
        load(written(tmp_path, back))
    with pytest.raises(JobFileInvalid, match="user: is not a known key"):
        load(written(tmp_path, LOGIN + back + 'user = "other"\n'))
    with pytest.raises(JobFileInvalid, match=r"failback.nics\[0\].dhpc: is not a known key"):
        load(written(tmp_path, LOGIN + back.replace("ip =", "dhpc = true, ip =")))


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        ('user = "root"', "has a user or a password, but not both"),
        ('spec = "a"\nhostname = "web"\ncustomize = "spec"', "beside rules of its own"),
        ('hostname = "web"', "does not say how its rules reach the guest"),
        ('customize = "spec"', "has customize, but no rules"),
        ('customize = "script"\nhostname = "web"', "has no login for its script"),
        ('customize = "spec"\nnics = [{ dhcp = true }]', "has no hostname"),
        ('hostname = "web.dr.example"', "is not a host name"),
        ('nics = [{ ip = "10.2.0.5" }]', "nics[0].ip: has no prefix length"),
        ('nics = [{ ip = "10.2.0.500/24" }]', "nics[0].ip: is not an IP address"),
        ("nics = [{ }]", "nics[0]: needs either an address or DHCP"),
        ("nics = [{ dhpc = true }]", "nics[0].dhpc: is not a known key"),
        ('nics = [{ dhcp = true, dns = ["one"] }]', "dns[0]: is not an IP address"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, guest: str, said: str) -> None:
    with pytest.raises(JobFileInvalid) as caught:
        load(written(tmp_path, guest))
    assert said in "\n".join(str(p) for p in caught.value.problems)


def test_the_test_network_may_not_be_one_of_production(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    file.write_text(file.read_text().replace("networks = {", 'test_network = "b", networks = {'))
    with pytest.raises(JobFileInvalid, match="test_network: is a network that the replica is"):
        load(file)


def test_a_site_has_places_and_networks_for_its_jobs(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    site = 'folder = "replicas"\nresource_pool = "dr"\ntest_network = "t"\n'
    site += 'networks = { a = "x", c = "d" }\n[jobs.web]'
    file.write_text(file.read_text().replace("[jobs.web]", site, 1))
    place = load(file)["web"].placement
    assert (place.folder, place.resource_pool, place.test_network) == ("replicas", "dr", "t")
    assert place.networks == {"a": "b", "c": "d"}
    file.write_text(file.read_text().replace('test_network = "t"', 'test_network = "d"'))
    with pytest.raises(JobFileInvalid, match="test_network: is a network that the replica is"):
        load(file)
