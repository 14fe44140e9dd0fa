#!/usr/bin/env python3
"""Prints the entries of a lock file, with their hashes, for the packages named in a list.

``locked.py NAMES LOCK``; NAMES has one normalised name a line. Runs in the build stage of an
image, so it needs the standard library only. Ends with 1 when a name is not locked.
"""

import re
import sys
from pathlib import Path


def entries(lock: str) -> dict[str, str]:
    """Text of each entry, its continuation lines included, by package name."""
    joined = re.findall(r"^(?=[A-Za-z0-9])(?:.*\\\n)*.*", lock, flags=re.MULTILINE)
    return {re.split(r"[=\[ ;]", one, maxsplit=1)[0].lower(): one for one in joined}


def select(names: list[str], lock: str) -> str:
    """The entries of these packages, in their order.

    Raises:
        KeyError: a package is not locked.
    """
    known = entries(lock)
    return "".join(f"{known[name]}\n" for name in names)


def main() -> None:
    """Reads the two files, prints the selection."""
    names, lock = (Path(argument).read_text() for argument in sys.argv[1:])
    try:
        print(select(names.split(), lock), end="")
    except KeyError as missing:
        sys.exit(f"locked.py: {missing} is not in {sys.argv[2]}")


if __name__ == "__main__":
    main()
