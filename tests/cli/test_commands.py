"""What each command prints where, and how it ends; replication itself is played by functions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.support.job_file import PASSWORD, TWO_JOBS
from vreplica.cli.app import app
from vreplica.cli.commands import init
from vreplica.cli.render.output import Output
from vreplica.cli.render.text import grid
from vreplica.cli.render.verify_html import render
from vreplica.cli.results.document import document
from vreplica.cli.server_address import parse_server
from vreplica.delta.compare.spot_check import SpotCheckResult
from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import DiskClosed, VReplicaError
from vreplica.points import DiskPoint, Level, RecoveryPoint
from vreplica.points.changes import ChangeStats
from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.events import Progress, Step, Warn
from vreplica.sync.job import Job, OnCbtLoss
from vreplica.sync.recovery_points import ReplicaPoints
from vreplica.sync.report import DiskRun, DiskVerify, Plan, RunReport, VerifyReport
from vreplica.sync.verify import signed_report, signing
from vreplica.units import GIB, MIB

TIME = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
POINT = RecoveryPoint(
    id="20260301T123000Z-abcdef",
    job="web01",
    source_vm="uuid",
    source_name="web01",
    time=TIME,
    level=Level.CRASH,
    requested=Level.APPLICATION,
    disks=(DiskPoint(2000, "Hard disk 1", "u", GIB, "c/1", "delta", 3 * MIB, "00"),),
    excluded=("Hard disk 2",),
)
DISK = DiskRun(
    2000,
    "Hard disk 1",
    CopyMode.DELTA,
    "tracked",
    GIB,
    None,
    looked_at_bytes=8 * MIB,
    read_bytes=4 * MIB,
    redundant_bytes=MIB,
    zero_already_bytes=4 * MIB,
    zeroed_bytes=0,
    data_bytes=3 * MIB,
    audited_bytes=0,
    seconds=1.5,
)
REPORT = RunReport("web01", POINT, (DISK,), ("went back",), (), (), None, 2, TIME, 1.6)
EQUAL = VerifyReport(
    "web01",
    POINT,
    (DiskVerify(2000, "Hard disk 1", GIB, GIB - MIB, MIB, 0, (), "00", "00"),),
    TIME,
    2.5,
)
DIFFERENT = replace(
    EQUAL,
    disks=(replace(EQUAL.disks[0], different_bytes=65536, first_differences=((4096, 4608),)),),
)
PLAN = Plan(
    "web01",
    "web01",
    "web01-replica",
    True,
    (DiskPlan(2000, "Hard disk 1", GIB, CopyMode.RESCAN, "tracking was [reset]"),),
    ("Hard disk 2",),
    "nfc (no VDDK was named)",
    Level.APPLICATION,
    POINT,
    ("snapshot", "copy"),
    ("little space",),
)

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(job_file: Path) -> Invoke:
    def call(*args: str) -> Result:
        result = CliRunner().invoke(app, list(args), env={"VREPLICA_CONFIG": str(job_file)})
        assert PASSWORD not in result.output
        assert "Traceback" not in result.output or "--debug" in args
        return result

    return call


Play = Callable[..., list[Job]]


READ_POINTS = "sync.recovery_points.read_points"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Let one of the library's functions answer so, job by job; the jobs asked are returned."""

    def replaced(name: str, *answers: Any, events: tuple[Any, ...] = ()) -> list[Job]:
        asked: list[Job] = []

        def answer(job: Job, *, listener: Any = None, **_: Any) -> Any:
            asked.append(job)
            for event in events:
                listener(event)
            said = answers[(len(asked) - 1) % len(answers)]
            if isinstance(said, BaseException):
                raise said
            return said

        monkeypatch.setattr(f"vreplica.{name}", answer)
        return asked

    return replaced


def failure() -> VReplicaError:
    return DiskClosed("[ds] web01/web01.vmdk").at(vm="web01", next_run="copies again")


# -- run ------------------------------------------------------------------------------------


