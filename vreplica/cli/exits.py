"""Exit codes, and how every way in which a command can end becomes one."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

import click

from vreplica.cli.render.output import Output, each_error

OK = 0
FAILED = 1
PREFLIGHT = 3
DIFFERENT = 8
STOPPED = 9
"""A failover was given up by its policy, or did not get where it was asked to go."""
SUSPICIOUS = 10
RPO_VIOLATED = 11
INTERNAL = 70
"""EX_SOFTWARE of sysexits.h"""
HUNG_UP = 129
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
FINAL = frozenset({HUNG_UP, INTERRUPTED, BROKEN_PIPE, TERMINATED})
"""After these no further job is begun."""

TABLE = """\
\b
Exit codes:
    0  done; verify: equal
    1  failed for a reason that has no code of its own
    2  the command line or the job file cannot be used
    3  refused before anything was changed
    4  a virtual disk could not be opened, read or written
    5  vCenter or an ESXi host refused, failed or could not be reached
    6  the required consistency level cannot be reached
    7  the replica is not in the state that it should be in
    8  source and replica differ where they must be equal
    9  a failover could not go on
   10  run: done, but the new recovery point is flagged: the change looks like mass encryption
   11  status: a job's newest point is older than its target
   70  a defect in vreplica
  130  cancelled by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)
  141  whoever read the results has closed the pipe
With several jobs each is worked on; the code is that of the first one that failed.
"""


_MAY_NOT = "let this user read and write there, or name another place"
_FULL = "free some space there, or name another place"
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _MAY_NOT),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
}


def guarded(out: Output, work: Callable[[], int], *, job: str | None = None) -> int:
    """Do the work; whatever it ends in is told to the user and becomes an exit code."""
    try:
        return work()
    except click.ClickException:
        raise
    except BrokenPipeError:
        # Whoever read the results has enough. What Python still holds of them goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except click.Abort:
        # Ctrl-C at a question, or its end of file: the cursor still stands behind it.
        click.echo(err=True)
        out.failure("cancelled at the question: nothing was changed")
        return INTERRUPTED
    except KeyboardInterrupt:
        out.failure("cancelled")
        return INTERRUPTED
    except OSError as error:
        return _system_error(out, error, job)
    except Exception as error:
        return _told(out, error, job)


def _told(out: Output, error: Exception, job: str | None) -> int:
    known = each_error(error)
    if known is None:
        return _defect(out, error)
    errors = list(known)
    for one in errors:
        out.error(one, job)
    if out.debug:
        traceback.print_exception(error)
    return errors[0].exit_code


def _system_error(out: Output, error: OSError, job: str | None) -> int:
    """What the operating system refused: a full disk, a folder that may not be written."""
    if out.debug:
        traceback.print_exception(error)
    text = ": ".join(str(p) for p in (job, error.filename, error.strerror or error) if p)
    remedy = _REMEDIES.get(error.errno or 0)
    out.failure(text, *([f"what to do: {remedy}"] if remedy else []))
    if out.as_json:
        place = {"job": job} if job else {}
        told = {"error": type(error).__name__, "message": text, "remedy": remedy}
        with suppress(OSError):  # it may be the results' own place that is full
            out.json({**place, "error": told})
    return FAILED


def _defect(out: Output, error: Exception) -> int:
    if out.debug:
        traceback.print_exception(error)
    hint = (
        ""
        if out.debug
        else "what to do: run it again with --debug for the traceback, and report it"
    )
    text = f"this should not have happened: {type(error).__name__}: {error}"
    out.failure(text, *([hint] if hint else []))
    if out.as_json:
        with suppress(OSError):
            out.json({"error": {"error": type(error).__name__, "message": str(error)}})
    return INTERNAL
