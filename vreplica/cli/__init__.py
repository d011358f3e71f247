"""The command `vreplica-sync`, over the functions of `import vreplica`."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Runs the command: the console script."""
    _open_streams()
    # numpy's OpenBLAS starts a thread for each core, which is half of numpy's import time here
    # (80 ms instead of 140), for linear algebra that nothing in this package does.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A name of a VM that the terminal's encoding lacks must not end a failover as a defect.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from vreplica.cli.app import app

        app(prog_name="vreplica-sync")
    except KeyboardInterrupt:
        # Modules are still being imported, and no command has begun.
        sys.exit(130)
    except OSError as error:
        # click itself writes help and version, before any command has begun.
        print(f"error: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def _open_streams() -> None:
    """Opens closed streams (`>&-`) on /dev/null: the next file would else get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
