"""One cluster for the lane, made and ended by make; the machine as it was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deadlines import CLUSTER_S
from tests.deep.kubelet.release import Release
from tests.e2e.cloud import make
from tests.machine_state.record import record

Record = dict[str, list[str]]


@pytest.fixture(scope="session")
def before() -> Record:
    """The machine without the cluster."""
    make("down")
    make("images", deadline_s=CLUSTER_S)
    return record()


@pytest.fixture(scope="session")
def release(before: Record) -> Iterator[Release]:
    """The cluster, and the release that the first test installs."""
    try:
        make("cluster", deadline_s=CLUSTER_S)
        yield Release()
    finally:
        make("down")
