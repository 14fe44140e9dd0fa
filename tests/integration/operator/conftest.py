"""One cloud for all of the operator's tests; a namespace with a network for each."""

from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from novakube_local.controlplane import ControlPlane
from tests.integration.api.cloud import SYSTEM, rendered_chart
from tests.integration.operator.cloud import SHA256, Cloud

FLAVOR = {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1}
IMAGE = {
    "diskFormat": "qcow2",
    "source": {"url": "http://192.0.2.10/guest.qcow2", "checksum": f"sha256:{SHA256}"},
}


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("operator")) as cloud:
        yield cloud


@contextlib.contextmanager
def a_cloud(directory: Path) -> Iterator[Cloud]:
    """A control plane with one node, its operator and its agent."""
    with ControlPlane(directory / "plane", controller_manager=True) as plane:
        plane.admin().call("POST", "/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=rendered_chart())
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        admin = plane.admin()
        label = {"novakube.dev/hypervisor": "true"}
        admin.call("POST", "/api/v1/nodes", {"metadata": {"name": "n1", "labels": label}})
        cloud = Cloud(plane, directory)
        cloud.make("Flavor", "tiny", FLAVOR)
        cloud.operator.start()
        cloud.agent.start()
        try:
            cloud.until_schedulable()
            yield cloud
            assert cloud.operator.end(signal.SIGTERM) == 0, cloud.operator.log.read_text()[-3000:]
        finally:
            cloud.operator.end(signal.SIGKILL)
            cloud.agent.end(signal.SIGKILL)


@pytest.fixture
def empty(cloud: Cloud) -> str:
    """A namespace."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cloud.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
def namespace(cloud: Cloud, empty: str) -> str:
    """A namespace with an image and a network, ready to be used."""
    return furnished(cloud, empty)


def furnished(cloud: Cloud, empty: str) -> str:
    """The namespace once it has an image and a network."""
    cloud.make("Image", "guest", IMAGE, empty)
    cloud.make("Network", "net", {}, empty)
    cloud.make("Subnet", "net-v4", {"network": {"name": "net"}, "cidr": "10.20.0.0/24"}, empty)
    cloud.until_ready("subnets", "net-v4", empty)
    cloud.until_ready("images", "guest", empty)
    cloud.until_ready("networks", "net", empty)
    return empty
