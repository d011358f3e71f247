"""Shows results to people: text and tables for terminals, HTML pages.

    from vreplica.cli import render
    out.answer("plan", report.to_dict(), lambda: render.text.plan(report))

A module is imported when it is first used, since most need `rich`, and programs that read JSON do
not.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vreplica.cli.render import adopt_text, failover_views, test_report, text, verify_html

__all__ = ["adopt_text", "failover_views", "test_report", "text", "verify_html"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
