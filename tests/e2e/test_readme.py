"""The README, line by line, in bash, on a local cloud of this clone."""

from __future__ import annotations

import pytest

from tests.e2e.cloud import LocalCloud, make
from tests.readme import FIRST, USE, Shell, block


@pytest.fixture(scope="module")
def shell(cloud: LocalCloud) -> Shell:
    """In the clone, with the cloud that ``make up`` made."""
    assert block(FIRST) == ["make up"]
    return Shell()


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
