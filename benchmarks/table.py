"""The table in docs/performance.md, made from benchmarks/results; ``--check`` compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.results import RESULTS, ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def table(folder: Path = RESULTS) -> str:
    """One row per figure, in the order of the files' names."""
    rows = ["| figure | value | asked for | measured | note |", "|---|---|---|---|---|"]
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        where = f"`{result['commit'][:10]}` {result['at'][:10]}"
        for key, figure in result["figures"].items():
            value = f"{figure['value']:g} {figure['unit']}".strip()
            rows.append(f"| `{key}` | {value} | {figure['target']} | {where} | {figure['note']} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table put between its marks."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main() -> None:
    """Writes the page, or with ``--check`` says that it differs and exits 1."""
    text = PAGE.read_text()
    wanted = page(text)
    if "--check" in sys.argv:
        if text != wanted:
            sys.exit("docs/performance.md differs from benchmarks/results: run make generate")
        return
    PAGE.write_text(wanted)


if __name__ == "__main__":
    main()
