"""`make kind` where kind cannot run: what it says, and that it does nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKER, KIND = "a Docker daemon that answers", "kind on PATH"
COMMAND_S = 20


def program(folder: Path, name: str, code: int) -> None:
    """A program that ends with that code and notes what it was asked."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/asked"\nexit {code}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("docker", "kind", "named", "others"),
    [
        (None, None, [DOCKER, KIND], []),
        (1, 0, [DOCKER], [KIND]),
        (0, None, [KIND], [DOCKER]),
    ],
    ids=["neither", "a client without a daemon", "no kind"],
)
def test_it_names_what_is_missing_and_ends_with_2(
    tmp_path: Path, docker: int | None, kind: int | None, named: list[str], others: list[str]
) -> None:
    for name, code in (("docker", docker), ("kind", kind)):
        if code is not None:
            program(tmp_path, name, code)
    for name in ("sh", "cat", "dirname", "make"):
        (tmp_path / name).symlink_to(next(
            path for folder in os.environ["PATH"].split(":")
            if (path := Path(folder) / name).exists()
        ))  # fmt: skip
    run = subprocess.run(
        ["make", "kind"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stdout == ""
    assert all(one in run.stderr for one in [*named, "make kind needs:", "make cluster"])
    assert not any(one in run.stderr for one in others)
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert set(asked.splitlines()) <= {"docker info"}
