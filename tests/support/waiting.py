"""Waits for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    what: str, holds: Callable[[], object], seconds: float = 30.0, poll_s: float = 0.005
) -> None:
    """Return once `holds()` is true; fail where it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(poll_s)
