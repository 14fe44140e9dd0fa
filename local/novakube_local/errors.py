"""What the local cloud tells a person when it cannot go on."""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 20
TAIL_BYTES = 64 * 1024


class LocalCloudError(Exception):
    """A sentence with the cause and, where known, the end of the log that shows it."""


def log_tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented, under its name; says so when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return f"  ({path} does not exist)"
    kept = text.splitlines()[-lines:]
    return "\n".join([f"  end of {path}:", *(f"  | {line[:400]}" for line in kept)])
