"""Tables that fit the terminal, and say so where columns are hidden.

wide enough    all columns; those that may be folded share the width that the others leave
narrower       without the columns marked `?`, the last one first; a line below names them
narrower yet   a block of lines for each row, a line for each column
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

FOLDED: Final = 14
"""The least width of a folded column."""

GAP: Final = 2
"""Blanks between two columns."""

Cell = str | Text


class _Column:
    def __init__(self, spec: str) -> None:
        self.name = spec.rstrip(">~?")
        marks = spec[len(self.name) :]
        self.right, self.folds, self.optional = (mark in marks for mark in ">~?")
        assert not set(">~?") & set(self.name), "marks come behind the name"
        self.width = cell_len(self.name)

    @property
    def least(self) -> int:
        return min(self.width, FOLDED) if self.folds else self.width


class Grid:
    """A table with a line below its head.

    Behind a column's name `>` aligns it to the right, `~` lets it be folded, `?` lets it be hidden.
    """

    def __init__(self, *columns: str) -> None:
        self._columns = [_Column(spec) for spec in columns]
        self._rows: list[tuple[Cell, ...]] = []

    def add_row(self, *cells: Cell) -> None:
        self._rows.append(cells)
        for column, cell in zip(self._columns, cells, strict=True):
            column.width = max(column.width, cell_len(str(cell)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self._columns)))
        optional = [n for n in shown if self._columns[n].optional]
        while optional and self._least(shown) > options.max_width:
            shown.remove(optional.pop())
        if self._least(shown) > options.max_width:
            yield self._blocks()
            return
        yield self._table(shown)
        if left := [c.name for n, c in enumerate(self._columns) if n not in shown]:
            text = f"columns hidden (narrow terminal): {', '.join(left)}"
            yield Text(text, "dim")

    def _least(self, shown: Sequence[int]) -> int:
        return sum(self._columns[n].least for n in shown) + GAP * (len(shown) - 1)

    def _table(self, shown: Sequence[int]) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            show_edge=False,
            padding=(0, 1, 0, 0),
            header_style="dim",
        )
        for column in (self._columns[n] for n in shown):
            table.add_column(
                column.name,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                min_width=column.least if column.folds else None,
                overflow="fold",
            )
        for row in self._rows:
            table.add_row(*(row[n] for n in shown))
        return table

    def _blocks(self) -> Table:
        table = Table.grid(padding=(0, GAP))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for number, row in enumerate(self._rows):
            if number:
                table.add_row("", "")
            for column, cell in zip(self._columns, row, strict=True):
                table.add_row(column.name, cell)
        return table
