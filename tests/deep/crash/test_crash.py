"""kill -9 of operator, agent, libvirtd and API server between any two steps."""

from __future__ import annotations

import pytest

from tests.deep.crash.cloud import CrashCloud, Json
from tests.deep.crash.matrix import OPERATIONS, Case, cases, must_survive, read_trace
from tests.deep.crash.trace import PERIODIC, run_once

CASES = list(cases(read_trace()))


def test_the_matrix_is_whole() -> None:
    print(f"cases={len(CASES)}")
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.timeout(900)
def test_the_trace_has_every_step_of_an_undisturbed_run(cloud: CrashCloud, clean: Json) -> None:
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
    must_survive(cloud, clean, case)
