"""The command `vreplica-sync`: people's and programs' way to what `import vreplica` offers."""

from vreplica.cli.app import app, main

__all__ = ["app", "main"]
