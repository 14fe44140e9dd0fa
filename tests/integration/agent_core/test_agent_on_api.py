"""The agent's process with the fake driver against the real API server.

It starts with an account that may only ask for the node account's token, as in the chart.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from novakube_agent.identity import NODE_ACCOUNT, node_namespace
from novakube_agent.status_writer import GUESTS
from novakube_crds.base import API_VERSION, SYSTEM_NAMESPACE
from novakube_crds.v1alpha1.hypervisorreport import HEARTBEAT_LEASE, REPORT_NAME
from novakube_kit.errors import AlreadyExists
from novakube_kit.kube import Json, Resource
from novakube_kit.kube_aio import AioKube
from novakube_kit.resources import LEASES, NAMESPACES, ROLEBINDINGS, ROLES, SERVICEACCOUNTS
from tests.deadlines import EVENT_S, READY_S, STOP_S
from tests.fakes.host import a_spec
from tests.integration.apiserver import ApiServer
from tests.ports import free_port
from tests.waiting import wait_until

REPORTS = Resource("novakube.dev", "v1alpha1", "hypervisorreports")


class AgentProcess:
    """``novakube-agent`` as a child; its log is a file."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self._env = env
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, **more: str) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "novakube_agent.main",
                env={**os.environ, **self._env, **more},
                stdout=log,
                stderr=log,
            )

    async def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), STOP_S)

    async def ended(self) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), READY_S)


async def make(kube: AioKube, res: Resource, body: Json, namespace: str | None = None) -> None:
    try:
        await kube.create(res, body, namespace)
    except AlreadyExists:
        return


