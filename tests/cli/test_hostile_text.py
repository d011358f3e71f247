"""What others wrote reaches no terminal, page or program raw: control characters and secrets."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Group
from rich.progress import Progress
from rich.text import Text

import vreplica.cli
from vreplica import redact
from vreplica.cli.commands.service.log import _Json, _Lines
from vreplica.cli.render import html, plain
from vreplica.cli.render.console import _Console, make_console, print_line, print_part
from vreplica.cli.render.output import Output
from vreplica.cli.render.table import Grid
from vreplica.errors import DiskClosed
from vreplica.failover.machine.journal import Journal, load
from vreplica.notify.events import ServiceEvent
from vreplica.notify.receiver import answer_text, as_json
from vreplica.printable import one_line, printable, printable_json
from vreplica.service.catalog.tables import PlainText, to_json

TITLE = "\x1b]0;PWNED\x07"
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4K\x07"
CLEAR = "\x1b[2J\x1b[1;1H"
C1 = "\x9b31m\x9d0;PWNED\x9c"
TURNED = "\u202egpj.exe\u2066"
HOSTILE = f"web{TITLE}{CLIPBOARD}{CLEAR}{C1}{TURNED}\r\x08\x7f\x00\u2028\udc9b01"
RAW = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)
SECRET = "Pa55-w0rd&<"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", set())
    redact.remember(SECRET)


def on_a_terminal(*parts: Any) -> str:
    stream = io.StringIO()
    console = _Console(file=stream, force_terminal=True, color_system=None, emoji=False, width=200)
    for part in parts:
        print_part(console, part)
    print_line(console, "error: ", "bold red", HOSTILE, HOSTILE)
    return stream.getvalue()


def grid() -> Grid:
    table = Grid("name~", "state")
    table.add_row(HOSTILE, Text(HOSTILE, "bold"))
    return table


def test_nothing_that_is_rendered_controls_the_terminal() -> None:
    progress = Progress(disable=False)
    progress.add_task(HOSTILE)
    parts = (HOSTILE, Text(HOSTILE), grid(), Group(HOSTILE, Text(HOSTILE)))
    shown = on_a_terminal(*parts, progress.make_tasks_table(progress.tasks))
    assert RAW.findall(shown) == []
    assert "PWNED" in shown, "it is shown as what it is"


def test_what_is_not_a_terminal_gets_no_control_characters_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Output()
    out.show(HOSTILE, grid())
    out.warning(HOSTILE)
    out.note(HOSTILE)
    out.failure(HOSTILE, HOSTILE)
    out.error(DiskClosed(HOSTILE).at(vm=HOSTILE), "web01")
    out.log_line(HOSTILE)
    with out.showing_logs():
        # Not the surrogate: pytest keeps what is logged, and cannot pass that on.
        logging.getLogger("vreplica.x").warning("%s", HOSTILE.replace("\udc9b", ""))
    plain.print_plain(HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        plain.print_traceback(error)
    said = capsys.readouterr()
    assert RAW.findall(said.out + said.err) == []


def test_a_text_of_several_lines_looks_like_no_line_of_ours() -> None:
    stream = io.StringIO()
    console = _Console(file=stream, width=200)
    print_line(console, "warning: ", "", "guest said\nerror: all is lost", "one\ntwo")
    assert stream.getvalue().splitlines() == [
        "warning: guest said",
        "  error: all is lost",
        "  one",
        "  two",
    ]


def test_json_keeps_its_values_and_has_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = HOSTILE.replace("\udc9b", "")
    document = printable_json(json.dumps({"name": text}, ensure_ascii=False))
    assert RAW.findall(document) == []
    assert json.loads(document) == {"name": text}
    plain.print_json({"name": HOSTILE, "error": f"near {SECRET!r}"})
    said = capsys.readouterr().out
    assert RAW.findall(said.rstrip("\n")) == []
    assert json.loads(said)["error"] == "near '***'"


def test_signs_stand_for_controls_and_other_text_stays() -> None:
    assert printable("a\x1b\x07\x7f\x9b\tb\nc") == "a\u241b\u2407\u2421\ufffd\tb\nc"
    assert printable("Žluťoučký 日本語 🐳 e\u0301") == "Žluťoučký 日本語 🐳 e\u0301"
    assert one_line("a\r\nb\x00 c") == "a\u240d b\u2400 c"


def test_logs_mails_and_pages_have_neither() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (HOSTILE + SECRET,), None)
    event = ServiceEvent("run failed", "web01", "m1", {"error": f"{HOSTILE}\n{SECRET}"})
    made = [
        _Lines().format(record),
        _Json().format(record),
        event.text,
        as_json(event.to_dict()).decode(),
        answer_text("HTTP 500", HOSTILE + SECRET),
        html.page(HOSTILE + SECRET, HOSTILE, [html.output(HOSTILE + SECRET), html.text(HOSTILE)]),
    ]
    for text in made:
        assert RAW.findall(text) == []
        assert SECRET not in text
        assert "Pa55-w0rd" not in text
    assert "\n" not in event.text


def test_neither_catalog_nor_journal_keeps_a_secret(tmp_path: Path) -> None:
    assert "Pa55" not in to_json({"error": {"message": f"bad {SECRET}"}, "all": [SECRET]})
    bound = PlainText().process_bind_param(f"bad {SECRET}", None)
    assert bound == "bad ***"
    journal = Journal.begin(tmp_path / "fo-1", {})
    journal.write("call", step="x", data={"result": f"failed: cannot log in with {SECRET}"})
    journal.close()
    assert "Pa55" not in (tmp_path / "fo-1" / "journal.jsonl").read_text()
    assert load(tmp_path / "fo-1")[1].data["result"] == "failed: cannot log in with ***"


def test_a_secret_that_is_a_word_of_ours_changes_no_key() -> None:
    redact.remember("result")
    assert redact.hide_in({"result": "result", "n": [1, None, True]}) == {
        "result": "***",
        "n": [1, None, True],
    }


WRITERS = {"echo", "secho", "prompt", "confirm", "print_exception", "print_exc"}


def test_commands_print_by_the_two_modules_that_clean() -> None:
    """A new command that prints by itself would forget it."""
    root = Path(vreplica.cli.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).as_posix() in ("render/plain.py", "render/console.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            owner, _, name = call.rpartition(".")
            printed = call == "print" and path.name != "__init__.py"
            raw = owner in ("click", "traceback") and name in WRITERS
            written = owner in ("sys.stdout", "sys.stderr") and name == "write"
            if printed or raw or written:
                found.append(f"{path.relative_to(root)}:{node.lineno}: {call}")
    assert not found


def test_the_consoles_are_the_ones_that_clean() -> None:
    assert isinstance(make_console(stderr=True), _Console)
