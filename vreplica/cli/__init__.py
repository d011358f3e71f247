"""The command `vreplica-sync`: people's and programs' way to what `import vreplica` offers."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    try:
        from vreplica.cli.app import app

        app(prog_name="vreplica-sync")
    except KeyboardInterrupt:
        # Before any command has begun, while modules are still being read.
        sys.exit(130)
