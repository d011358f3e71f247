"""Consoles of `rich` for one stream, and how a part is printed on them."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType
from rich.text import Text

WIDE = 160
"""Columns of tables that go to a file or a program: wide enough that nothing is cut."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves the exit code to the command: Console itself would make it 1."""
        raise BrokenPipeError


def make_console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A thumbprint with :AB: in it is no emoji.
    return _Console(stderr=stderr, width=None if stream.isatty() else WIDE, emoji=False)


def print_part(console: Console, part: RenderableType) -> None:
    """Folds lines between words on a terminal, and leaves them whole elsewhere."""
    if console.is_terminal:
        console.print(part, markup=False, highlight=False)
        return
    with console.capture() as captured:
        whole = isinstance(part, str | Text)
        console.print(part, markup=False, highlight=False, soft_wrap=whole)
    # Cells of a table are filled up with blanks, which are of no use in a file.
    lines = captured.get().removesuffix("\n").split("\n")
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
    console.file.flush()


def print_line(console: Console, mark: str, mark_style: str, text: str, *details: str) -> None:
    """A line that begins with a coloured mark, with indented lines below it."""
    lines = [Text.assemble((mark, mark_style), text)]
    lines += [Text(f"  {line}", "dim" if line.startswith(" ") else "") for line in details]
    print_part(console, Text("\n").join(lines))


def print_dim(console: Console, text: str) -> None:
    print_part(console, Text(text, "dim"))
