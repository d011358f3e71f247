"""Faults on demand: a rule says which call, which object, when, and what happens instead."""

from __future__ import annotations

from typing import Any


class Faults:
    """The rules of one site. Without rules nothing happens."""

    def before(self, call: Any, request: Any) -> None:
        """In the call, before the method."""

    def after(self, call: Any, request: Any) -> None:
        """In the call, once the method has worked and before the reply leaves."""

    def in_task(self, task: Any) -> None:
        """In the task's thread, before its work."""
