"""The README, line by line, in bash, on a local cloud of this clone."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until_sync

ROOT = Path(__file__).resolve().parents[2]
UP_S = 600.0
LINE_S = 60.0
WATCH_S = 3.0
"""How long a line that watches (``-w``) is let run."""
STATE_S = 90.0
MARK = "--- exit:"


def block(first_line: str) -> list[str]:
    """The lines of the README's shell block that begins with a line."""
    for text in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        if text.startswith(first_line):
            return [line for line in text.splitlines() if line.strip()]
    raise AssertionError(f"the README has no block that begins with {first_line!r}")


def make(*targets: str) -> None:
    """Runs make as a newcomer would; its output shows when it fails."""
    run = subprocess.run(
        ["make", *targets], cwd=ROOT, capture_output=True, text=True, timeout=UP_S, check=False
    )
    assert run.returncode == 0, f"make {targets}:\n{run.stdout[-6000:]}\n{run.stderr[-3000:]}"


class Shell:
    """A bash in which each line sees what the lines before it set."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        self._before = ""
        self._environment = environment

    def run(self, line: str, deadline_s: float = LINE_S) -> str:
        """Output of a line; asserts that it succeeds."""
        watching = " -w" in line
        if watching:
            line = f"timeout {WATCH_S} {line} || test $? -eq 124"
        run = subprocess.run(
            ["bash", "-c", f"set -e\n{self._before}\n{line}"],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        assert run.returncode == 0, f"{line}\n{run.stdout}\n{run.stderr}"
        if line.startswith("eval "):
            self._before += line + "\n"
        return run.stdout

    def state(self, name: str) -> str:
        """The state word of an Instance; empty when it is gone."""
        query = "kubectl get instance --ignore-not-found -o jsonpath='{.status.state}' " + name
        return self.run(query).strip()

    def wait(self, name: str, state: str) -> None:
        """Waits for a state word."""
        wait_until_sync(lambda: self.state(name) == state, f"{name} {state}", STATE_S)


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """The cloud that ``make up`` makes, and its end."""
    assert block("make up") == ["make up"]
    make("up")
    yield Shell()
    make("down")


@pytest.mark.timeout(1500)
def test_the_block_of_use_works_line_by_line(shell: Shell) -> None:
    after = {
        "kubectl apply": ("web", "Running"),
        'kubectl patch instance web --type merge -p \'{"spec":{"powerState":"Stopped"}}\'': (
            "web",
            "Stopped",
        ),
        'kubectl patch instance web --type merge -p \'{"spec":{"powerState":"Running"}}\'': (
            "web",
            "Running",
        ),
        "kubectl create": ("web", "Running"),
        "kubectl delete": ("web", ""),
    }
    outputs = {}
    for line in block('eval "$(make -s env)"'):
        if "console-log" in line:
            wait_until_sync(
                lambda line=line: "login:" in shell.run(line), "a login prompt", STATE_S
            )
        outputs[line] = shell.run(line, 180.0 if "delete" in line else LINE_S)
        for start, (name, state) in after.items():
            if line.startswith(start):
                shell.wait(name, state)
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
