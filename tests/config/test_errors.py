"""Each mistake in a job file is answered with its line, its key, the reason and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vreplica.config import load
from vreplica.config.errors import JobFileInvalid, JobFileUnreadable
from vreplica.errors import ConfigError

GOOD = f"""\
state_dir = "state"
[sites.main]
host = "vc.main.example"
user = "replication"
password = {{ env = "MAIN_PASSWORD" }}
sha256 = "{"AB" * 32}"
[sites.dr]
host = "vc.dr.example"
user = "replication"
password = {{ env = "DR_PASSWORD" }}
sha256 = "{"CD" * 32}"
[vddk]
isolation = true
[defaults]
keep = 3
[jobs.web01]
source = {{ site = "main", vm = "web01" }}
destination = {{ site = "dr", datastore = "store1", name = "web01-replica" }}
quiesce = "try"
[jobs.web02]
source = {{ site = "main", vm = "web02" }}
destination = {{ site = "dr", datastore = "store1", name = "web02-replica" }}
"""


@dataclass(frozen=True)
class Slip:
    """`old` in the good file becomes `new`; then this is what is said."""

    old: str
    new: str
    line: int
    said: str
    remedy: str


SLIPS = [
    # -- unknown and missing keys ---------------------------------------------------------------
    Slip('host = "vc.main', 'hots = "vc.main', 3, "sites.main.hots: is not a known key", "host?"),
    Slip("[vddk]", "[vdkd]", 12, "vdkd: is not a known key", "Did you mean vddk?"),
    Slip("[jobs.web01]", "[job.web01]", 16, "job: is not a known key", "Did you mean jobs?"),
    Slip("keep = 3", "kep = 3", 15, "defaults.kep: is not a known key", "Did you mean keep?"),
    Slip(
        'quiesce = "try"',
        'quiece = "try"',
        19,
        "jobs.web01.quiece: is not a known key",
        "Did you mean quiesce?",
    ),
    Slip(
        'datastore = "store1", name = "web01',
        'data-store = "store1", name = "web01',
        18,
        "jobs.web01.destination.data-store: is not a known key",
        "Did you mean datastore?",
    ),
    Slip(
        "isolation = true", "xyz = 1", 13, "vddk.xyz: is not a known key", "Known keys: libdir"
    ),
    Slip('user = "replication"\npassword = { env = "M', 'password = { env = "M', 2,
         "sites.main.user: is missing", "Add user ="),
    Slip(f'sha256 = "{"CD" * 32}"\n', "", 7, "sites.dr.sha256: is missing", "vreplica-sync thumb"),
    Slip(', vm = "web01"', "", 17, "jobs.web01.source.vm: is missing", 'Add vm = "web01".'),
    # -- passwords ------------------------------------------------------------------------------
    Slip('{ env = "MAIN_PASSWORD" }', '"geheim"', 5,
         "sites.main.password: may not be written into the file", '{ env = "VARIABLE" }'),
    Slip('{ env = "MAIN_PASSWORD" }', '{ plain = "geheim" }', 5,
         "sites.main.password.plain: is not a known key", "env, file, keyring"),
    Slip('{ env = "MAIN_PASSWORD" }', "{}", 5,
         "sites.main.password: needs exactly one place", "Give one of env, file and keyring."),
    Slip('{ env = "MAIN_PASSWORD" }', '{ env = "A", file = "b" }', 5,
         "sites.main.password: needs exactly one place", "Give one of env, file and keyring."),
    # -- values ---------------------------------------------------------------------------------
    Slip('"vc.main.example"', '"ldap://vc.main.example/sdk"', 3,
         "sites.main.host: is not a host", "name or address"),
    Slip('"vc.main.example"', '"https://vc.main.example:8443/sdk"', 3,
         "sites.main.host: has a port in it", "port = 443"),
    Slip('"vc.main.example"', '"vc.main.example:443"', 3,
         "sites.main.host: has a port in it", "port = 443"),
    Slip('"vc.main.example"', '""', 3, "sites.main.host: is empty", "Give a value"),
    Slip('"vc.main.example"', '"vc"\nport = "443"', 4,
         "sites.main.port: is not a whole number", "without quotes"),
    Slip('"vc.main.example"', '"vc"\nport = 70000', 4,
         "sites.main.port: is above 65535", "Give 65535 or less."),
    Slip("AB" * 32, "AB" * 20, 6, "sites.main.sha256: is a SHA-1 thumbprint", "SHA-256"),
    Slip("AB" * 32, "XY" * 32, 6,
         "sites.main.sha256: is not a SHA-256 thumbprint", "thumbprint HOST"),
    Slip("isolation = true", 'isolation = "yes"', 13,
         "vddk.isolation: is not true or false", "without quotes"),
    Slip("keep = 3", "keep = 29", 15, "defaults.keep: is above 28", "Give 28 or less."),
    Slip("keep = 3", "keep = 0", 15, "defaults.keep: is below 1", "Give 1 or more."),
    Slip("keep = 3", "keep = 3.0", 15, "defaults.keep: is not a whole number", "in digits"),
    Slip('quiesce = "try"', 'quiesce = "maybe"', 19,
         "jobs.web01.quiesce: is not one of its values", 'Choose "try", "require" or "never".'),
    Slip('quiesce = "try"', 'require = "clean-shutdown"', 19,
         "jobs.web01.require: is not one of its values", '"crash", "filesystem" or "application"'),
    Slip('quiesce = "try"', 'quiesce = "never"\nrequire = "application"', 16,
         'jobs.web01: quiesce = "never" cannot reach require = "application"', "Set quiesce"),
    Slip('quiesce = "try"', 'exclude_disks = "Hard disk 1"', 19,
         "jobs.web01.exclude_disks: is not a list", "Write a list"),
    Slip('quiesce = "try"', 'exclude_disks = [\n  "Hard disk 1",\n  2,\n]', 21,
         "jobs.web01.exclude_disks[1]: is not a text", "in quotes"),
    Slip('{ site = "main", vm = "web01" }', '"web01"', 17,
         "jobs.web01.source: is not a table", "{ key ="),
    Slip('"state"', "3", 1, "state_dir: is not a path", "in quotes"),
    Slip('"state"', '"~no-such-user/s"', 1,
         "state_dir: begins with the home directory of a user who is not known", "whole path"),
    Slip('{ env = "MAIN_PASSWORD" }', '{ file = "a\\u0000b" }', 5,
         "sites.main.password.file: has a NUL in it", "without it"),
    # -- between tables -------------------------------------------------------------------------
    Slip('{ site = "main", vm = "web01" }', '{ site = "mian", vm = "web01" }', 17,
         "jobs.web01.source.site: there is no site mian", "Did you mean main?"),
    Slip('vm = "web02" }\ndestination = { site = "dr"',
         'vm = "web02" }\ndestination = { site = "x"', 22,
         "jobs.web02.destination.site: there is no site x", "Sites in this file: main, dr."),
    Slip('name = "web02-replica"', 'name = "web01-replica"', 22,
         "jobs.web02.destination.name: is the replica of job web01 already", "of its own"),
    Slip('site = "dr", datastore = "store1", name = "web01-replica"',
         'site = "main", datastore = "store1", name = "web01"', 18,
         "jobs.web01.destination.name: is the source VM itself", "another name"),
    Slip("[jobs.web01]", '[jobs."../web01"]', 16,
         "jobs.../web01: is not a name that a job can have", "letters, digits"),
    # -- not TOML -------------------------------------------------------------------------------
    Slip("keep = 3", "keep 3", 15,
         "this is not valid TOML at column 6: expected '='", "Correct this line"),
    Slip('"replication"\npassword = { env = "D', '"replication\npassword = { env = "D', 9,
         "this is not valid TOML at column 20: illegal character", "this line"),
    Slip("[vddk]", "[sites.dr]", 12, "this is not valid TOML", "this line"),
]  # fmt: skip


def problem_of(file: Path) -> JobFileInvalid:
    with pytest.raises(JobFileInvalid) as caught:
        load(file)
    return caught.value


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: f"{slip.line}-{slip.said[:48]}")
def test_a_slip_is_answered_with_line_key_reason_and_remedy(slip: Slip, tmp_path: Path) -> None:
    assert slip.old in GOOD
    file = tmp_path / "jobs.toml"
    file.write_text(GOOD.replace(slip.old, slip.new, 1))
    error = problem_of(file)
    assert error.exit_code == 2
    problem = next(p for p in error.problems if str(p).startswith(slip.said))
    assert problem.line == slip.line
    assert slip.remedy in problem.remedy
    shown = "\n".join([str(error), *error.explain()])
    assert str(file) in shown
    assert str(problem) in shown
    assert problem.remedy in shown
    assert "geheim" not in f"{shown} {error.to_dict()} {error!r}"


def test_the_good_file_is_good(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(GOOD)
    assert list(load(file)) == ["web01", "web02"]


def test_one_problem_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(GOOD.replace("keep", "kep"))
    error = problem_of(file)
    assert str(error) == f"{file}:15: defaults.kep: is not a known key"
    assert error.explain() == ["what to do: Did you mean keep?"]


def test_all_problems_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(GOOD.replace("keep = 3", "keep = 99").replace("host", "hots"))
    error = problem_of(file)
    lines = [p.line for p in error.problems]
    assert lines == sorted(lines)
    assert [p.key for p in error.problems] == [
        "sites.main.host", "sites.main.hots", "sites.dr.host", "sites.dr.hots", "defaults.keep",
    ]  # fmt: skip
    assert str(error) == f"{file} has 5 problems"
    assert len(error.explain()) == 10
    assert error.to_dict()["problems"][4] == {
        "line": 15,
        "key": "defaults.keep",
        "what": "is above 28",
        "remedy": "Give 28 or less.",
    }


def test_a_bad_default_is_said_once_and_not_for_each_job(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(GOOD.replace("keep = 3", 'on_cbt_loss = "panic"'))
    assert [(p.line, p.key) for p in problem_of(file).problems] == [(15, "defaults.on_cbt_loss")]


def test_a_level_that_only_job_and_defaults_together_rule_out_is_found(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    text = GOOD.replace("keep = 3", 'require = "application"')
    file.write_text(text.replace('quiesce = "try"', 'quiesce = "never"'))
    assert [(p.line, p.key) for p in problem_of(file).problems] == [(16, "jobs.web01")]


@pytest.mark.parametrize("text", ["jobs = 3", "defaults = []", "[jobs]\nweb01 = 1", "sites = [1]"])
def test_tables_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(text)
    assert "is not a table" in str(problem_of(file))


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_bytes(b"# one\n# two \xff\n")
    assert str(problem_of(file)) == f"{file}:2: this is not UTF-8 text"


@pytest.mark.parametrize(("name", "reason"), [("absent", "No such file"), (".", "directory")])
def test_a_file_that_cannot_be_read_says_why(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(JobFileUnreadable, match=reason) as caught:
        load(tmp_path / name)
    assert isinstance(caught.value, ConfigError)