def test_run_shows_what_was_done_on_stdout_alone(invoke: Invoke, play: Play) -> None:
    play("run", REPORT)
    result = invoke("run", "web01")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "web01: recovery point 20260301T123000Z-abcdef, level crash, in 1.60 s" in result.stdout
    for text in ("Hard disk 1", "delta", "8 MiB", "4 MiB", "3 MiB", "1.50 s", "went back"):
        assert text in result.stdout


def test_run_takes_all_jobs_when_none_is_named_and_each_named_one_once(
    invoke: Invoke, play: Play
) -> None:
    asked = play("run", REPORT)
    invoke("run")
    assert [job.name for job in asked] == ["web01", "db01"]
    asked.clear()
    invoke("run", "db01", "web01", "db01")
    assert [job.name for job in asked] == ["db01", "web01"]


def test_run_json_is_the_report_one_line_a_job(invoke: Invoke, play: Play) -> None:
    play("run", REPORT)
    result = invoke("run", "--json")
    assert result.stderr == ""
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        document("run", REPORT.to_dict())
    ] * 2


def test_options_of_run_go_before_what_the_job_says(invoke: Invoke, play: Play) -> None:
    asked = play("run", REPORT)
    invoke("run", "web01", "--on-cbt-loss", "fail", "--require", "filesystem")
    assert asked[0].on_cbt_loss is OnCbtLoss.FAIL
    assert asked[0].require is Level.FILESYSTEM


def test_a_failed_job_does_not_keep_the_next_one_from_running(invoke: Invoke, play: Play) -> None:
    asked = play("run", failure(), REPORT)
    result = invoke("run")
    assert result.exit_code == 4
    assert [job.name for job in asked] == ["web01", "db01"]
    assert "error: web01: [ds] web01/web01.vmdk is closed" in result.stderr
    assert "next run: copies again" in result.stderr
    assert "recovery point" in result.stdout


def test_results_of_several_jobs_are_set_apart_by_an_empty_line(invoke: Invoke, play: Play) -> None:
    play(READ_POINTS, ReplicaPoints(()))
    one = "web01: no recovery point yet\n"
    assert invoke("points").stdout == f"{one}\n{one.replace('web01', 'db01')}"


def test_a_failed_job_is_an_error_object_under_json(invoke: Invoke, play: Play) -> None:
    play("run", REPORT, failure())
    result = invoke("run", "--json")
    assert result.exit_code == 4
    good, bad = [json.loads(line) for line in result.stdout.splitlines()]
    assert good["point"]["id"] == POINT.id
    assert bad["job"] == "db01"
    assert bad["error"]["type"] == "DiskClosed"
    assert bad["error"]["next_run"] == "copies again"


def test_all_errors_of_a_group_are_told_and_the_first_one_gives_the_code(
    invoke: Invoke, play: Play
) -> None:
    group = ExceptionGroup("two disks", [DiskClosed("one"), DiskClosed("two")])
    play("run", group)
    result = invoke("run", "web01")
    assert result.exit_code == 4
    assert "error: web01: one is closed" in result.stderr
    assert "error: web01: two is closed" in result.stderr


def test_a_difference_found_after_a_run_is_exit_code_8(invoke: Invoke, play: Play) -> None:
    play("run", replace(REPORT, verified=DIFFERENT))
    result = invoke("run", "web01", "--verify")
    assert result.exit_code == 8
    assert "64 KiB differ" in result.stdout


def test_warnings_and_with_v_steps_go_to_stderr(invoke: Invoke, play: Play) -> None:
    events = (Step("snapshot", "taking [a] snapshot"), Warn("no Tools"))
    events += (Progress("copy", "Hard disk 1", 1, 2, 0),)  # type: ignore[assignment]
    play("run", REPORT, events=events)
    normal, verbose, quiet = (invoke("run", "web01", *flag) for flag in ([], ["-v"], ["-q"]))
    assert normal.stderr == "warning: web01: no Tools\n"
    assert verbose.stderr == "web01: taking [a] snapshot\nwarning: web01: no Tools\n"
    assert quiet.stderr == ""
    assert normal.stdout == verbose.stdout == quiet.stdout


