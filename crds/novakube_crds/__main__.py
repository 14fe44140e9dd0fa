"""``python -m novakube_crds generate [--check]``: CRDs, the chart's copy, the API reference.

``--check`` writes nothing, prints the files that differ and exits 1 when there are any.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from novakube_crds.manifest import manifest
from novakube_crds.reference import reference
from novakube_crds.v1alpha1.kinds import KINDS

CRD_FOLDERS = (Path("crds"), Path("charts/novakube/crds"))
REFERENCE = Path("docs/api-reference.md")


def generated() -> dict[Path, str]:
    """Every generated file: path below the repository's root -> text."""
    files = {
        folder / f"{kind.plural}.yaml": manifest(kind) for folder in CRD_FOLDERS for kind in KINDS
    }
    files[REFERENCE] = reference(KINDS)
    return files


def differing(root: Path, files: dict[Path, str]) -> list[Path]:
    """Files that are missing, differ, or belong to no kind any more."""
    changed = [
        path
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    return sorted([*changed, *_strays(root, files)])


def _strays(root: Path, files: dict[Path, str]) -> list[Path]:
    present = (path for folder in CRD_FOLDERS for path in (root / folder).glob("*.yaml"))
    return [path.relative_to(root) for path in present if path.relative_to(root) not in files]


def write(root: Path, files: dict[Path, str]) -> None:
    """Writes every file and removes those that belong to no kind any more."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for path in _strays(root, files):
        (root / path).unlink()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m novakube_crds", description=__doc__)
    parser.add_argument("command", choices=["generate"])
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 on a difference")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).resolve().parents[2],
        help="the repository; default: the one this package is in",
    )
    args = parser.parse_args(argv)
    files = generated()
    if not args.check:
        write(args.root, files)
        return 0
    changed = differing(args.root, files)
    for path in changed:
        sys.stdout.write(f"{path} differs from what `make generate` writes\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
