"""Tables at every width: what has no room is said, and never cut off."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vreplica.cli.render.table import Grid
from vreplica.cli.render.text import facts, indented

CELLS = ("20261128T100955Z-66c1ab", "clean-shutdown", "98.6 MiB", "31%")


def shown(width: int) -> str:
    table = Grid("id", "level", "shipped>", "zlib>?")
    table.add_row(*CELLS)
    out = io.StringIO()
    Console(file=out, width=width).print(indented(table))
    return out.getvalue()


def test_a_wide_terminal_has_every_column_and_no_remark() -> None:
    assert all(cell in shown(80) for cell in CELLS)
    assert "no room" not in shown(80)


def test_what_is_left_out_is_named() -> None:
    text = shown(56)
    assert all(cell in text for cell in CELLS[:3])
    assert "31%" not in text
    assert "columns hidden (narrow terminal): zlib" in text


def test_a_narrow_terminal_has_a_line_for_each_cell() -> None:
    text = shown(36)
    assert all(cell in text for cell in CELLS)
    assert "no room" not in text
    assert len(text.splitlines()) == len(CELLS)


@pytest.mark.parametrize("width", range(30, 90, 7))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in shown(width).splitlines())


@pytest.mark.parametrize("width", [24, 36, 44, 80])
def test_a_folded_column_loses_no_letter(width: int) -> None:
    why = "newest at level clean-shutdown"
    table = Grid("disk", "kept as~")
    table.add_row("Hard disk 1", why)
    out = io.StringIO()
    Console(file=out, width=width).print(indented(table))
    assert why.replace(" ", "") in "".join(out.getvalue().split())


def test_a_long_word_of_a_fact_is_folded_and_not_cut() -> None:
    digest = "3214aece1f3d471637fc749dea06094a4e2c6a4c4bf371d6cccf0d1838a8241f"
    out = io.StringIO()
    Console(file=out, width=40).print(facts(("Hard disk 1", [digest])))
    assert digest in "".join(out.getvalue().replace("Hard disk 1", "").split())
