"""The command `vreplica-sync`: people's and programs' way to what `import vreplica` offers."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """The console script."""
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
        # Before any command has begun, while modules are still being read.
        sys.exit(130)
