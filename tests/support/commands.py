"""Commands called as a user calls them, inside this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from vreplica.cli.app import app


def invoke(*args: str) -> Result:
    """The result of `vreplica-sync ARGS`, which shows no traceback."""
    result = CliRunner().invoke(app, list(args))
    assert "Traceback" not in result.output
    return result
