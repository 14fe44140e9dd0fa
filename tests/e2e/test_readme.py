"""The README, line by line, in bash, on a local cloud of this clone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.readme import FIRST, ROOT, USE, Shell, block

UP_S = 600.0


def make(*targets: str) -> None:
    """Runs make as a newcomer would; its output shows when it fails."""
    run = subprocess.run(
        ["make", *targets], cwd=ROOT, capture_output=True, text=True, timeout=UP_S, check=False
    )
    assert run.returncode == 0, f"make {targets}:\n{run.stdout[-6000:]}\n{run.stderr[-3000:]}"


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """The cloud that ``make up`` makes, and its end."""
    assert block(FIRST) == ["make up"]
    make("up")
    yield Shell()
    make("down")


@pytest.mark.timeout(1500)
def test_the_block_of_use_works_line_by_line(shell: Shell) -> None:
    outputs = {}
    for line in block(USE):
        outputs[line] = shell.use(line)
        if "delete" not in line and not line.startswith("eval"):
            diff = shell.run("kubectl diff -f examples/first-instance.yaml || true")
            changed = [row for row in diff.splitlines() if row.startswith(("+  ", "-  "))]
            assert all("powerState" in row or "generation" in row for row in changed), diff
    assert "Scheduled" in outputs["kubectl describe instance web"]
    assert "novakube-guest ready web 10.20.0" in outputs["kubectl novakube console-log web"]


@pytest.mark.timeout(300)
def test_up_again_is_idempotent_and_keeps_the_guest(shell: Shell) -> None:
    before = shell.run(
        "kubectl get instance hello -o jsonpath='{.status.guest}{.status.launchedAt}'"
    )
    make("up")
    after = shell.run(
        "kubectl get instance hello -o jsonpath='{.status.guest}{.status.launchedAt}'"
    )
    assert before == after
    assert shell.state("hello") == "Running"
