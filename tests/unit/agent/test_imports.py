"""What an agent has in memory for being there at all: it is on every node."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys, novakube_agent.main
print(*(name for name in sys.modules if name.startswith("novakube_crds.v1alpha1.")))
"""
COMMAND_S = 30


def test_an_agent_has_the_models_of_its_own_kinds_alone() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True, text=True, timeout=COMMAND_S, check=True,
    )  # fmt: skip
    kinds = {name.rpartition(".")[2] for name in run.stdout.split()}
    assert kinds == {"guest", "hypervisorreport", "subnet"}
