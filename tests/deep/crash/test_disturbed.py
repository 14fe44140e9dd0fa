"""Operations while the API server is gone, processes stand still, two lead, disks are full or
the clock jumps: all ends as ordered, nothing twice, nothing left."""

from __future__ import annotations

import pytest

from tests.deep.crash.cloud import CrashCloud, Json
from tests.deep.crash.disturbances import DISTURBANCES
from tests.deep.crash.matrix import OPERATIONS, act, check, nonce, prepare, settle

# A disk that is full when it is taken away would have to be its own copy.
CASES = [
    (disturbance, operation)
    for disturbance in DISTURBANCES
    for operation in OPERATIONS
    if disturbance != "disks-full" or operation == "create"
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("disturbance", "operation"), CASES)
def test_disturbed(cloud: CrashCloud, clean: Json, disturbance: str, operation: str) -> None:
    prepare(cloud, operation)
    number = nonce()
    act(cloud, operation, number)
    with DISTURBANCES[disturbance](cloud):
        settle(cloud, operation, number)
        check(cloud, operation, clean)
