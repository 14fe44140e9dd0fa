"""A plain client of the contract's own API server, with the generated CRDs installed.

The server is not the one other tests share: it holds an object of every kind, cluster-wide
ones included.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deadlines import READY_S
from tests.integration.apiserver import ApiServer, program
from tests.integration.contract.samples import CRDS, STORED
from tests.waiting import wait_until_sync


@dataclass
class Api:
    """One kept connection; answers are (status code, decoded body)."""

    token: str
    kubeconfig: Path
    connection: http.client.HTTPSConnection

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
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
def served_contract(folder: Path) -> Iterator[Api]:
    """etcd and API server, ready, every CRD served."""
    server = ApiServer(folder)
    try:
        server.start()
        api = _client(server)
        _install(api)
        yield api
        api.connection.close()
    finally:
        server.stop()


def _client(server: ApiServer) -> Api:
    token = server.token_file.read_text()
    cluster = {"server": server.url, "certificate-authority": str(server.ca_file)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    kubeconfig = server.directory / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trust)
    return Api(token, kubeconfig, connection)


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
