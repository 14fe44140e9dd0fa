"""One control plane with one simulated node for all tests of this folder."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.integration.gitops.tree import Tenant
from tests.integration.operator.cloud import Cloud
from tests.integration.operator.conftest import a_cloud


@pytest.fixture(scope="package")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("gitops")) as cloud:
        yield cloud


@pytest.fixture(scope="package")
def blue(cloud: Cloud) -> Tenant:
    """The tree as it is in the repository, applied once and come to rest."""
    tenant = Tenant(cloud, "blue")
    tenant.apply()
    tenant.until_settled()
    tenant.until_counted()
    return tenant


@pytest.fixture
def order_seed() -> int:
    """Of orders that are drawn; printed, and taken from the environment to repeat a run."""
    seed = os.environ.get("NOVAKUBE_TEST_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"NOVAKUBE_TEST_SEED={seed}")
    return int(seed)
