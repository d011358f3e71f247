"""The command as a process: signals, pipes, terminals, and what a shell sees of errors."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.job_file import PASSWORD, job_table, site_table

CONFIG = site_table() + job_table("web01") + job_table("db01")

PLAYED = """\
import sys, time
import vreplica
from vreplica.cli import main
from vreplica.delta.errors import CopyCancelled
from vreplica.sync.events import Progress, Step

def run(job, *, listener, verify, control, sessions, take_over):
    print("running", job.name, file=sys.stderr, flush=True)
    {body}

vreplica.run = run
main()
"""

SAYING = """\
import vreplica.cli.app
from vreplica.cli import main
from vreplica.cli.render.output import Output

def say(**_):
    Output(as_json={as_json}).answer("vm", {{"vm": "w\\u65e5"}}, "w\\u65e5")

vreplica.cli.app.app = say
main()
"""

OBEDIENT = """
    while control.admit():
        time.sleep(0.01)
    raise CopyCancelled(1, 2)
"""

STUBBORN = """
    while True:
        time.sleep(0.01)
"""

SLOW_COPY = """
    listener(Step("copy", "copying two disks"))
    for done in range(101):
        listener(Progress("copy", "Hard disk 1", done << 20, 100 << 20, done << 19))
        time.sleep(0.027)
    raise CopyCancelled(1, 2)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VREPLICA_CONFIG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PASSWORD", PASSWORD)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vreplica.toml").write_text(CONFIG)
    return tmp_path


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from vreplica.cli import main; main()", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def played(body: str, *args: str, **streams: int) -> Iterator[subprocess.Popen[str]]:
    """The command `run` in a process of its own, over a replication that behaves like `body`."""
    script = PLAYED.replace("{body}", body.strip())
    with subprocess.Popen(
        [sys.executable, "-c", script, "run", *args],
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},  # type: ignore[arg-type]
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], start: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(start):
            return
    pytest.fail(f"no line began with {start!r}")


# -- errors ---------------------------------------------------------------------------------


def test_an_error_is_on_stderr_alone_without_colours_for_a_pipe(folder: Path) -> None:
    result = command("run", "web1")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: vreplica.toml has no job web1\n  what to do: Did you mean web01?\n"
    )


def test_no_file_says_where_it_was_looked_for(folder: Path) -> None:
    (folder / "vreplica.toml").unlink()
    result = command("plan")
    assert result.returncode == 2
    assert "./vreplica.toml" in result.stderr
    assert f"{folder}/none/vreplica/vreplica.toml" in result.stderr


def test_a_named_file_that_is_missing_says_so(folder: Path) -> None:
    result = command("plan", "--config", "other.toml")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "error: cannot read the job file other.toml: No such file or directory\n"
    )


def test_broken_toml_names_the_line(folder: Path) -> None:
    (folder / "vreplica.toml").write_text(CONFIG.replace('host = "vc', "host = vc"))
    result = command("points")
    assert result.returncode == 2
    assert result.stderr.startswith("error: vreplica.toml:2: this is not valid TOML at column 8")


def test_a_password_that_is_not_to_be_had_fails_the_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PASSWORD")
    result = command("plan", "web01", "--json")
    assert result.returncode == 2
    answer = json.loads(result.stdout)
    assert answer["job"] == "web01"
    assert answer["error"]["type"] == "SecretUnavailable"
    assert "PASSWORD" in answer["error"]["remedy"]


@pytest.mark.parametrize("option", ["--json", "-v"])
def test_a_closed_pipe_ends_it_quietly(option: str, folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = (
        "from vreplica.sync import recovery_points as r; r.read_points = lambda *_, **__: "
        "r.ReplicaPoints()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"{script}from vreplica.cli import main; main()", "points", option],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("option", ["--json", "-v"])
def test_a_name_that_the_encoding_lacks_is_no_defect(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    result = subprocess.run(
        [sys.executable, "-c", SAYING.format(as_json=option == "--json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\u65e5" in result.stdout
    if option == "--json":
        assert json.loads(result.stdout)["vm"] == "w\u65e5"


# -- signals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_cancels_the_run_in_order_and_begins_no_other_job(
    folder: Path, number: int, code: int
) -> None:
    with played(OBEDIENT) as process:
        lines_until(process, "running web01")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert stdout == ""
    assert "cancelling: " in stderr
    assert "error: web01: the copy was cancelled after 1 of 2 bytes" in stderr
    assert "Traceback" not in stderr
    assert "running db01" not in stderr


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    with played(STUBBORN) as process:
        lines_until(process, "running web01")
        process.send_signal(signal.SIGINT)
        lines_until(process, "cancelling: ")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert process.returncode == 130


def test_help_needs_nothing_that_is_slow_to_load() -> None:
    script = "import sys; from vreplica.cli.app import app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pydantic", "pyVmomi", "vreplica.lab"} & set(loaded)


# -- the terminal ---------------------------------------------------------------------------


def seen_on_a_terminal(body: str) -> tuple[str, float]:
    """What the command writes to a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    start = time.monotonic()
    with played(body, "web01", stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # Linux says EIO when the other end was closed
            pass
        process.wait(timeout=30)
    os.close(ours)
    return seen.decode(), time.monotonic() - start


def test_bars_appear_on_a_terminal_when_it_takes_longer_than_two_seconds(folder: Path) -> None:
    seen, _ = seen_on_a_terminal(SLOW_COPY)
    assert "copying two disks" in seen
    assert "MiB of 100 MiB" in seen
    assert "MiB/s" in seen
    assert " left" in seen
    assert seen.rstrip().endswith("\x1b[0m") or "error: " in seen.split("\x1b[2K")[-1]


def test_no_bars_appear_for_what_ends_sooner(folder: Path) -> None:
    seen, _ = seen_on_a_terminal(SLOW_COPY.replace("0.027", "0.001"))
    assert "MiB of" not in seen


@pytest.mark.parametrize(
    "args", [["schema"], ["schema", "--json"], ["--help"], ["status", "--json"]]
)
def test_results_that_find_no_room_are_an_error_and_no_traceback(
    folder: Path, args: list[str]
) -> None:
    schedule = 'schedule = { every = "4h" }\n'
    (folder / "vreplica.toml").write_text(CONFIG.replace("[jobs.db01]", schedule + "[jobs.db01]"))
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", "from vreplica.cli import main; main()", *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "No space left on device" in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_leads_nowhere(folder: Path, closed: str) -> None:
    """Its number would else be that of the next file, which then got what is printed."""
    program = f'"{sys.executable}" -c "from vreplica.cli import main; main()"'
    script = f"{program} schema {closed}; echo $? >&9"
    ended = subprocess.run(
        ["bash", "-c", f"exec 9>code; {script}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert (folder / "code").read_text() == "0\n", ended.stderr
    assert ended.stderr == ""
    assert bool(ended.stdout) == (">&-" not in closed.replace("2>&-", ""))
