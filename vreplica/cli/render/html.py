"""Makes a report as one HTML file without other files: for a mail, an archive, a printer.

    page("Failover of web01", [facts(...), heading("What was done"), table(...)])

Pure: values in, text out; everything that is put in is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Literal

import vreplica
from vreplica.printable import printable
from vreplica.redact import hide

Tone = Literal["good", "bad", "plain"]

STYLE = """
:root { color-scheme: light dark; --line: #d5dae1; --dim: #5d6775; --good: #14713d;
  --bad: #b3261e; --soft: #f4f6f8; --bar: #3b6ea5; }
@media (prefers-color-scheme: dark) { :root { --line: #3a424d; --dim: #9aa5b3; --good: #6fd195;
  --bad: #ff8a80; --soft: #1d2229; --bar: #6ea2d8; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1.25rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.lead, footer { color: var(--dim); } .lead { margin: 0 0 1.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
code { font: .85em/1.4 ui-monospace, monospace; }
.verdict { font-size: 1.25rem; margin: 0 0 1rem; }
@media (max-width: 32rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; } }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--dim); white-space: nowrap; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td { overflow-wrap: anywhere; } td.short { white-space: nowrap; overflow-wrap: normal; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; white-space: pre-wrap; }
.bars { display: flex; height: 1.25rem; margin: .5rem 0; gap: 2px; }
.bars i { background: var(--bar); min-width: 2px; } .bars i:nth-child(even) { opacity: .55; }
footer { margin-top: 2.5rem; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } }
"""


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is HTML already and is not escaped again."""

    text: str


Cell = str | Html


def _escaped(value: str) -> str:
    """Text for a page: printable, without secrets, and no HTML."""
    return escape(printable(hide(value)))


def page(title: str, lead: str, parts: Iterable[Html]) -> str:
    """The whole document."""
    made = f"vreplica {vreplica.__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z"
    body = "\n".join(part.text for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{_escaped(title)}</h1>\n<p class="lead">{_escaped(lead)}</p>\n{body}\n'
        f"<footer>{_escaped(made)}</footer>\n</body>\n</html>\n"
    )


def heading(text: str) -> Html:
    return Html(f"<h2>{_escaped(text)}</h2>")


def text(value: str) -> Html:
    return Html(f"<p>{_escaped(value)}</p>")


def toned(value: str, tone: Tone) -> Html:
    return Html(f'<span class="{tone}">{_escaped(value)}</span>')


def code(value: str) -> Html:
    """Text that is compared letter by letter: a digest, a file name."""
    return Html(f"<code>{_escaped(value)}</code>")


def verdict(value: str, tone: Tone) -> Html:
    return Html(f'<p class="verdict {tone}">{_escaped(value)}</p>')


def output(value: str) -> Html:
    """The output of a program, unchanged."""
    return Html(f"<pre>{_escaped(value)}</pre>")


def facts(*named: tuple[str, Cell | None]) -> Html:
    """Names with their values. Names without a value are left out."""
    lines = [f"<dt>{_escaped(n)}</dt><dd>{_cell(v)}</dd>" for n, v in named if v]
    return Html(f"<dl>{''.join(lines)}</dl>")


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Html:
    """Columns whose name ends in `~` may be folded, the others may not."""
    head = "".join(f"<th>{_escaped(c.rstrip('~'))}</th>" for c in columns)
    lines = []
    for row in rows:
        kinds = ["long" if c.endswith("~") else "short" for c in columns]
        cells = [f'<td class="{kind}">{_cell(v)}</td>' for kind, v in zip(kinds, row, strict=True)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return Html(
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def bars(parts: Sequence[tuple[str, float]]) -> Html:
    """The parts of a whole side by side, as wide as their values."""
    blocks = "".join(
        f'<i style="flex:{max(value, 0.001):.3f}" title="{_escaped(name)}"></i>'
        for name, value in parts
    )
    return Html(f'<div class="bars" aria-hidden="true">{blocks}</div>')


def _cell(value: Cell | None) -> str:
    if isinstance(value, Html):
        return value.text
    return _escaped(value or "")
