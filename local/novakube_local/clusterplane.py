"""The control plane of a cluster with kubelets: all controllers, a scheduler, kubelets' identities.

Nodes reach the API server at its address in the cloud's network, pods at the Service
``kubernetes``; the machine reaches it over the link.
"""

from __future__ import annotations

from pathlib import Path

from novakube_local import binaries
from novakube_local.controlplane import Command, ControlPlane
from novakube_local.kubehttp import KubeHttp
from novakube_local.layout import API_SERVER_ADDRESS

SERVICE_ADDRESS = "10.96.0.1"
"""Of the Service ``kubernetes``: the first of the API server's service range."""
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
KUBELET_CLIENT = "kube-apiserver-kubelet-client"


class ClusterPlane(ControlPlane):
    """A `ControlPlane` whose nodes are real ones."""

    def commands(self) -> list[Command]:
        """As of every control plane, and the scheduler."""
        return [*super().commands(), self._scheduler()]

    def _apiserver_settings(self) -> dict[str, str]:
        pair = self._authority.client(KUBELET_CLIENT, KUBELET_CLIENT)
        return {
            "advertise-address": API_SERVER_ADDRESS,
            "endpoint-reconciler-type": "lease",
            "kubelet-client-certificate": str(pair.cert),
            "kubelet-client-key": str(pair.key),
            "kubelet-preferred-address-types": "InternalIP",
        }

    def _controller_manager_settings(self) -> dict[str, str]:
        return {"controllers": "*", "root-ca-file": str(self.ca_file)}

    def _scheduler(self) -> Command:
        user = "system:kube-scheduler"
        pair = self._authority.client("kube-scheduler", user)
        server = f"https://127.0.0.1:{self.ports.apiserver}"
        flags = {
            "kubeconfig": self.write_kubeconfig("kube-scheduler", pair, server),
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
            "cert-dir": self.directory / "pki" / "kube-scheduler",
        }
        argv = [f"--{name}={value}" for name, value in flags.items()]
        return Command("kube-scheduler", (str(binaries.require("kube-scheduler")), *argv))

    def kubelet_kubeconfig(self, node: str) -> Path:
        """Who a node's kubelet is; the node authorizer and NodeRestriction bound it."""
        user = f"system:node:{node}"
        pair = self._authority.client(f"kubelet-{node}", user, "system:nodes")
        return self.write_kubeconfig(f"kubelet-{node}", pair, self.inner_server)

    def proxy_kubeconfig(self) -> Path:
        """Who kube-proxy is on every node."""
        pair = self._authority.client("kube-proxy", "system:kube-proxy")
        return self.write_kubeconfig("kube-proxy", pair, self.inner_server)

    @property
    def inner_server(self) -> str:
        """The API server as nodes reach it."""
        return f"https://{API_SERVER_ADDRESS}:{self.ports.apiserver}"


def bind_kubelet_client(admin: KubeHttp) -> None:
    """Lets the API server read logs of pods, and run commands in them, for its users."""
    api = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": KUBELET_CLIENT},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
        "subjects": [{"apiGroup": api, "kind": "User", "name": KUBELET_CLIENT}],
    }
    admin.ensure(f"/apis/{api}/v1/clusterrolebindings", binding)