# -- plan, points, verify -------------------------------------------------------------------


def test_plan_shows_modes_reasons_and_steps(invoke: Invoke, play: Play) -> None:
    play("plan", PLAN)
    result = invoke("plan", "web01")
    assert result.exit_code == 0
    for text in (
        "web01: web01 -> web01-replica",
        "rescan",
        "tracking was [reset]",
        "application-consistent",
        "little space",
        "nfc (no VDDK was named)",
        "1. snapshot",
        "2. copy",
        POINT.id,
    ):
        assert text in result.stdout
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())
    assert json.loads(invoke("plan", "web01", "--json").stdout) == document("plan", PLAN.to_dict())


def test_a_plan_with_problems_shows_them_and_ends_with_3(invoke: Invoke, play: Play) -> None:
    play("plan", replace(PLAN, problems=("a foreign snapshot", "[ds] is full"), disks=()))
    result = invoke("plan", "web01")
    assert result.exit_code == 3
    assert "2 problems" in result.stdout
    assert "- a foreign snapshot" in result.stdout
    assert "- [ds] is full" in result.stdout


@pytest.mark.parametrize(
    ("require", "told"),
    [
        ("", "any level (no `require` above crash): a point may be like a disk after a power"),
        ('require = "filesystem"\n', "at least filesystem: a run that reaches less fails"),
    ],
)
def test_what_require_means_is_said_also_where_it_is_not_given(
    invoke: Invoke, play: Play, job_file: Path, require: str, told: str
) -> None:
    job_file.write_text(TWO_JOBS.replace("[jobs.db01]\n", f"[jobs.db01]\n{require}"))
    play("plan", PLAN)
    play("run", REPORT)
    for command in ("plan", "run"):
        assert "required" in invoke(command, "db01").stdout
        assert told in invoke(command, "db01").stdout


def test_points_are_listed_with_what_was_reached_and_asked_for(invoke: Invoke, play: Play) -> None:
    play(READ_POINTS, ReplicaPoints((POINT,)))
    result = invoke("points", "web01")
    assert result.exit_code == 0
    for text in (
        "1 recovery point,",
        "2026-03-01 12:30:00Z",
        "crash (not application)",
        "delta",
        "3 MiB",
        "Hard disk 2",
    ):
        assert text in result.stdout
    shown = json.loads(invoke("points", "web01", "--json").stdout)
    left_out: dict[str, list[str]] = {"newer": [], "damaged": [], "warnings": []}
    value = {"job": "web01", "points": [POINT.to_dict()], **left_out, "side_branches": []}
    assert shown == document("points", value)


def test_what_keeps_each_point_is_shown_on_request(
    invoke: Invoke, play: Play, job_file: Path
) -> None:
    job_file.write_text(TWO_JOBS.replace('vm = "web01" }', 'vm = "web01" }\nkeep = 1'))
    older = [
        replace(POINT, id=f"old-{n}", time=TIME.replace(hour=n), level=level)
        for n, level in enumerate((Level.APPLICATION, Level.CRASH))
    ]
    play(READ_POINTS, ReplicaPoints((*older, POINT)))
    text = invoke("points", "web01", "--retention").stdout
    assert "3 recovery points, keeping last 1: 1 may go" in text
    assert re.search(r"old-0 .*newest at level application", text)
    assert re.search(r"old-1 .*goes", text)
    shown = json.loads(invoke("points", "web01", "--retention", "--json").stdout)
    assert [p["stays"] for p in shown["points"]] == [True, False, True]


def test_a_plan_names_the_points_that_will_be_removed(invoke: Invoke, play: Play) -> None:
    play("plan", replace(PLAN, expiring=(POINT,)))
    assert re.search(rf"then removed +point {POINT.id}", invoke("plan", "web01").stdout)
    assert json.loads(invoke("plan", "web01", "--json").stdout)["expiring"] == [POINT.id]


