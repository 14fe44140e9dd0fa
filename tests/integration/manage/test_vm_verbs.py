"""``novakube-manage vm``: what it orders and refuses, on objects alone; nobody carries it out."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from novakube_kit.kube import Json
from novakube_local.kubehttp import KubeHttp
from tests.integration.apiserver import ApiServer
from tests.integration.manage.test_cluster_verbs import (
    GROUP,
    Manage,
    admin,
    kubeconfig,
    make,
)

__all__ = ["admin"]
ID = "aaaaaaaa-0000-4000-8000-000000000001"
GUEST = "bbbbbbbb-0000-4000-8000-000000000002"


@pytest.fixture
def run(
    admin: KubeHttp, apiserver: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Manage:
    return Manage(kubeconfig(apiserver, tmp_path), capsys)


@pytest.fixture
def host(admin: KubeHttp, request: pytest.FixtureRequest) -> Iterator[str]:
    """A host with a domain of nobody's; ``param``: whether its agent is heard."""
    name = f"v{uuid.uuid4().hex[:8]}"
    alive = {"type": "AgentAlive", "status": str(request.param), "reason": "Heartbeat",
             "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}  # fmt: skip
    orphan = {"instanceID": ID, "guestUID": GUEST, "instanceNamespace": f"ns-{name}",
              "instanceName": "web", "state": "Running", "vcpus": 1, "memoryMiB": 128,
              "nicsKnown": True}  # fmt: skip
    make(admin, "Hypervisor", name, {}, conditions=[alive], orphans=[orphan])
    yield name
    admin.call("DELETE", f"{GROUP}/hypervisors/{name}")


def orders(admin: KubeHttp, host: str) -> list[str]:
    spec: Json = admin.call("GET", f"{GROUP}/hypervisors/{host}")["spec"]
    found: list[str] = spec.get("destroyOrphans", [])
    return found


SILENT = pytest.mark.parametrize("host", [False], indirect=True)
HEARD = pytest.mark.parametrize("host", [True], indirect=True)


@SILENT
def test_an_order_waits_for_a_host_that_is_silent(run: Manage, admin: KubeHttp, host: str) -> None:
    said = json.loads(run.says("vm", "destroy", ID, "--node", host, "--yes", "--json"))
    assert (said["destroyed"], said["guest"]) == (False, GUEST)
    assert orders(admin, host) == [GUEST]
    code, message = run.fails("vm", "destroy", ID, "--node", host, "--yes")
    assert (code, message) == (
        1, f"novakube-manage: host {host} has the order to destroy domain {ID}\n",
    )  # fmt: skip


@SILENT
def test_a_silent_host_takes_nothing_over(run: Manage, host: str) -> None:
    code, message = run.fails("vm", "adopt", ID, "--node", host)
    assert code == 1
    assert f"host {host} is not heard" in message


@HEARD
def test_an_order_that_is_not_carried_out_in_time_stands(
    run: Manage, admin: KubeHttp, host: str
) -> None:
    code, message = run.fails("vm", "destroy", ID, "--node", host, "--yes", "--timeout", "0")
    assert code == 1
    assert f"not reported as done by {host} within 0 s; the order stands" in message
    assert orders(admin, host) == [GUEST]


@HEARD
@pytest.mark.parametrize(("answer", "ordered"), [("y\n", [GUEST]), ("n\n", []), ("", [])])
def test_it_asks(
    run: Manage, admin: KubeHttp, host: str, monkeypatch: pytest.MonkeyPatch,
    answer: str, ordered: list[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    code, message = run.fails("vm", "destroy", ID, "--node", host, "--timeout", "0")
    assert code == 1
    assert (
        f"Destroy domain {ID} (ns-{host}/web, Running) on {host} with its disks? [y/N]" in message
    )
    assert orders(admin, host) == ordered


@HEARD
def test_done_orders_are_left_out_of_the_next(run: Manage, admin: KubeHttp, host: str) -> None:
    old = {"spec": {"destroyOrphans": [GUEST.replace("b", "c")]}}
    merge = "application/merge-patch+json"
    admin.call("PATCH", f"{GROUP}/hypervisors/{host}", old, merge)
    run.fails("vm", "destroy", ID, "--node", host, "--yes", "--timeout", "0")
    assert orders(admin, host) == [GUEST]


@HEARD
def test_what_a_takeover_needs_is_named(run: Manage, admin: KubeHttp, host: str) -> None:
    adopt: tuple[Any, ...] = ("vm", "adopt", ID, "--node", host)
    namespace = f"ns-{host}"
    assert f"one of namespace {namespace}, which does not exist" in run.fails(*adopt)[1]
    admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert "there is no flavor of 1 vCPUs, 128 MiB memory" in run.fails(*adopt)[1]
    make(admin, "Flavor", f"f-{host}", {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1})
    try:
        assert "does not remember the image of this domain" in run.fails(*adopt)[1]
        adopt += ("--image", "guest")
        assert f"namespace {namespace} sees no image guest" in run.fails(*adopt)[1]
        image = {"diskFormat": "qcow2", "source": {"url": "http://192.0.2.10/a"}}
        make(admin, "Image", "guest", image, namespace)
        code, message = run.fails(*adopt, "--timeout", "0")
        assert code == 1
        assert "It goes on trying; deleting it destroys the domain" in message
        made = admin.call("GET", f"{GROUP}/namespaces/{namespace}/instances/web")
        assert made["spec"]["id"] == ID
    finally:
        admin.call("DELETE", f"{GROUP}/flavors/f-{host}")


@HEARD
def test_an_unknown_domain(run: Manage, host: str) -> None:
    other = ID.replace("a", "d")
    for verb in ("adopt", "destroy"):
        code, message = run.fails("vm", verb, other, "--node", host)
        assert code == 1
        assert f"host {host} has no domain {other} that belongs to no instance" in message
    assert run.fails("vm", "destroy", ID, "--node", host, "--timeout", "soon")[0] == 2
