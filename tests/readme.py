"""The README's shell blocks, and a bash that runs their lines as a newcomer would."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.waiting import wait_until_sync

ROOT = Path(__file__).resolve().parent.parent
LINE_S = 60.0
DELETE_S = 180.0
WATCH_S = 3.0
"""How long a line that watches (``-w``) is let run."""
STATE_S = 90.0
FIRST, USE, END = "make up", 'eval "$(make -s env)"', "make up NODES=3"
"""First lines of the blocks."""
STATES = {
    "kubectl apply": "Running",
    'kubectl patch instance web --type merge -p \'{"spec":{"powerState":"Stopped"}}\'': "Stopped",
    'kubectl patch instance web --type merge -p \'{"spec":{"powerState":"Running"}}\'': "Running",
    "kubectl create": "Running",
    "kubectl delete": "",
}
"""How a line begins that changes the Instance ``web``, and the state it shall end in."""


def block(first_line: str) -> list[str]:
    """The lines of the README's shell block that begins with a line."""
    for text in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        lines = [line for line in text.splitlines() if line.strip()]
        if lines[0] == first_line:
            return lines
    raise AssertionError(f"the README has no block that begins with {first_line!r}")


class Shell:
    """A bash in which each line sees what the lines before it set."""

    def __init__(
        self,
        folder: Path = ROOT,
        enter: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        """Lines run in ``folder``, behind the command ``enter`` that leads elsewhere."""
        self._start = [*enter, "bash", "-c"]
        self._folder = folder
        self._before = ""
        own = {name: text for name, text in os.environ.items() if name != "KUBECONFIG"}
        self._environment = own if environment is None else environment

    def run(self, line: str, deadline_s: float = LINE_S) -> str:
        """Output of a line; AssertionError with all it said when it fails or is late."""
        if " -w" in line:
            line = f"timeout {WATCH_S} {line} || test $? -eq 124"
        try:
            run = subprocess.run(
                [*self._start, f"set -e\ncd {self._folder}\n{self._before}\n{line}"],
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode()[-3000:]
            raise AssertionError(f"{line}: not within {deadline_s:g} s\n{said}") from late
        assert run.returncode == 0, f"{line}\n{run.stdout[-6000:]}\n{run.stderr[-3000:]}"
        if line.startswith("eval "):
            self._before += line + "\n"
        return run.stdout

    def state(self, name: str) -> str:
        """The state word of an Instance; empty when it is gone."""
        query = "kubectl get instance --ignore-not-found -o jsonpath='{.status.state}' " + name
        return self.run(query).strip()

    def use(self, line: str) -> str:
        """A line of the block of use: runs it, and waits for what it asks for."""
        if "console-log" in line:
            wait_until_sync(lambda: "login:" in self.run(line), "a login prompt", STATE_S)
        said = self.run(line, DELETE_S if "delete" in line else LINE_S)
        for start, state in STATES.items():
            if line.startswith(start):
                wait_until_sync(
                    lambda state=state: self.state("web") == state, f"web {state!r}", STATE_S
                )
        return said
