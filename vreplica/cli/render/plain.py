"""Prints what needs no `rich`: JSON, lines between questions, the questions, tracebacks.

Secrets are hidden here (`redact`), and control characters of others made visible (`printable`).
Only this module and `console` write to a stream; a test holds that.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import click

from vreplica.printable import printable, printable_json
from vreplica.redact import hide, hide_in


def print_json(value: Mapping[str, Any]) -> None:
    """One document in one line on standard output."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(hide_in(value), ensure_ascii=not unicode)
    print(printable_json(text), flush=True)


def print_document(text: str) -> None:
    """A document of several lines on standard output, made by us."""
    print(printable(text), flush=True)


def print_plain(text: str = "") -> None:
    """A line on standard error, before or between questions."""
    click.echo(printable(hide(text)), err=True)


def print_traceback(error: BaseException) -> None:
    """The traceback of an error, for --debug."""
    print_plain("".join(traceback.format_exception(error)).rstrip("\n"))


def prompt(question: str, **more: Any) -> Any:
    """Asks a question on standard error. `more`: as click's prompt takes it."""
    return click.prompt(printable(hide(question)), err=True, **more)


def confirm(question: str) -> bool:
    return click.confirm(printable(hide(question)), err=True)
