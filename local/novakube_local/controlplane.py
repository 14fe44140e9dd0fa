"""A real etcd, kube-apiserver and, if asked, kube-controller-manager as private processes.

Tests start them as children on loopback with free ports; the local cloud takes the same command
lines (`ControlPlane.commands`) and lets its supervisor run them in a network namespace.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from novakube_local import binaries
from novakube_local.errors import LocalCloudError, log_tail
from novakube_local.kubectl import kubeconfig, run_kubectl
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_local.pki import Authority, Pair, signing_pair, write_private

ADMIN_USER = "novakube-admin"
READY_S = 90.0
STOP_S = 15.0
POLL_S = 0.05
ISSUER = "https://kubernetes.default.svc"
CONTROLLERS = (
    "serviceaccount-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
)
"""Those novakube relies on; node lifecycle and workloads belong to a full cluster."""


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports; tests take free ones, a network namespace of its own has them all."""

    etcd: int = 2379
    etcd_peer: int = 2380
    apiserver: int = 6443
    controller_manager: int = 10257


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API server listens and what it is called."""

    bind: str = "127.0.0.1"
    address: str = "127.0.0.1"
    """What clients dial; the serving certificate holds it."""
    other_names: tuple[str, ...] = ()
    """Further addresses and names of the serving certificate."""


@dataclass(frozen=True, slots=True)
class Command:
    """One process of the control plane, in order of start."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def free_ports() -> Ports:
    """Four ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(4)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return Ports(*(one.getsockname()[1] for one in sockets))
    finally:
        for one in sockets:
            one.close()


class ControlPlane:
    """A control plane with its data, certificates and logs in one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        ports: Ports | None = None,
        endpoint: Endpoint | None = None,
        controller_manager: bool = False,
        audit_policy: Path | None = None,
        logs: Path | None = None,
    ) -> None:
        """Makes certificates and kubeconfigs; starts nothing.

        Args:
            directory: kept between starts; what is in it is reused.
            ports: None takes free ports of loopback.
            endpoint: address of the API server, loopback by default.
            controller_manager: also namespaces that end, garbage collection, default
                service accounts and aggregated roles.
            audit_policy: an audit policy; the log is ``audit.log`` among the others.
            logs: folder of the logs, ``log`` in the directory by default.

        Raises:
            LocalCloudError: a program is missing and cannot be built.
        """
        self.directory = directory
        self.ports = ports or free_ports()
        self.endpoint = endpoint or Endpoint()
        self.server = f"https://{self.endpoint.address}:{self.ports.apiserver}"
        self.logs = logs or directory / "log"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.audit_log = self.logs / "audit.log"
        self._audit_policy = audit_policy
        self._with_controllers = controller_manager
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._authority = Authority(directory / "pki")
        self.ca_file = self._authority.cert
        self.admin_pair = self._authority.client("admin", ADMIN_USER)
        self.kubeconfig = self.write_kubeconfig("admin", self.admin_pair)
        names = ["etcd", "kube-apiserver", "kubectl"]
        if controller_manager:
            names.append("kube-controller-manager")
        self._programs = {name: binaries.require(name) for name in names}

    # -- identities ------------------------------------------------------------------------

    def user(self, name: str, group: str | None = None) -> Path:
        """A kubeconfig of a user known by client certificate; rights are yours to bind."""
        return self.write_kubeconfig(name, self._authority.client(f"user-{name}", name, group))

    def identity(self, user: str) -> Pair:
        """A client certificate of a user without rights of its own."""
        return self._authority.client(f"user-{user}", user)

    def admin(self) -> KubeHttp:
        """A client of the administrator (bound to cluster-admin, not in system:masters)."""
        return KubeHttp(self.server, self.ca_file, self.admin_pair)

    def token(
        self, namespace: str, service_account: str, node: str | None = None, ttl_s: int = 600
    ) -> str:
        """A token of a service account by TokenRequest, bound to a Node if one is named.

        Raises:
            ApiError: the account or the node does not exist, or ``ttl_s`` < 600.
        """
        return self.admin().token(namespace, service_account, node, ttl_s)

    def write_kubeconfig(
        self, name: str, pair: Pair, server: str | None = None, namespace: str = "default"
    ) -> Path:
        """A kubeconfig with everything in it; where it is."""
        text = kubeconfig(server or self.server, self.ca_file, name, pair, namespace)
        path = self.directory / f"{name}.kubeconfig"
        write_private(path, text.encode())
        return path

    # -- processes -------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """The command lines, in order of start."""
        listed = [self._etcd(), self._apiserver()]
        return [*listed, self._controller_manager()] if self._with_controllers else listed

    def _etcd(self) -> Command:
        client = f"http://127.0.0.1:{self.ports.etcd}"
        peer = f"http://127.0.0.1:{self.ports.etcd_peer}"
        flags = {
            "data-dir": str(self.directory / "etcd"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "auto-compaction-retention": "5m",
            "log-level": "warn",
        }
        return Command("etcd", (str(self._programs["etcd"]), *_flags(flags)))

    def _apiserver(self) -> Command:
        own = (self.endpoint.address, "127.0.0.1", "localhost")
        sans = dict.fromkeys((*own, *self.endpoint.other_names))
        # Named after what it vouches for: another address needs another certificate.
        digest = hashlib.sha256(" ".join(sans).encode()).hexdigest()[:8]
        serving = self._authority.server(f"apiserver-{digest}", sans)
        signing = signing_pair(self.directory / "pki")
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self.ports.etcd}",
            "bind-address": self.endpoint.bind,
            "advertise-address": self.endpoint.address,
            "endpoint-reconciler-type": "none",
            "secure-port": str(self.ports.apiserver),
            "tls-cert-file": str(serving.cert),
            "tls-private-key-file": str(serving.key),
            "client-ca-file": str(self.ca_file),
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-account-issuer": ISSUER,
            "service-account-key-file": str(signing.cert),
            "service-account-signing-key-file": str(signing.key),
            "service-cluster-ip-range": "10.96.0.0/16",
            "shutdown-delay-duration": "0s",
            "profiling": "false",
            # As in a cluster that runs pods of its own: the agent's is privileged.
            "allow-privileged": "true",
            **self._apiserver_settings(),
        }
        if self._audit_policy is not None:
            flags["audit-policy-file"] = str(self._audit_policy)
            flags["audit-log-path"] = str(self.audit_log)
        return Command("kube-apiserver", (str(self._programs["kube-apiserver"]), *_flags(flags)))

    def _controller_manager(self) -> Command:
        user = "system:kube-controller-manager"
        pair = self._authority.client("kube-controller-manager", user)
        # It may run where only loopback leads to the API server, and always beside it.
        server = f"https://127.0.0.1:{self.ports.apiserver}"
        flags = {
            "kubeconfig": str(self.write_kubeconfig("kube-controller-manager", pair, server)),
            "controllers": ",".join(CONTROLLERS),
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
            "secure-port": str(self.ports.controller_manager),
            "cert-dir": str(self.directory / "pki" / "kube-controller-manager"),
            "concurrent-gc-syncs": "4",
            **self._controller_manager_settings(),
        }
        program = str(self._programs["kube-controller-manager"])
        return Command("kube-controller-manager", (program, *_flags(flags)))

    def _apiserver_settings(self) -> dict[str, str]:
        """Flags that a fuller control plane adds or replaces."""
        return {}

    def _controller_manager_settings(self) -> dict[str, str]:
        """As above, of the controller manager."""
        return {}

    def start(self, deadline_s: float = READY_S) -> Self:
        """Starts what does not run and returns when the API server is ready.

        The processes die with this one, however it ends.

        Raises:
            LocalCloudError: one of them ended or did not get ready in time; the message shows
                the end of its log. What was started is stopped.
        """
        try:
            for command in self.commands():
                self._spawn(command)
                if command.name == "kube-apiserver":
                    self.wait_ready(deadline_s)
        except BaseException:
            self.stop()
            raise
        return self

    def _spawn(self, command: Command) -> None:
        if any(name == command.name and one.poll() is None for name, one in self._processes):
            return
        with (self.logs / f"{command.name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **command.env},
                start_new_session=True,
            )
        self._processes.append((command.name, process))

    def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Waits until the API server serves and the administrator has rights.

        Raises:
            LocalCloudError: as `start`.
        """
        give_up_at = time.monotonic() + deadline_s
        bootstrap = KubeHttp(self.server, self.ca_file, self._bootstrap_pair())
        last = "no attempt"
        while time.monotonic() < give_up_at:
            self._check_alive()
            try:
                bootstrap.call("GET", "/readyz", timeout_s=2)
                _bind_administrator(bootstrap)
                self.admin().call("GET", "/api/v1/namespaces/kube-system")
            except (ApiError, OSError, ssl.SSLError, http.client.HTTPException) as error:
                last = str(error)
            else:
                return
            time.sleep(POLL_S)
        self._check_alive()
        raise LocalCloudError(
            f"the API server at {self.server} is not ready after {deadline_s:g} s: {last}\n"
            + "\n".join(log_tail(self.logs / f"{name}.log") for name in ("etcd", "kube-apiserver"))
        )

    def _bootstrap_pair(self) -> Pair:
        """The one identity in system:masters: gives the administrator his role, nothing else."""
        return self._authority.client("bootstrap", "novakube-bootstrap", "system:masters")

    def _check_alive(self) -> None:
        for name, process in self._processes:
            if process.poll() is not None:
                raise LocalCloudError(
                    f"{name} ended with {process.returncode}\n{log_tail(self.logs / f'{name}.log')}"
                )

    def pid(self, name: str) -> int:
        """Of a process started here, for tests that end it. KeyError when it does not run."""
        return {known: one.pid for known, one in self._processes if one.poll() is None}[name]

    def stop(self) -> None:
        """Ends the processes, last started first; the directory stays."""
        for name, process in reversed(self._processes):
            process.terminate()
            try:
                # The API server waits for open watches; its store is safe without it.
                process.wait(1 if name == "kube-apiserver" else STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
        self._processes.clear()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl as the administrator.

        Raises:
            LocalCloudError: with what kubectl said.
        """
        return run_kubectl(self._programs["kubectl"], self.kubeconfig, arguments, stdin)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _bind_administrator(bootstrap: KubeHttp) -> None:
    bootstrap.ensure(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ADMIN_USER},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [
                {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "User",
                    "name": ADMIN_USER,
                }
            ],
        },
    )


def _flags(flags: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
