"""Which novakube this is."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Of the installed package; ``unknown`` for sources that are not installed."""
    try:
        return version("novakube")
    except PackageNotFoundError:
        return "unknown"


def answer_version(program: str) -> None:
    """Where the command line is ``--version`` alone: prints name and version, and ends with 0."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{program} {installed_version()}\n")
        sys.exit(0)
