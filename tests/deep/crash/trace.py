"""Writes ``trace.json``: the steps that three undisturbed runs have in common, how often.

A step that only some runs have (the first one's download, a rollup) stands there with 0.

``python -m tests.deep.crash.trace``; ten minutes, as it brings a local cloud up.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

from tests.deep.crash.cloud import CrashCloud
from tests.deep.crash.matrix import OPERATIONS, PROGRAMS, TRACE, Trace, act, nonce, prepare, settle

RUNS = 3
AT_MOST = 2
"""Of one step's repetitions in an operation, so many are cases of their own."""
PERIODIC = frozenset(
    {
        "kube.create.tokenreviews",
        "kube.patch.hypervisorreports.status",
        "kube.patch.hypervisors.status",
        "kube.patch.leases",
        "kube.patch.networks.status",
        "kube.patch.subnets.status",
        "sql.commit",
    }
)
"""Steps of loops that no operation drives."""


def run_once(cloud: CrashCloud, operation: str) -> dict[str, Counter[str]]:
    """The steps of one undisturbed operation, by program."""
    prepare(cloud, operation)
    files = {program: cloud.points / f"{program}.trace" for program in PROGRAMS}
    for file in files.values():
        file.write_text("")
    number = nonce()
    act(cloud, operation, number)
    settle(cloud, operation, number)
    seen = {program: Counter(file.read_text().split()) for program, file in files.items()}
    for file in files.values():
        file.unlink()
    return seen


def record(cloud: CrashCloud) -> Trace:
    """What ``RUNS`` runs have in common."""
    found: dict[str, dict[str, list[Counter[str]]]] = {
        operation: {program: [] for program in PROGRAMS} for operation in OPERATIONS
    }
    for _ in range(RUNS):
        for operation in OPERATIONS:
            for program, steps in run_once(cloud, operation).items():
                found[operation][program].append(steps)
    return {
        operation: {program: common(runs) for program, runs in programs.items()}
        for operation, programs in found.items()
    }


def common(runs: list[Counter[str]]) -> dict[str, int]:
    """Steps of any run, as often as in each, at most ``AT_MOST`` times."""
    names = set().union(*runs) - PERIODIC
    return {name: min(AT_MOST, *(run[name] for run in runs)) for name in sorted(names)}


def main() -> None:
    """Brings a cloud up, traces, writes, takes it down."""
    with tempfile.TemporaryDirectory(prefix="nkc-") as directory:
        cloud = CrashCloud(Path(directory))
        try:
            cloud.start()
            trace = record(cloud)
        finally:
            cloud.end()
    TRACE.write_text(json.dumps(trace, indent=1) + "\n")
    steps = sum(len(s) for programs in trace.values() for s in programs.values())
    print(f"{TRACE.name}: {steps} steps")


if __name__ == "__main__":
    main()
