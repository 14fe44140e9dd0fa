"""The cloud whose processes are killed, and its node as it is without a guest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deep.crash.cloud import CrashCloud, Json
from tests.deep.crash.matrix import undisturbed


@pytest.fixture(scope="session")
def cloud() -> Iterator[CrashCloud]:
    with tempfile.TemporaryDirectory(prefix="nkc-") as directory:
        cloud = CrashCloud(Path(directory))
        try:
            cloud.start()
            yield cloud
        finally:
            cloud.end()


@pytest.fixture(scope="session")
def clean(cloud: CrashCloud) -> Json:
    """The node after a guest that nobody disturbed came and went."""
    for operation in ("create", "delete"):
        undisturbed(cloud, operation)
    return cloud.node()
