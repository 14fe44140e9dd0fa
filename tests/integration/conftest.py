"""The real API server of contract tests, one for the whole run; a namespace for each test."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from novakube_kit.access import ClusterAccess
from novakube_kit.errors import AlreadyExists
from novakube_kit.kube_aio import AioKube
from novakube_kit.resources import CRDS, NAMESPACES, SERVICEACCOUNTS
from novakube_kit.tokens import FileToken, RequestedToken
from tests.deadlines import EVENT_S
from tests.integration.apiserver import ApiServer, program
from tests.integration.sql.servers import MariaDB, PostgreSQL, Server, running
from tests.waiting import wait_until

CRD_DIR = Path(__file__).parents[2] / "charts" / "novakube" / "crds"

KubeAs = Callable[[str, str], Awaitable[AioKube]]


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def access_to(server: ApiServer) -> ClusterAccess:
    """Admin access."""
    return ClusterAccess(server.url, server.ca_file.read_text(), FileToken(server.token_file))


@pytest.fixture
async def kube(apiserver: ApiServer) -> AsyncIterator[AioKube]:
    """The API server as its administrator."""
    async with AioKube(access_to(apiserver)) as admin:
        yield admin


@pytest.fixture(scope="session")
def installed_crds(apiserver: ApiServer) -> list[str]:
    """novakube's CRDs, applied as the chart's users apply them; their names."""
    command = [program("kubectl"), "--kubeconfig=/dev/null", f"--server={apiserver.url}"]
    command += [f"--certificate-authority={apiserver.ca_file}"]
    command += [f"--token={apiserver.token_file.read_text()}"]
    applied = subprocess.run(
        [*command, "apply", "--server-side", "-f", str(CRD_DIR), "-o", "name"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    return [line.rpartition("/")[2] for line in applied.stdout.split()]


@pytest.fixture
async def crds(kube: AioKube, installed_crds: list[str]) -> list[str]:
    """The same, served."""

    async def established() -> bool:
        items = (await kube.list(CRDS))["items"]
        return all(
            any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
            for conditions in (item.get("status", {}).get("conditions", []) for item in items)
        )

    await wait_until(established, "CRDs established", EVENT_S)
    return installed_crds


@pytest.fixture
async def namespace(kube: AioKube) -> str:
    """A namespace of the test's own. Nothing ends it: the server goes with the run."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    await kube.create(NAMESPACES, {"metadata": {"name": name}})
    return name


@pytest.fixture
async def kube_as(apiserver: ApiServer, kube: AioKube) -> AsyncIterator[KubeAs]:
    """The API server as a service account, made when missing, by a token of its own."""
    clients: list[AioKube] = []
    tokens: list[RequestedToken] = []

    async def client(namespace: str, name: str) -> AioKube:
        with suppress(AlreadyExists):
            await kube.create(SERVICEACCOUNTS, {"metadata": {"name": name}}, namespace)
        tokens.append(RequestedToken(kube, namespace, name))
        clients.append(AioKube(access_to(apiserver).with_token(tokens[-1])))
        return clients[-1]

    yield client
    for one in clients:
        await one.close()
    for token in tokens:
        await token.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with running(PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    with running(MariaDB) as server:
        yield server
