#!/usr/bin/env python3
"""Which locked packages each image needs: pyproject.toml's extras with all they require.

``python -m scripts.image_packages`` writes ``images/<component>/packages.txt``, ``--check`` ends
with 1 when one differs. The virtualenv it runs in is made of the same lock, so its metadata
tells what requires what.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("operator", "agent", "api")
"""Extras of the project that are images; novakube-manage is of the operator's packages."""


def closure(wanted: Iterable[str]) -> list[str]:
    """Names of the requirements and of everything they require, sorted."""
    todo = [Requirement(one) for one in wanted]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        one = todo.pop()
        key = (canonicalize_name(one.name), tuple(sorted(one.extras)))
        if key in seen:
            continue
        seen.add(key)
        for text in requires(key[0]) or []:
            required = Requirement(text)
            marker = required.marker
            extras = one.extras or {""}
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(required)
    return sorted({name for name, _ in seen})


def lists() -> dict[Path, str]:
    """Text of each generated file."""
    parsed = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, build = parsed["project"], parsed["build-system"]["requires"]
    texts = {ROOT / "images" / "build-packages.txt": closure(build)}
    for extra in EXTRAS:
        wanted = project["dependencies"] + project["optional-dependencies"][extra]
        texts[ROOT / "images" / extra / "packages.txt"] = closure(wanted)
    return {path: "".join(f"{name}\n" for name in names) for path, names in texts.items()}


def main() -> None:
    """Writes the files, or compares them."""
    wanted = lists()
    if "--check" not in sys.argv[1:]:
        for path, text in wanted.items():
            path.write_text(text)
        return
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"not what pyproject.toml asks for: {names}; run make generate")


if __name__ == "__main__":
    main()
