"""Runs the work of a command and turns every way in which it can end into an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from vreplica.cli import exit_codes
from vreplica.cli.render.output import Output, each_error, foreign_error
from vreplica.cli.render.plain import print_plain, print_traceback
from vreplica.formats import Damaged
from vreplica.printable import printable
from vreplica.redact import hide

_MAY_NOT = "let this user read and write there, or name another place"
_FULL = "free some space there, or name another place"
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _MAY_NOT),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
}


def guarded(out: Output, work: Callable[[], int], *, job: str | None = None) -> int:
    """Does the work and returns its exit code; an error is reported and gives its own code."""
    try:
        return work()
    except click.ClickException as error:
        # click itself shows it, with names of others in it.
        error.message = printable(hide(error.message))  # type: ignore[misc]
        raise
    except BrokenPipeError:
        # The reader of the results closed the pipe. What Python still buffers is thrown away.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except click.Abort:
        # Ctrl-C or the end of the input at a question: the cursor still stands behind it.
        print_plain()
        out.failure("cancelled at the question: nothing was changed")
        return exit_codes.INTERRUPTED
    except KeyboardInterrupt:
        out.failure("cancelled")
        return exit_codes.INTERRUPTED
    except OSError as error:
        return _report_system_error(out, error, job)
    except Damaged as error:
        return _report_damage(out, error, job)
    except Exception as error:
        return _report_errors(out, error, job)


def _report_errors(out: Output, error: Exception, job: str | None) -> int:
    known = each_error(error)
    if known is None:
        return _report_defect(out, error)
    errors = list(known)
    for one in errors:
        out.error(one, job)
    if out.debug:
        print_traceback(error)
    return errors[0].exit_code


def _report_system_error(out: Output, error: OSError, job: str | None) -> int:
    """An error of the operating system: a full disk, a folder that may not be written."""
    if out.debug:
        print_traceback(error)
    text = ": ".join(str(p) for p in (job, error.filename, error.strerror or error) if p)
    return _report_foreign(out, error, text, _REMEDIES.get(error.errno or 0), job)


def _report_damage(out: Output, error: Damaged, job: str | None) -> int:
    """A stored value of which no reader has made anything better."""
    if out.debug:
        print_traceback(error)
    text = f"something that was stored is damaged: {error}"
    return _report_foreign(out, error, f"{job}: {text}" if job else text, None, job)


def _report_foreign(
    out: Output, error: Exception, text: str, remedy: str | None, job: str | None
) -> int:
    out.failure(text, *([f"what to do: {remedy}"] if remedy else []))
    if out.as_json:
        place = {"job": job} if job else {}
        value = foreign_error(error, text, exit_codes.FAILED, remedy)
        with suppress(OSError):  # it may be the results' own place that is full
            out.json("error", {**place, "error": value})
    return exit_codes.FAILED


def _report_defect(out: Output, error: Exception) -> int:
    if out.debug:
        print_traceback(error)
    hint = (
        ""
        if out.debug
        else "what to do: run it again with --debug for the traceback, and report it"
    )
    text = f"this should not have happened: {type(error).__name__}: {error}"
    out.failure(text, *([hint] if hint else []))
    if out.as_json:
        with suppress(OSError):
            value = foreign_error(error, text, exit_codes.INTERNAL, hint or None)
            out.json("error", {"error": value})
    return exit_codes.INTERNAL
