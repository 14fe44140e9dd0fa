"""make down leaves the machine as it was, also after a killed make up.

Both run in a clone of their own, so that a developer's own cloud is not touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deadlines import READY_S
from tests.machine_state.record import differences, record
from tests.waiting import wait_until_sync

ROOT = Path(__file__).resolve().parents[2]
UP_S = 240


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Sources that the local cloud needs, elsewhere, with the same virtualenv."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("agents", "api", "charts", "crds", "local", "operator"):
        shutil.copytree(ROOT / name, clone / name)
    shared = ROOT / ".local" / "bin"
    if shared.exists():
        (clone / ".local").mkdir()
        (clone / ".local" / "bin").symlink_to(shared)
    yield clone
    local(clone, "down")


def environment(clone: Path) -> dict[str, str]:
    folders = [str(clone / name) for name in ("local", "crds", "agents", "operator", "api")]
    return {**os.environ, "PYTHONPATH": ":".join(folders), "PYTHONSAFEPATH": "1"}


def local(clone: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "novakube_local", *arguments],
        env=environment(clone), capture_output=True, text=True, timeout=UP_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(UP_S)
def test_down_after_up_leaves_no_trace(clone: Path) -> None:
    before = record()
    local(clone, "up", "--driver", "fake", "--nodes", "2")
    assert differences(before, record()), "up changes nothing: the record sees too little"
    local(clone, "down")
    assert differences(before, record()) == []
    local(clone, "down")


@pytest.mark.timeout(UP_S)
@pytest.mark.parametrize("sign", ["API server on", "chart:", "node n1"])
def test_down_after_a_killed_up_leaves_no_trace(clone: Path, tmp_path: Path, sign: str) -> None:
    before = record()
    said = tmp_path / "up.log"
    with said.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "novakube_local", "up", "--driver", "fake"],
            env=environment(clone), stdout=output, stderr=output,
        )  # fmt: skip
    wait_until_sync(lambda: sign in said.read_text(), f"up says {sign!r}", READY_S)
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    local(clone, "down")
    assert differences(before, record()) == []
