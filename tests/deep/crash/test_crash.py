"""kill -9 of operator, agent, libvirtd and API server between any two steps."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deadlines import READY_S
from tests.deep.crash.cloud import CrashCloud, Json
from tests.deep.crash.matrix import (
    OPERATIONS,
    Case,
    act,
    cases,
    check,
    nonce,
    prepare,
    read_trace,
    settle,
)
from tests.deep.crash.trace import PERIODIC, run_once

CASES = list(cases(read_trace()))


@pytest.fixture(scope="module")
def cloud() -> Iterator[CrashCloud]:
    print(f"cases={len(CASES)}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="nkc-") as directory:
        cloud = CrashCloud(Path(directory))
        try:
            cloud.start()
            yield cloud
        finally:
            cloud.end()


@pytest.fixture(scope="module")
def clean(cloud: CrashCloud) -> Json:
    """The node after a guest that nobody disturbed came and went."""
    for operation in ("create", "delete"):
        number = nonce()
        prepare(cloud, operation)
        act(cloud, operation, number)
        settle(cloud, operation, number)
    return cloud.node()


@pytest.mark.timeout(900)
def test_the_trace_has_every_step_of_an_undisturbed_run(
    cloud: CrashCloud, clean: Json
) -> None:
    known = read_trace()
    unknown = [
        f"{operation}: {program}: {step}"
        for operation in OPERATIONS
        for program, steps in run_once(cloud, operation).items()
        for step in steps
        if step not in PERIODIC and step not in known[operation][program]
    ]
    assert not unknown, "run python -m tests.deep.crash.trace"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_killed_between_two_steps(cloud: CrashCloud, clean: Json, case: Case) -> None:
    prepare(cloud, case.operation)
    number = nonce()
    cloud.hold(case.program, f"{case.step}:{case.moment}:{case.nth}", number)
    try:
        act(cloud, case.operation, number)
        reached = cloud.reached(case.program)
        cloud.until(f"{case.program} at {case.step}", reached.exists, READY_S)
        old = cloud.kill(case.victim)
    finally:
        cloud.let_go(case.program)
    cloud.until_runs_again(case.victim, old)
    settle(cloud, case.operation, number)
    check(cloud, case.operation, clean)