def test_a_flagged_point_is_exit_code_10_and_said_with_what_to_do(
    invoke: Invoke, play: Play
) -> None:
    point = replace(POINT, suspicions=("Hard disk 1: 9 GiB changed where 1 MiB are usual",))
    play("run", replace(REPORT, point=point))
    result = invoke("run", "web01")
    assert result.exit_code == 10
    assert "looks like mass encryption" in result.stdout
    assert "9 GiB changed where 1 MiB are usual" in result.stdout
    assert f"vreplica-sync points web01 --accept {POINT.id}" in result.stdout
    play("run", replace(REPORT, point=point, verified=DIFFERENT))
    assert invoke("run", "web01", "--verify").exit_code == 8


def test_points_show_statistics_and_flags_and_older_points_without(
    invoke: Invoke, play: Play
) -> None:
    stats = ChangeStats(17 * MIB, 9 * MIB, MIB, 2 * MIB, 5 * MIB, 40, 0.42, 0.1, GIB)
    odd = replace(
        POINT,
        id="20260302T123000Z-aaaaaa",
        disks=(replace(POINT.disks[0], stats=stats),),
        suspicions=("Hard disk 1: much",),
    )
    play(READ_POINTS, ReplicaPoints((POINT, odd, replace(odd, id="old", accepted=True))))
    shown = invoke("points", "web01").stdout
    for text in ("17 MiB", "9 MiB", "2 MiB", "7 MiB", "42%", "old was flagged, and accepted"):
        assert text in shown
    assert shown.count("is flagged: it looks like mass encryption") == 1
    values = json.loads(invoke("points", "web01", "--json").stdout)["points"]
    assert [v["flagged"] for v in values] == [False, True, False]
    assert values[1]["disks"][0]["stats"]["redundant_bytes"] == 9 * MIB


def test_no_points_yet_is_an_answer_not_an_error(invoke: Invoke, play: Play) -> None:
    play(READ_POINTS, ReplicaPoints(()))
    result = invoke("points", "web01")
    assert (result.exit_code, result.stdout) == (0, "web01: no recovery point yet\n")


def test_verify_says_equal(invoke: Invoke, play: Play) -> None:
    play("verify", EQUAL)
    result = invoke("verify", "web01")
    assert result.exit_code == 0
    assert "and the source, 2.50 s: equal" in result.stdout
    assert json.loads(invoke("verify", "web01", "--json").stdout)["equal"] is True


def test_verify_says_where_it_differs_and_ends_with_8(invoke: Invoke, play: Play) -> None:
    play("verify", DIFFERENT, EQUAL)
    result = invoke("verify")
    assert result.exit_code == 8
    assert "64 KiB differ" in result.stdout
    assert "Hard disk 1 differs in bytes 4096-4607" in result.stdout


