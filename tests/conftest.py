"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import settings

pytest_plugins = ["tests.support.job_file", "tests.support.lab", "tests.support.results"]

# A deadline per example measures the machine's load, not the code.
settings.register_profile("vreplica", deadline=None)
settings.load_profile("vreplica")

# A shell has background jobs ignore Ctrl-C, nohup a hangup, and children inherit that: tests send
# both to both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Set before the workers begin, so that all of them name the same places around midnight too.
os.environ.setdefault("VREPLICA_KILL_SEED", f"{datetime.now(UTC):%Y%m%d}")


FIRST = ("tests/e2e/", "tests/cli/")
"""The folders of the longest tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: one that comes last keeps one process busy and no other."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """`tool("qemu-img", "qemu-utils")`: the path of a program, or a skip that names its package.

    In CI a missing program fails, since `make test` should have installed it.
    """

    def find(program: str, package: str) -> str:
        # Debian keeps mke2fs and its like in sbin, which not every user has in PATH.
        path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path:
            return path
        reason = f"{program} is not installed (Debian package {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return find
