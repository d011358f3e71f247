"""Draws SVG plots from the JSON of `peers` and `scaling`, without any library.

    python -m benchmarks.plots OUTDIR --peers a.json --peers b.json --scaling scaling.json

One bar chart for each work: the median of whole processes, a line from best to worst, the engine's
own time inside its bar. One line chart each for memory, capacity and change.
"""

from __future__ import annotations

import argparse
import json
from html import escape
from math import log10
from pathlib import Path
from typing import Any

COLORS = {"ours": "#2364aa", "peer": "#9aa5b1", "floor": "#d9dee3"}
INK, ENGINE = "#222", "#123a66"
WIDTH, LABELS, BAR, GAP, TOP = 860, 330, 20, 12, 60


def text(x: float, y: float, words: object, *, anchor: str = "start", bold: bool = False) -> str:
    weight = "bold" if bold else "normal"
    style = f'font-family="sans-serif" font-size="13" font-weight="{weight}" fill="{INK}"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(str(words))}</text>'
    )


def box(x: float, y: float, width: float, height: float, color: str) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{color}"/>'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{INK}"/>'


def bars(result: dict[str, Any]) -> str:
    """Draws one work: a bar for each contender, as wide as its median."""
    rows = result["rows"]
    scale = (WIDTH - LABELS - 90) / max(max(row["wall_s"]) for row in rows)
    method = f"seconds of whole processes, median of {result['rounds']} rounds"
    parts = [
        text(16, 28, f"{result['work']}: {result['what']}", bold=True),
        text(16, 46, f"{method}; line: best to worst; dark: the engine's own time"),
    ]
    for number, row in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        middle, width = y + BAR / 2, row["median_s"] * scale
        low, high = (LABELS + edge(row["wall_s"]) * scale for edge in (min, max))
        parts += [
            text(LABELS - 10, middle + 5, row["name"], anchor="end"),
            box(LABELS, y, width, BAR, COLORS[row["role"]]),
            line(low, middle, high, middle),
            text(max(LABELS + width, high) + 8, middle + 5, f"{row['median_s']:.3f}"),
        ]
        if row["role"] == "ours":
            parts.append(box(LABELS, y + 5, row["engine_median_s"] * scale, BAR - 10, ENGINE))
    return svg(parts, TOP + len(rows) * (BAR + GAP) + 10)


def curve(rows: list[dict[str, Any]], x: str, y: str, title: str, *, logarithmic: bool) -> str:
    """Draws joined points over x, from zero upwards."""
    places = [log10(row[x]) if logarithmic else float(row[x]) for row in rows]
    left, right, bottom, height = 80, WIDTH - 60, 330, 260
    low = places[0] if logarithmic else 0.0
    across = (right - left) / (places[-1] - low)
    up = height / (max(row[y] for row in rows) * 1.15)
    parts = [
        text(16, 28, title, bold=True),
        line(left, bottom, right, bottom),
        line(left, bottom - height, left, bottom),
    ]
    before: tuple[float, float] | None = None
    for place, row in zip(places, rows, strict=True):
        at = left + (place - low) * across, bottom - row[y] * up
        parts += [
            box(at[0] - 3, at[1] - 3, 6, 6, COLORS["ours"]),
            text(at[0], at[1] - 10, f"{row[y]:.3g}", anchor="middle"),
            text(at[0], bottom + 20, row[x], anchor="middle"),
        ]
        if before is not None:
            parts.append(line(*before, *at))
        before = at
    return svg(parts, bottom + 40)


def svg(parts: list[str], height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def draw(folder: Path, made: dict[str, str]) -> None:
    """Writes each SVG of `made` to the file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in made.items():
        (folder / f"{name}.svg").write_text(picture)


def refresh(page: Path, name: str, table: str) -> None:
    """Puts a table into a Markdown page, between `<!-- NAME -->` and `<!-- /NAME -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} has no place for {name}: {begin.strip()} ... {end}")
    page.write_text(f"{before}{begin}\n{table}\n\n{end}{after}")


def of_scaling(scaling: dict[str, Any]) -> dict[str, str]:
    """Draws memory and time over capacity, and time over change of the largest disk."""
    made = {}
    for name, rows, x, y, title in (
        ("memory", "capacity", "capacity_gib", "peak_mib", "memory, MiB, over capacity, GiB"),
        ("capacity", "capacity", "capacity_gib", "delta_s", "delta of 64 MiB, s, over GiB"),
        ("change", "change", "changed_mib", "delta_s", "delta, s, over MiB changed; 62 TiB"),
    ):
        made[name] = curve(scaling[rows], x, y, title, logarithmic=rows == "capacity")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw measurements as SVG.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", type=Path, action="append", default=[])
    parser.add_argument("--scaling", type=Path)
    options = parser.parse_args()
    for path in options.peers:
        results = json.loads(path.read_text())
        draw(options.folder, {result["work"]: bars(result) for result in results})
    if options.scaling is not None:
        draw(options.folder, of_scaling(json.loads(options.scaling.read_text())))


if __name__ == "__main__":
    main()