def openssl_like_keys(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signed_report_is_checked_and_every_changed_byte_is_found(
    invoke: Invoke, play: Play, tmp_path: Path
) -> None:
    play("verify", EQUAL)
    private, public = openssl_like_keys(tmp_path)
    report, page = tmp_path / "web01.json", tmp_path / "web01.html"
    made = invoke(
        "verify",
        "web01",
        *("--report", str(report)),
        *("--page", str(page)),
        *("--sign-key", str(private)),
    )
    assert made.exit_code == 0, made.output
    data = report.read_bytes()
    value = json.loads(data)
    assert (value["format"], value["point"]["id"]) == ("vreplica-verify-2", POINT.id)
    shown = json.loads(invoke("verify", "web01", "--json").stdout)
    assert value.keys() - {"format", "vreplica"} == shown.keys() - {"version", "result"}
    signature = tmp_path / "web01.json.sig"
    signing.private_key(private).public_key().verify(signature.read_bytes(), data)
    good = invoke("verify-report", str(report), "--key", str(public))
    assert good.exit_code == 0, good.output
    assert "the signature is good" in good.stdout
    assert "2026-03-01 12:30:00Z" in good.stdout, "as times are shown everywhere"
    assert POINT.id in good.stdout
    for at in range(0, len(data), 97):
        report.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        bad = invoke("verify-report", str(report), "--key", str(public))
        assert bad.exit_code == 8
        assert "is not what was signed" in bad.stderr
    html = page.read_text()
    assert hashlib.sha256(data).hexdigest() in html
    assert "<dd>signed</dd>" in html


def test_a_signed_report_of_a_difference_is_exit_code_8_and_its_page_says_where(
    invoke: Invoke, play: Play, tmp_path: Path
) -> None:
    play("verify", DIFFERENT)
    private, public = openssl_like_keys(tmp_path)
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    args = ["--report", str(report), "--page", str(page), "--sign-key", str(private)]
    assert invoke("verify", "web01", *args).exit_code == 8
    checked = invoke("verify-report", str(report), "--key", str(public), "--json")
    assert checked.exit_code == 8
    assert json.loads(checked.stdout)["report"]["equal"] is False
    html = page.read_text()
    assert "64 KiB differ" in html
    assert "4096 to 4607" in html
    assert "<script" not in html
    assert "http" not in html


def test_a_report_whose_verdict_or_totals_are_not_those_of_its_disks_is_refused(
    tmp_path: Path,
) -> None:
    private, public = openssl_like_keys(tmp_path)
    key = signing.private_key(private)
    path = tmp_path / "r.json"
    value = json.loads(signed_report.write_report(DIFFERENT, path, key))
    lies = [{**value, "equal": True}, {**value, "totals": {**value["totals"], "source_root": "0"}}]
    for lie in lies:
        path.write_text(json.dumps(lie))
        signed_report.signature_of(path).write_bytes(key.sign(path.read_bytes()))
        with pytest.raises(signed_report.ReportContradictsItself):
            signed_report.check_report(path, public)


@pytest.mark.parametrize(
    "text",
    ["[]", "7", "[" * 100_000, '{"format": [2]}']
    + [
        f'{{"format": "vreplica-verify-2", "algorithm": "blake3", {rest}}}'
        for rest in ('"totals": [1], "disks": []', '"totals": {"source_root": "0"}, "disks": [1]')
    ],
)
def test_what_is_signed_and_no_report_is_told(text: str, tmp_path: Path) -> None:
    private, public = openssl_like_keys(tmp_path)
    path = tmp_path / "r.json"
    path.write_text(text)
    key = signing.private_key(private)
    signed_report.signature_of(path).write_bytes(key.sign(path.read_bytes()))
    with pytest.raises(signed_report.NotAReport):
        signed_report.check_report(path, public)


def test_a_signed_report_of_a_newer_version_is_named(tmp_path: Path) -> None:
    private, public = openssl_like_keys(tmp_path)
    key = signing.private_key(private)
    path = tmp_path / "r.json"
    value = {"format": "vreplica-verify-3", "of": "the next format"}
    path.write_text(json.dumps(value))
    signed_report.signature_of(path).write_bytes(key.sign(path.read_bytes()))
    with pytest.raises(signed_report.NotAReport, match="newer version of vreplica") as caught:
        signed_report.check_report(path, public)
    assert "check it with that version" in str(caught.value)


def test_keys_that_cannot_be_used_are_told_before_anything_is_read(
    invoke: Invoke, play: Play, tmp_path: Path
) -> None:
    asked = play("verify", EQUAL)
    private, public = openssl_like_keys(tmp_path)
    report = ("--report", str(tmp_path / "r.json"))
    for make, said in (
        (lambda: private.chmod(0o644), "have access to it"),
        (lambda: private.write_bytes(public.read_bytes()), "no private key in PEM form"),
        (private.unlink, "No such file"),
    ):
        private.chmod(0o600)
        make()
        result = invoke("verify", "web01", *report, "--sign-key", str(private))
        assert result.exit_code == 2
        assert said in result.stderr
        assert "what to do: " in result.stderr
    assert asked == []


def test_a_page_escapes_names_and_tells_of_a_sample(tmp_path: Path) -> None:
    spot = SpotCheckResult(seed=9, pieces=10, of_pieces=1000)
    disk = replace(EQUAL.disks[0], label="<b>&", spot=spot)
    html = render(replace(EQUAL, disks=(disk,), source="<i>web01"))
    assert "&lt;b&gt;&amp;" in html
    assert "&lt;i&gt;web01" in html
    assert "No difference in the sample" in html
    assert "10 of 1000 MiB (1.00%), seed 9" in html
    assert f"fewer than {spot.rules_out_pieces} of these MiB differ" in html


# -- errors before any job ------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan", "points", "verify"])
def test_an_unknown_job_stops_everything_before_it_begins(
    command: str, invoke: Invoke, play: Play
) -> None:
    asked = play("run", REPORT)
    result = invoke(command, "web01", "wbe01")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "has no job wbe01" in result.stderr
    assert "what to do: Did you mean web01?" in result.stderr
    assert asked == []


def test_a_broken_file_is_an_error_object_under_json(invoke: Invoke, job_file: Path) -> None:
    job_file.write_text(TWO_JOBS + "keep = 99\n")
    result = invoke("plan", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "JobFileInvalid"
    assert error["problems"][0]["line"] == TWO_JOBS.count("\n") + 1
    assert f"error: {job_file}:" in result.stderr


def test_a_file_without_jobs_is_an_error(invoke: Invoke, job_file: Path) -> None:
    job_file.write_text("")
    result = invoke("run")
    assert result.exit_code == 2
    assert "has no jobs" in result.stderr


def test_what_the_system_refuses_is_told_with_its_place(invoke: Invoke, play: Play) -> None:
    play("run", PermissionError(13, "Permission denied", "/var/lib/vreplica"), REPORT)
    result = invoke("run", "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: web01: /var/lib/vreplica: Permission denied\n  what to")
    bad, good = [json.loads(line) for line in result.stdout.splitlines()]
    assert bad["error"]["type"] == "PermissionError"
    assert good == document("run", REPORT.to_dict())


def test_a_defect_is_one_line_and_a_hint_without_debug(invoke: Invoke, play: Play) -> None:
    play("plan", ZeroDivisionError("by zero"))
    result = invoke("plan", "web01")
    assert result.exit_code == 70
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "--debug" in result.stderr


def test_a_defect_is_a_traceback_with_debug(invoke: Invoke, play: Play) -> None:
    play("plan", ZeroDivisionError("by zero"))
    result = invoke("plan", "web01", "--debug")
    assert result.exit_code == 70
    assert "Traceback (most recent call last)" in result.stderr


def test_a_defect_is_an_error_object_under_json(invoke: Invoke, play: Play) -> None:
    play("plan", ZeroDivisionError("by zero"))
    result = invoke("plan", "web01", "--json")
    assert result.exit_code == 70
    assert json.loads(result.stdout)["error"]["type"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--on-cbt-loss", "panic"],
        ["run", "--require", "clean-shutdown"],
        ["run", "-v", "-q"],
        ["points", "--accept", "p1"],
        ["verify", "--point"],
        ["verify", "--sample", "0%"],
        ["verify", "--sample", "101%"],
        ["verify", "--sample", "nan"],
        ["verify", "web01", "--sample", "5%", "--full"],
        ["verify", "web01", "--seed", "5"],
        ["verify", "web01", "--sign-key", "k.pem"],
        ["verify", "--report", "r.json"],
        ["verify", "--hash", "md5"],
        ["verify-report", "r.json"],
        ["frobnicate"],
        ["--frobnicate"],
        ["thumbprint"],
        ["thumbprint", "host:port"],
        ["thumbprint", "host:70000"],
        ["thumbprint", "ftp://host/"],
        ["lab", "up"],
        ["demo", "--keep", "/"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2_and_says_nothing_on_stdout(
    args: list[str], invoke: Invoke
) -> None:
    result = invoke(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_help_documents_the_exit_codes(invoke: Invoke) -> None:
    shown = invoke("--help").stdout
    codes = {cls.exit_code for cls in _all_errors(VReplicaError)} | {70, 130}
    for code in codes:
        assert f" {code}  " in shown


def _all_errors(cls: type[VReplicaError]) -> list[type[VReplicaError]]:
    return [cls, *(below for sub in cls.__subclasses__() for below in _all_errors(sub))]


# -- thumbprint -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("vc.example", ("vc.example", 443)),
        ("vc.example:8443", ("vc.example", 8443)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[fd00::7]:8443", ("fd00::7", 8443)),
        ("[fd00::7]", ("fd00::7", 443)),
        ("fd00::7", ("fd00::7", 443)),
        ("https://vc.example/sdk", ("vc.example", 443)),
        ("https://vc.example:8443/", ("vc.example", 8443)),
        ("HTTPS://[fd00::7]:8443/ui/#/x?y", ("fd00::7", 8443)),
        ("http://vc.example", ("vc.example", 443)),
        ("vc.example/", ("vc.example", 443)),
    ],
)
def test_a_server_is_a_host_with_or_without_a_port(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["ftp://vc.example", "https://user@vc.example/", "vc.example/ui"])
def test_what_is_no_address_of_a_server_is_refused_with_the_forms(
    invoke: Invoke, text: str
) -> None:
    refused = invoke("thumbprint", text)
    assert refused.exit_code == 2
    assert "is not HOST, HOST:PORT or https://HOST" in refused.stderr


# -- files to write -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "web01", "--report"),
        ("verify", "web01", "--page"),
        ("failover", "show", "web01", "--page"),
        ("test-failover", "web01", "--page"),
        ("schema", "-o"),
        ("init", "-o"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    invoke: Invoke, play: Play, tmp_path: Path, command: tuple[str, ...]
) -> None:
    asked = play("verify", EQUAL)
    refused = invoke(*command, str(tmp_path / "none" / "file"))
    assert (refused.exit_code, asked) == (2, [])
    assert f"there is no folder {tmp_path / 'none'}" in " ".join(refused.stderr.split())


# -- init -----------------------------------------------------------------------------------


def test_a_wrong_answer_is_asked_again_and_a_wrong_option_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["ds9", "ds2"])
    monkeypatch.setattr(init, "ask", lambda *_, **__: next(answers))
    stores = {"ds1": "9 GiB free", "ds2": ""}
    assert init.one("datastore", None, stores, "--datastore") == "ds2"
    assert "there is no datastore 'ds9'" in capsys.readouterr().err
    with pytest.raises(click.UsageError, match="there are ds1, ds2"):
        init.one("datastore", "ds9", stores, "--datastore")


def test_what_looks_like_an_emoji_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = grid("thumbprint")
    table.add_row("01:AB:42")
    Output().show("3A:AB:1D", table)
    assert {"3A:AB:1D", "01:AB:42"} <= set(capsys.readouterr().out.split())


def test_status_shows_every_job_and_says_what_it_does_not_know(
    invoke: Invoke, job_file: Path
) -> None:
    nothing = invoke("history")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr
    job_file.write_text(TWO_JOBS.replace("[jobs.db01]", 'schedule = { every = "4h" }\n[jobs.db01]'))
    catalog, service, hint, head, _, *rows = invoke("status").stdout.splitlines()
    assert "`vreplica-sync status --live` asks the sites" in hint
    assert catalog.startswith("no catalog has been made")
    assert service.startswith("no service is running")
    assert head.split() == ["job", "VM", "at", "point", "target", "state", "next", "why"]
    assert [row.split()[0] for row in rows] == ["web01", "db01"]
    for row in rows:
        assert "not known  not known here" in row
