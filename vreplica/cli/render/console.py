"""Consoles of `rich` for one stream, and how a part is printed on them.

Whatever is rendered is cleaned: control characters of others never reach a terminal (`printable`).
Only this module and `plain` write to a stream; a test holds that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vreplica.printable import printable
from vreplica.redact import hide

WIDE = 160
"""Columns of tables that go to a file or a program: wide enough that nothing is cut."""


class _Console(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Cleans what is rendered. The console's own controls (colours, cursor) come later."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

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
    """A line that begins with a coloured mark, with indented lines below it.

    Further lines of a text are indented as well: none of them looks like a line of ours.
    """
    lines = [Text.assemble((mark, mark_style), _indented(text))]
    lines += [
        Text(f"  {_indented(line)}", "dim" if line.startswith(" ") else "") for line in details
    ]
    print_part(console, Text("\n").join(lines))


def print_dim(console: Console, text: str) -> None:
    print_part(console, Text(_indented(text), "dim"))


def _indented(text: str) -> str:
    return hide(text).replace("\n", "\n  ")
