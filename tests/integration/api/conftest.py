"""One control plane, two nodes' agents and one novakube-api for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from novakube_local.controlplane import ControlPlane
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_operator.core.certificates import Pair, new_authority
from tests.deadlines import EVENT_S
from tests.integration.api.cloud import (
    SYSTEM,
    Agent,
    ApiProcess,
    account,
    published_by_operator,
    put_hypervisor,
    put_instance,
    rendered_chart,
    tls_files,
)
from tests.ports import free_port
from tests.waiting import wait_until_sync

LOG = b"".join(b"[%8d] line of the boot\n" % number for number in range(10_000))
OLDER = b"before the rotation\n" * 1000


@dataclass
class World:
    """Everything the tests ask."""

    plane: ControlPlane
    admin: KubeHttp
    authority: Pair
    api: ApiProcess
    n1: Agent
    dead_port: int
    directory: Path

    def token(self, name: str, namespace: str = "tenant") -> str:
        return self.plane.token(namespace, name)

    def another_api(self, name: str, **changed: object) -> ApiProcess:
        """A second novakube-api, with something else than the first."""
        given = {
            "server": self.plane.server,
            "ca_file": self.plane.ca_file,
            "token": self.plane.token(SYSTEM, "novakube-api"),
            "tls": tls_files(self.authority, "novakube-api", ("127.0.0.1",)),
            **changed,
        }
        return ApiProcess(self.directory / name, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("api")
    with ControlPlane(directory / "plane") as plane:
        admin = plane.admin()
        for name in (SYSTEM, "tenant", "other"):
            admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=rendered_chart())
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        wait_until_sync(lambda: _operator_may(plane), "the chart's rights in force", EVENT_S)
        account(admin, "tenant", "editor", "novakube-edit")
        account(admin, "tenant", "viewer", "novakube-view")
        account(admin, "other", "editor", "novakube-edit")
        port = free_port()
        authority, tls = published_by_operator(plane, f"https://127.0.0.1:{port}")
        stranger = new_authority(datetime.now(UTC))
        agents = {
            "n1": Agent(directory / "n1", "n1", tls_files(authority, "n1", ("n1",))),
            "foreign": Agent(directory / "f", "foreign", tls_files(stranger, "n", ("foreign",))),
            "misnamed": Agent(directory / "m", "misnamed", tls_files(authority, "n1", ("n1",))),
        }  # fmt: skip
        dead = free_port()
        api = ApiProcess(
            directory / "first", plane.server, plane.ca_file,
            plane.token(SYSTEM, "novakube-api"), tls,
        )  # fmt: skip
        api.at(port)
        try:
            _objects(admin, agents, dead)
            yield World(plane, admin, authority, api.start(), agents["n1"], dead, directory)
        finally:
            if api.process is not None:
                api.stop()
            for agent in agents.values():
                agent.stop()


def _operator_may(plane: ControlPlane) -> bool:
    """RBAC is learnt by a watch."""
    http = KubeHttp(plane.server, plane.ca_file, token=plane.token(SYSTEM, "novakube-operator"))
    try:
        http.call("GET", "/api/v1/nodes")
    except ApiError as error:
        if error.code != 403:
            raise
        return False
    return True


def _objects(admin: KubeHttp, agents: dict[str, Agent], dead: int) -> None:
    agents["n1"].write_log("web-1", LOG)
    agents["n1"].write_log("web-1", OLDER, "console.log.0")
    for name, agent in agents.items():
        put_hypervisor(admin, name, "127.0.0.1", agent.port)
    put_hypervisor(admin, "dead", "127.0.0.1", dead)
    put_hypervisor(admin, "silent", None, None)
    for name, node in (
        ("web", "n1"), ("unstarted", "n1"), ("on-foreign", "foreign"),
        ("on-misnamed", "misnamed"), ("on-dead", "dead"), ("on-silent", "silent"),
        ("on-removed", "removed"),
    ):  # fmt: skip
        status = {"state": "Running", "guest": f"{name}-1", "node": node}
        put_instance(admin, name, "tenant", status)
    put_instance(admin, "waiting", "tenant", {"state": "Pending"})
