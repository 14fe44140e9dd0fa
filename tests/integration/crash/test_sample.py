"""A sample of the crash matrix; ``make deep TARGET=crash`` runs the whole of it.

The seed is the commit unless ``NOVAKUBE_SEED`` says otherwise, so that each change meets other
cases, and the same ones when it is run again.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.deep.crash.cloud import CrashCloud, Json
from tests.deep.crash.matrix import Case, cases, must_survive, read_trace
from tests.record import commit

SAMPLE = 16
SEED = os.environ.get("NOVAKUBE_SEED") or commit().removesuffix("+dirty")


def sample() -> list[Case]:
    """Cases of this seed, from all operations, programs and victims alike."""
    return random.Random(SEED).sample(list(cases(read_trace())), SAMPLE)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(SAMPLE))
def test_killed_between_two_steps(cloud: CrashCloud, clean: Json, number: int) -> None:
    case = sample()[number]
    print(f"NOVAKUBE_SEED={SEED}: {case.id}")
    must_survive(cloud, clean, case)
