"""Random operations and kills on a real node for a long time, compared with what was ordered."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.deep.crash.cloud import CrashCloud
from tests.deep.soak.world import World
from tests.record import commit

SECONDS = float(os.environ.get("NOVAKUBE_SOAK_S", "1200"))
SEED = os.environ.get("NOVAKUBE_SEED") or commit().removesuffix("+dirty")
STEPS = 10
"""Between two rests."""


@pytest.mark.timeout(SECONDS + 900)
def test_random_operations_and_kills_keep_every_invariant(cloud: CrashCloud) -> None:
    print(f"NOVAKUBE_SEED={SEED}")
    world = World(cloud, random.Random(SEED))
    world.prepare()
    began, rests = time.monotonic(), 0
    while time.monotonic() < began + SECONDS:
        for _ in range(STEPS):
            world.step()
            world.always()
        world.rest()
        rests += 1
        print(f"{time.monotonic() - began:.0f} s: rest {rests}, {len(world.log)} steps", flush=True)
    assert rests, "no time for a single rest"
    world.delete_all()
    world.rest()
