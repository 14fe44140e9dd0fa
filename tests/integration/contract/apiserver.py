"""A private etcd and kube-apiserver with the generated CRDs, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deadlines import READY_S, STOP_S
from tests.integration.contract.samples import CRDS, STORED
from tests.waiting import wait_until_sync

TOKEN = "contract-tests"


def program(name: str) -> str:
    """Path of a control-plane program; a missing one is a failure."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = shutil.which(name, path=os.pathsep.join([assets, os.environ["PATH"]]))
    assert found, f"{name} is neither in KUBEBUILDER_ASSETS nor on PATH"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Api:
    """One kept connection; answers are (status code, decoded body)."""

    port: int
    kubeconfig: Path
    connection: http.client.HTTPSConnection

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
        payload = None if body is None else json.dumps(body)
        self.connection.request(method, path, payload, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data.startswith(b"{") else {}

    def collection(self, kind: str, namespace: str = "default") -> str:
        names = CRDS[kind]["spec"]
        namespace = f"/namespaces/{namespace}" if names["scope"] == "Namespaced" else ""
        return f"/apis/novakube.dev/v1alpha1{namespace}/{names['names']['plural']}"

    def create(self, obj: dict[str, Any], *, dry: bool = True) -> tuple[int, dict[str, Any]]:
        query = "?dryRun=All" if dry else ""
        path = self.collection(obj["kind"], obj["metadata"].get("namespace", ""))
        return self.request("POST", path + query, obj)

    def patch(
        self, stored: dict[str, Any], change: dict[str, Any], *, sub: str = "", dry: bool = True
    ) -> tuple[int, dict[str, Any]]:
        metadata = stored["metadata"]
        path = self.collection(stored["kind"], metadata.get("namespace", ""))
        path += f"/{metadata['name']}{sub}" + ("?dryRun=All" if dry else "")
        return self.request("PATCH", path, change, "application/merge-patch+json")

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [program("kubectl"), "--kubeconfig", str(self.kubeconfig), *args]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=READY_S, check=False
        )


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


@contextmanager
def control_plane(folder: Path) -> Iterator[Api]:
    """etcd and API server, ready, every CRD established."""
    client, peer, port = free_port(), free_port(), free_port()
    (folder / "tokens.csv").write_text(f"{TOKEN},contract,contract,system:masters\n")
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    etcd = [
        program("etcd"),
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]
    apiserver = [
        program("kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/24",
    ]
    with ExitStack() as stack:
        stack.enter_context(_running(etcd, folder / "etcd.log"))
        stack.enter_context(_running(apiserver, folder / "apiserver.log"))
        api = _client(folder, port)
        wait_until_sync(lambda: _ready(api), "API server ready", READY_S)
        _install(api)
        yield api
        api.connection.close()


def _client(folder: Path, port: int) -> Api:
    # The server's certificate is its own, made on this start; loopback only.
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    return Api(port, kubeconfig, http.client.HTTPSConnection("127.0.0.1", port, context=trust))


def _ready(api: Api) -> bool:
    try:
        return api.request("GET", "/readyz")[0] == 200
    except OSError:
        api.connection.close()
        return False


def _install(api: Api) -> None:
    namespace = {"metadata": {"name": STORED}}
    code, answer = api.request("POST", "/api/v1/namespaces", namespace)
    assert code == 201, answer["message"]
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for crd in CRDS.values():
        code, answer = api.request("POST", crds, crd)
        assert code == 201, answer["message"]
    for kind in CRDS:
        wait_until_sync(
            lambda kind=kind: api.request("GET", api.collection(kind))[0] == 200,
            f"{kind} served",
            READY_S,
        )