async def grant(kube: AioKube, namespace: str, name: str, rules: list[Json], of: str) -> None:
    """A Role of that name in the namespace, for account ``<namespace>:<name>``."""
    await make(kube, ROLES, {"metadata": {"name": name}, "rules": rules}, namespace)
    account_namespace, account = of.split(":")
    subject = {"kind": "ServiceAccount", "name": account, "namespace": account_namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
    await make(kube, ROLEBINDINGS, binding, namespace)


async def mailbox(kube: AioKube, node: str) -> None:
    """What the operator makes for a node."""
    namespace = node_namespace(node)
    await make(kube, NAMESPACES, {"metadata": {"name": namespace}})
    await make(kube, SERVICEACCOUNTS, {"metadata": {"name": NODE_ACCOUNT}}, namespace)
    report = {
        "apiVersion": API_VERSION,
        "kind": "HypervisorReport",
        "metadata": {"name": REPORT_NAME},
        "spec": {},
    }
    await make(kube, REPORTS, report, namespace)
    await make(kube, LEASES, {"metadata": {"name": HEARTBEAT_LEASE}, "spec": {}}, namespace)
    ours, leases = "novakube.dev", "coordination.k8s.io"
    rules = [
        {"apiGroups": [ours], "resources": ["guests"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [ours], "resources": ["guests/status"], "verbs": ["patch"]},
        {"apiGroups": [ours], "resources": ["hypervisorreports"],
         "verbs": ["get", "list", "watch"]},
        {"apiGroups": [ours], "resources": ["hypervisorreports/status"], "verbs": ["patch"]},
        {"apiGroups": [leases], "resources": ["leases"], "verbs": ["get", "patch"]},
    ]  # fmt: skip
    await grant(kube, namespace, "node", rules, f"{namespace}:{NODE_ACCOUNT}")
    lease = [{"apiGroups": [leases], "resources": ["leases"], "verbs": ["get"],
              "resourceNames": ["novakube-operator"]}]  # fmt: skip
    await grant(kube, SYSTEM_NAMESPACE, node, lease, f"{namespace}:{NODE_ACCOUNT}")
    token = [{"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
              "resourceNames": [NODE_ACCOUNT]}]  # fmt: skip
    await grant(kube, namespace, "token", token, f"{SYSTEM_NAMESPACE}:novakube-agent")


@pytest.fixture
async def node(kube: AioKube, crds: list[str]) -> str:
    await make(kube, NAMESPACES, {"metadata": {"name": SYSTEM_NAMESPACE}})
    await make(kube, SERVICEACCOUNTS, {"metadata": {"name": "novakube-agent"}}, SYSTEM_NAMESPACE)
    name = f"n{uuid.uuid4().hex[:8]}"
    await mailbox(kube, name)
    return name


@pytest.fixture
async def stopped_agent(
    kube: AioKube, apiserver: ApiServer, node: str, tmp_path: Path
) -> AsyncIterator[AgentProcess]:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await kube.create(
        SERVICEACCOUNTS, request, SYSTEM_NAMESPACE, name="novakube-agent", sub="token"
    )
    token_file = tmp_path / "token"
    token_file.write_text(answer["status"]["token"])
    env = {
        "NOVAKUBE_API_SERVER": apiserver.url,
        "NOVAKUBE_CA_FILE": str(apiserver.ca_file),
        "NOVAKUBE_TOKEN_FILE": str(token_file),
        "NOVAKUBE_NODE": node,
        "NOVAKUBE_DRIVER": "fake",
        "NOVAKUBE_FAKE": '{"persist": true}',
        "NOVAKUBE_STATE_DIR": str(tmp_path / "state"),
        "NOVAKUBE_HTTP": f"127.0.0.1:{free_port()}",
        "NOVAKUBE_AGENT_LISTEN": "127.0.0.1:0",
    }
    process = AgentProcess(env, tmp_path / "agent.log")
    try:
        yield process
    finally:
        await process.end(signal.SIGKILL)


@pytest.fixture
async def agent(stopped_agent: AgentProcess) -> AgentProcess:
    await stopped_agent.start()
    return stopped_agent


async def order_guest(kube: AioKube, node: str, instance: int = 1) -> str:
    spec = a_spec(1, instance, hypervisor=node)
    name = f"{spec.instance.uid}-1"
    body = {
        "apiVersion": API_VERSION,
        "kind": "Guest",
        "metadata": {"name": name},
        "spec": spec.wire(),
    }
    await kube.create(GUESTS, body, node_namespace(node))
    return name


async def until_phase(kube: AioKube, node: str, name: str, phase: str) -> Json:
    async def reached() -> Json | None:
        guest = await kube.get(GUESTS, name, node_namespace(node))
        return guest if guest.get("status", {}).get("phase") == phase else None

    found = await wait_until(reached, f"Guest {phase}", READY_S)
    assert found is not None
    return found


async def until_reported(kube: AioKube, node: str) -> Json:
    async def reported() -> Json | None:
        report = await kube.get(REPORTS, REPORT_NAME, node_namespace(node))
        return report if report.get("status", {}).get("driver") else None

    found = await wait_until(reported, "the node reports", READY_S)
    assert found is not None
    return found


def status_patches(server: ApiServer) -> float:
    """PATCH guests/status answered 200, from the API server's own metrics."""
    headers = {"Authorization": f"Bearer {server.token_file.read_text()}"}
    text = httpx.get(f"{server.url}/metrics", verify=False, headers=headers).text
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("apiserver_request_total{")
        and 'resource="guests"' in line
        and 'subresource="status"' in line
        and 'verb="PATCH"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_a_guest_is_ready_by_one_status_write(
    kube: AioKube, apiserver: ApiServer, node: str, agent: AgentProcess
) -> None:
    report = await until_reported(kube, node)
    conditions = {c["type"]: c["status"] for c in report["status"]["conditions"]}
    assert conditions == dict.fromkeys(
        ("StateReady", "RightsReady", "DriverReady", "ImageCacheReady", "NetworkReady",
         "GuestsResumable"), "True",
    )  # fmt: skip
    assert "BEGIN CERTIFICATE REQUEST" in report["status"]["certificateRequest"]
    before = status_patches(apiserver)
    name = await order_guest(kube, node)
    guest = await until_phase(kube, node, name, "Ready")
    assert guest["status"]["powerState"] == "Running"
    assert status_patches(apiserver) - before == 1

    patch = {"spec": {"teardown": "Destroy"}}
    await kube.patch(GUESTS, name, patch, node_namespace(node))
    await until_phase(kube, node, name, "Gone")


async def test_heartbeat(kube: AioKube, node: str, agent: AgentProcess) -> None:
    async def beats() -> bool:
        lease = await kube.get(LEASES, HEARTBEAT_LEASE, node_namespace(node))
        return lease["spec"].get("holderIdentity") == node and "renewTime" in lease["spec"]

    await wait_until(beats, "heartbeat renewed", READY_S)


async def until_condition(kube: AioKube, node: str, kind: str, status: str) -> Json:
    """The report's condition once it has that status."""

    async def told() -> Json | None:
        report = await kube.get(REPORTS, REPORT_NAME, node_namespace(node))
        conditions = report.get("status", {}).get("conditions", [])
        return next((c for c in conditions if (c["type"], c["status"]) == (kind, status)), None)

    found = await wait_until(told, f"{kind} {status}", READY_S)
    assert found is not None
    return found


async def test_files_that_cannot_be_used_are_told_and_mended(
    kube: AioKube, node: str, stopped_agent: AgentProcess, tmp_path: Path
) -> None:
    """The agent does not fall over them: it says so, beats on, and begins when they are well."""
    in_the_way = tmp_path / "state" / "journal"
    in_the_way.parent.mkdir()
    in_the_way.write_text("no folder")
    await stopped_agent.start()
    bad = await until_condition(kube, node, "StateReady", "False")
    assert bad["reason"] == "StateUnusable"
    assert str(in_the_way) in bad["message"]
    in_the_way.unlink()
    await until_condition(kube, node, "StateReady", "True")
    name = await order_guest(kube, node)
    await until_phase(kube, node, name, "Ready")


async def test_a_right_that_is_missing_is_told_and_given(
    kube: AioKube, node: str, stopped_agent: AgentProcess
) -> None:
    role = await kube.get(ROLES, "node", node_namespace(node))
    rights = role["rules"]
    without = [rule for rule in rights if rule["resources"] != ["guests"]]
    await kube.patch(ROLES, "node", {"rules": without}, node_namespace(node))
    await stopped_agent.start()
    bad = await until_condition(kube, node, "RightsReady", "False")
    assert bad["reason"] == "Forbidden"
    assert "guests" in bad["message"]
    await kube.patch(ROLES, "node", {"rules": rights}, node_namespace(node))
    await until_condition(kube, node, "RightsReady", "True")
    name = await order_guest(kube, node)
    await until_phase(kube, node, name, "Ready")


STEPS = ("journal.save", "images.ensure", "disks.ensure", "network.ensure_nic", "driver.define",
         "driver.start", "kube.patch.guests.status")  # fmt: skip


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_the_guest_gets_ready(
    kube: AioKube, node: str, stopped_agent: AgentProcess, step: str, moment: str
) -> None:
    agent = stopped_agent
    await agent.start(NOVAKUBE_FAILPOINT=f"{step}:{moment}")
    name = await order_guest(kube, node)
    assert await agent.ended() == -signal.SIGKILL
    await agent.start()
    guest = await until_phase(kube, node, name, "Ready")
    assert guest["status"]["powerState"] == "Running"
    assert guest["status"]["restarts"] == 0


async def test_a_power_order_and_a_clean_end(kube: AioKube, node: str, agent: AgentProcess) -> None:
    name = await order_guest(kube, node)
    await until_phase(kube, node, name, "Ready")
    patch: Json = {"spec": {"powerState": "Stopped", "powerSequence": 2}}
    await kube.patch(GUESTS, name, patch, node_namespace(node))

    async def stopped() -> bool:
        status: Json = (await kube.get(GUESTS, name, node_namespace(node)))["status"]
        return (status["powerState"], status["powerSequence"]) == ("Stopped", 2)

    await wait_until(stopped, "Stopped", EVENT_S)
    assert await agent.end(signal.SIGTERM) == 0
