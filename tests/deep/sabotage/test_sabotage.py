"""Each patch of ``tests/sabotage`` removes one guarantee; the test it names must go red.

A patch begins with a line ``test: <pytest id>`` and says in its next line what it removes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadlines import UP_S

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("crds", "operator", "agents", "api", "local")
COPIED = (*SOURCES, "charts", "scripts", "tests", "docs", "examples", "pyproject.toml", "README.md",
          "Makefile")  # fmt: skip
PATCHES = sorted((ROOT / "tests" / "sabotage").glob("*.patch"))


def named_test(patch: Path) -> str:
    """The test that must fail."""
    first = patch.read_text().splitlines()[0]
    assert first.startswith("test: "), f"{patch.name} names no test in its first line"
    return first.removeprefix("test: ")


def copy(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def run(root: Path, node: str) -> subprocess.CompletedProcess[str]:
    folders = [str(root), *(str(root / name) for name in SOURCES)]
    environment = {**os.environ, "PYTHONPATH": ":".join(folders), "PYTHONSAFEPATH": "1"}
    environment.setdefault("KUBEBUILDER_ASSETS", str(ROOT / ".local" / "bin"))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", node],
        cwd=root, env=environment, capture_output=True, text=True, timeout=UP_S, check=False,
    )  # fmt: skip


@pytest.mark.timeout(2 * UP_S)
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_named_test_goes_red(patch: Path, tmp_path: Path) -> None:
    copy(tmp_path)
    node = named_test(patch)
    applied = subprocess.run(
        ["git", "apply", "--verbose", str(patch)],
        cwd=tmp_path, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert applied.returncode == 0, applied.stderr
    outcome = run(tmp_path, node)
    # 1: tests were collected and some failed. Any other code is no proof.
    assert outcome.returncode == 1, outcome.stdout[-3000:] + outcome.stderr[-1000:]
    assert f"FAILED {node}" in outcome.stdout or f"FAILED {node}[" in outcome.stdout, outcome.stdout
