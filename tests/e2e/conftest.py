"""One local cloud for all end-to-end tests, made and ended by make."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator

import pytest

from tests.deadlines import MACHINE_S
from tests.e2e.cloud import LocalCloud, make
from tests.e2e.images import Images
from tests.waiting import wait_until_sync

FLAVOR = {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1}


@pytest.fixture(scope="package")
def cloud() -> Iterator[LocalCloud]:
    """What ``make up`` makes, with this package's flavor; ``make down`` ends it."""
    try:
        make("up")
        cloud = LocalCloud()
        if cloud.get("flavors", "e2e") is None:
            cloud.make("Flavor", "e2e", FLAVOR)
        yield cloud
    finally:
        make("down")


@pytest.fixture(scope="package")
def images(cloud: LocalCloud) -> Iterator[Images]:
    """An image server beside the cloud's own one."""
    with Images(cloud) as server:
        yield server


@pytest.fixture
def namespace(cloud: LocalCloud) -> Iterator[str]:
    """A namespace with image and network; at the end nothing of it is claimed or on the node."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    before = cloud.node.traces()
    cloud.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    source = {"url": "http://192.0.2.10/novakube-guest.qcow2"}
    cloud.make("Image", "guest", {"diskFormat": "qcow2", "source": source}, name)
    cloud.make("Network", "net", {}, name)
    cloud.make("Subnet", "net-v4", {"network": {"name": "net"}, "cidr": "10.60.0.0/24"}, name)
    for plural, one in (("images", "guest"), ("networks", "net"), ("subnets", "net-v4")):
        cloud.until_ready(plural, one, name)
    yield name
    cloud.empty(name)
    left = {
        plural: [item["metadata"]["name"] for item in cloud.list(plural, name)]
        for plural in ("ipaddresses", "ports")
    }
    assert left == {"ipaddresses": [], "ports": []}
    assert not [g for g in cloud.list("guests") if g["spec"]["instance"]["namespace"] == name]
    wait_until_sync(
        lambda: cloud.node.traces() <= before,
        f"nothing on the node that was not there: {cloud.node.traces() - before}",
        MACHINE_S,
    )


@pytest.fixture
def chance() -> random.Random:
    """Chance by a seed that is printed; ``NOVAKUBE_TEST_SEED`` repeats a run."""
    seed = os.environ.get("NOVAKUBE_TEST_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"NOVAKUBE_TEST_SEED={seed}")
    return random.Random(seed)
