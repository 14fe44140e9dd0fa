"""The parts around novakube-api: a control plane with the chart's rights, agents' servers with
certificates of the operator's authority, and the API as its own process."""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx

from novakube_agent.identity import NodeCertificate
from novakube_agent.server import AgentServer
from novakube_kit.access import ClusterAccess
from novakube_kit.clock import SystemClock
from novakube_kit.kube import Json
from novakube_kit.kube_aio import AioKube
from novakube_kit.tokens import StaticToken
from novakube_local.chart import render_chart
from novakube_local.controlplane import ControlPlane
from novakube_local.kubehttp import KubeHttp
from novakube_operator.core.certificates import Pair, new_leaf
from novakube_operator.nodes.authority import Authority
from tests.deadlines import EVENT_S, READY_S, STOP_S
from tests.ports import free_port
from tests.waiting import wait_until_sync

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "api" / "plugin" / "kubectl-novakube"
SYSTEM = "novakube-system"
GROUP = "/apis/novakube.dev/v1alpha1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def rendered_chart() -> str:
    return render_chart("workloads=false", crds=True)


def published_by_operator(plane: ControlPlane, url: str) -> tuple[Pair, dict[str, bytes]]:
    """The authority and novakube-api's certificate, made by the operator with its own token."""

    async def publish() -> Pair:
        token = StaticToken(plane.token(SYSTEM, "novakube-operator"))
        access = ClusterAccess(plane.server, plane.ca_file.read_text(), token)
        async with AioKube(access) as kube:
            authority = Authority(kube, SystemClock(), url)
            await authority.ensure_api()
            return await authority.pair()

    pair = asyncio.run(publish())
    secret = plane.admin().call("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/novakube-api-tls")
    return pair, {name: base64.b64decode(text) for name, text in secret["data"].items()}


def tls_files(authority: Pair, common_name: str, hosts: tuple[str, ...]) -> dict[str, bytes]:
    """Files of a new certificate of the authority."""
    leaf = new_leaf(authority, common_name, hosts, datetime.now(UTC))
    texts = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.certificate}
    return {name: text.encode() for name, text in texts.items()}


def write_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        part = directory / f".{name}"
        part.write_bytes(content)
        part.replace(directory / name)
    return directory


class Agent:
    """The agent's own mutual-TLS server over a directory of guests, in a thread of its own."""

    def __init__(self, directory: Path, node: str, tls: Mapping[str, bytes]) -> None:
        self.guests = directory / "guests"
        self.port = 0
        self._identity = write_files(directory / "identity", tls)
        self._node = node
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_until_sync(lambda: self.port, f"agent {node} listens", EVENT_S)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        certificate = NodeCertificate(self._identity, self._node)
        await certificate.load()
        server = AgentServer(certificate, "127.0.0.1", 0, self._log_of, self._listening)
        self._task = asyncio.create_task(server.run())
        await asyncio.wait({self._task})

    def _log_of(self, guest: str) -> Path | None:
        directory = self.guests / guest
        return directory / "console.log" if directory.is_dir() else None

    def _listening(self, port: int) -> None:
        self.port = port

    def write_log(self, guest: str, content: bytes, name: str = "console.log") -> None:
        (self.guests / guest).mkdir(parents=True, exist_ok=True)
        (self.guests / guest / name).write_bytes(content)

    def stop(self) -> None:
        if self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(STOP_S)


class ApiProcess:
    """novakube-api as it runs in a pod: settings, token and certificate from files."""

    def __init__(
        self, directory: Path, server: str, ca_file: Path, token: str, tls: Mapping[str, bytes]
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.tls_dir = write_files(directory / "tls", tls)
        self.log = directory / "api.log"
        (directory / "token").write_text(token)
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "NOVAKUBE_API_SERVER": server,
            "NOVAKUBE_CA_FILE": str(ca_file),
            "NOVAKUBE_TOKEN_FILE": str(directory / "token"),
            "NOVAKUBE_TLS_DIR": str(self.tls_dir),
            "NOVAKUBE_AGENT_TIMEOUT": "5",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.at(free_port())

    def at(self, port: int) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.environment["NOVAKUBE_HTTP"] = f"127.0.0.1:{port}"

    def start(self) -> ApiProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "novakube_api.main"],
                env=self.environment, cwd="/", stdout=log, stderr=log,
            )  # fmt: skip
        wait_until_sync(self._healthy, f"novakube-api serves; {self.log}", READY_S)
        return self

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_S)

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(verify=self.trust(), headers=headers, timeout=20) as client:
            return client.get(self.url + path)

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.tls_dir / "ca.crt"))

    def console(
        self, name: str, token: str | None = None, namespace: str = "tenant", **query: object
    ) -> httpx.Response:
        words = "&".join(f"{key}={value}" for key, value in query.items())
        path = f"/kubectl/v1/namespaces/{namespace}/instances/{name}/console-log"
        return self.get(f"{path}?{words}" if words else path, token)


def put_instance(admin: KubeHttp, name: str, namespace: str, status: Json) -> None:
    """An Instance with the status that the operator would have written."""
    base = f"{GROUP}/namespaces/{namespace}/instances"
    spec = {"flavor": {"name": "tiny"}, "image": {"name": "guest"}}
    admin.call("POST", base, _object("Instance", name, spec))
    _set_status(admin, f"{base}/{name}", status)


def put_hypervisor(admin: KubeHttp, name: str, address: str | None, port: int | None) -> None:
    admin.call("POST", f"{GROUP}/hypervisors", _object("Hypervisor", name, {}))
    if address:
        _set_status(admin, f"{GROUP}/hypervisors/{name}", {"address": address, "agentPort": port})


def _set_status(admin: KubeHttp, path: str, status: Json) -> None:
    admin.call("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")


def _object(kind: str, name: str, spec: Json) -> Json:
    return {
        "apiVersion": "novakube.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def account(admin: KubeHttp, namespace: str, name: str, role: str | None) -> None:
    """A service account, bound to a ClusterRole in its namespace."""
    admin.call(
        "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}}
    )
    if role is not None:
        bind(admin, namespace, role, {"kind": "ServiceAccount", "name": name,
                                      "namespace": namespace})  # fmt: skip


def bind(admin: KubeHttp, namespace: str, role: str, subject: Json) -> None:
    admin.call("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", {
        "metadata": {"name": subject["name"]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    })  # fmt: skip
