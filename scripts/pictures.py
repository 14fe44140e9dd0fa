#!/usr/bin/env python3
"""Draws the terminal sessions of docs/pictures/*.txt as SVG, one beside each.

The texts are copied from real sessions; a line that begins with ``$`` is a command. With
``--check`` nothing is written, and a picture that differs from its text is an error.
"""

from __future__ import annotations

import argparse
import sys
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
WIDTH, LINE, MARGIN, BAR = 8.4, 19, 16, 30
"""Of a character, a line, the margin and the title bar, in SVG units (14 px monospace)."""
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
width="{width}" height="{height}" role="img" aria-label="{label}">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<circle cx="18" cy="16" r="5" fill="#ff5f57"/><circle cx="36" cy="16" r="5" fill="#febc2e"/>\
<circle cx="54" cy="16" r="5" fill="#28c840"/>
<g font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14" \
fill="#c9d1d9">
"""


def spaced(line: str) -> str:
    """A line whose spaces no browser draws together: columns stay columns."""
    return escape(line).replace(" ", "\N{NO-BREAK SPACE}")


def draw(text: str, label: str) -> str:
    """The SVG of one session."""
    lines = text.rstrip("\n").split("\n")
    width = round(2 * MARGIN + WIDTH * max(len(line) for line in lines))
    height = BAR + LINE * len(lines) + MARGIN
    rows = [HEAD.format(width=width, height=height, label=escape(label, quote=True))]
    for number, line in enumerate(lines, 1):
        style = ' fill="#7ee787" font-weight="bold"' if line.startswith("$") else ""
        y = BAR + LINE * number - 4
        rows.append(f'<text x="{MARGIN}" y="{y}"{style}>{spaced(line)}</text>\n')
    return "".join(rows) + "</g>\n</svg>\n"


def main() -> None:
    """Writes or checks every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for source in sorted(FOLDER.glob("*.txt")):
        target = source.with_suffix(".svg")
        picture = draw(source.read_text(), source.stem.replace("-", " "))
        if check and (not target.exists() or target.read_text() != picture):
            stale.append(target.name)
        elif not check:
            target.write_text(picture)
    if stale:
        sys.exit(f"docs/pictures: {', '.join(stale)} differ from their texts; run make generate")


if __name__ == "__main__":
    main()
