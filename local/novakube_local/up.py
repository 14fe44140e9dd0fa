"""`novakube-local up`: from whatever is there to a running cloud with a first machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from novakube_local import binaries, credentials, members, services
from novakube_local.chart import apply_chart
from novakube_local.controlplane import ControlPlane, Endpoint, Ports
from novakube_local.errors import LocalCloudError, log_tail
from novakube_local.kubehttp import ApiError, Json, KubeHttp
from novakube_local.layout import (
    API_PORT,
    API_SERVER_ADDRESS,
    CLOUD,
    MAX_NODES,
    Layout,
    State,
    node_names,
    write_json,
)
from novakube_local.pki import write_private

FIRST_MACHINE = Path(__file__).with_name("hello.yaml")
READY_TEXT = "novakube-guest ready"
NODES_READY_S = 90.0
MACHINE_S = 180.0
IMAGE_S = 600.0
POLL_S = 0.3
NEEDED = ("ip", "unshare", "nsenter", "mount", "setpriv")
NEEDED_LIBVIRT = ("libvirtd", "qemu-system-x86_64", "qemu-img", "dnsmasq", "iptables")
T = TypeVar("T")


class Up:
    """One run of up."""

    def __init__(self, layout: Layout, nodes: int, driver: str, token_life_s: int) -> None:
        self.layout = layout
        self.nodes = nodes
        self.driver = driver
        self.token_life_s = token_life_s
        self.started = time.monotonic()
        self.state = State()

    kubelets = False
    """Whether nodes run kubelets."""

    def say(self, what: str) -> None:
        """A line of progress, with the seconds since the start."""
        print(f"[{time.monotonic() - self.started:6.1f} s] {what}", flush=True)

    def run(self) -> None:
        """Brings the cloud up.

        Raises:
            LocalCloudError: what is missing or did not get ready, with the logs that show it.
        """
        self.check_machine()
        self.state = self.layout.load()
        self.need_no_other()
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm"):
            binaries.require(name, self.say)
        if self.driver == "libvirt":
            self.build_image()
        plane = self.control_plane()
        self.install(plane)
        self.remove_nodes()
        self.start_nodes(plane)
        self.start_novakube(plane)
        self.wait_for_nodes(plane)
        if self.nodes:
            self.first_machine(plane)
        self.say("the cloud is up")

    def check_machine(self) -> None:
        """Fails before anything is done when something is missing."""
        if os.geteuid() != 0:
            raise LocalCloudError("network namespaces and libvirt need root: sudo make up")
        if not 0 <= self.nodes <= MAX_NODES:
            raise LocalCloudError(f"NODES is {self.nodes}; allowed: 0 to {MAX_NODES}")
        if self.token_life_s < 600:
            raise LocalCloudError("TOKEN_LIFE is below 600 s, the API server's minimum")
        self.need(NEEDED + (NEEDED_LIBVIRT if self.driver == "libvirt" else ()))

    @staticmethod
    def need(programs: tuple[str, ...], how: str = "scripts/bootstrap.sh") -> None:
        """Refuses when a program is missing; ``how`` names what installs it."""
        missing = [name for name in programs if shutil.which(name) is None]
        if missing:
            raise LocalCloudError(f"not on PATH: {', '.join(missing)}; {how} installs them")

    def need_no_other(self) -> None:
        """Refuses where nodes of the other kind run."""
        if self.state.members and self.state.kubelets != self.kubelets:
            runs = "make cluster" if self.state.kubelets else "make up"
            raise LocalCloudError(f"what {runs} made runs here: make down ends it")
        self.state.kubelets = self.kubelets

    def build_image(self) -> None:
        """The guest image; a moment when it is current."""
        self.say("guest image")
        script = self.layout.root / "local" / "guest_image" / "build.py"
        command = [sys.executable, str(script), "--out", str(self.layout.images)]
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=IMAGE_S, env=environ, check=False
        )
        if done.returncode != 0:
            raise LocalCloudError(f"the guest image does not build: {done.stderr.strip()}")

    def control_plane(self) -> ControlPlane:
        """Starts the cloud's member with etcd, API server and controller manager."""
        members.start(self.layout, self.state, CLOUD)
        _, address = members.link_addresses(self.state)
        plane = self.plane(Endpoint("0.0.0.0", address, (API_SERVER_ADDRESS,)))  # noqa: S104
        self.say(f"API server on {plane.server}")
        self.tell(CLOUD, {**self.kept_services(plane), **services.control_plane(plane)})
        plane.wait_ready()
        made = plane.write_kubeconfig("admin", plane.admin_pair, namespace="demo")
        write_private(self.layout.kubeconfig, made.read_bytes())
        return plane

    def plane(self, endpoint: Endpoint) -> ControlPlane:
        """The control plane, not started."""
        return ControlPlane(
            self.layout.control_plane,
            ports=Ports(),
            endpoint=endpoint,
            controller_manager=True,
            logs=self.layout.logs,
        )

    def kept_services(self, plane: ControlPlane) -> dict[str, services.Spec]:
        """On a second up novakube's processes go on while the control plane is checked."""
        if not (self.layout.services(CLOUD) / "operator.json").exists():
            return {}
        return {**services.control_plane(plane), **services.novakube(self.layout, self.api_url)}

    @property
    def api_url(self) -> str:
        """Of novakube-api, as the machine reaches it."""
        return f"https://{members.link_addresses(self.state)[1]}:{API_PORT}"

    def tell(self, member: str, wanted: dict[str, services.Spec]) -> None:
        """Hands a member its processes and wakes its supervisor."""
        services.write(self.layout, member, wanted)
        pid = members.alive(self.state, member)
        if pid is None:
            log = log_tail(self.layout.logs / f"{member}-supervisor.log")
            raise LocalCloudError(f"the supervisor of {member} is gone\n{log}")
        os.kill(pid, signal.SIGHUP)

    def install(self, plane: ControlPlane) -> None:
        """CRDs, accounts, rights and admission policies: the chart, without its workloads."""
        self.say("chart: CRDs, rights, admission policies")
        apply_chart(plane.kubeconfig, "workloads=false")
        admin = plane.admin()
        self._first_namespace(admin)
        for name in node_names(self.nodes):
            ensure_node(admin, name)
        credentials.bind_rights(admin)

    @staticmethod
    def _first_namespace(admin: KubeHttp) -> None:
        """``demo``, with the account whose tokens the kubectl plugin uses."""
        account = {"kind": "ServiceAccount", "name": "novakube-cli", "namespace": "demo"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
        meta = {"metadata": {"name": "novakube-cli"}}
        bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings"
        admin.ensure("/api/v1/namespaces", {"metadata": {"name": "demo"}})
        admin.ensure("/api/v1/namespaces/demo/serviceaccounts", meta)
        admin.ensure(bindings, {**meta, "roleRef": role, "subjects": [account]})

    def remove_nodes(self) -> None:
        """Fewer nodes than before: as if their power was cut."""
        wanted = {CLOUD, *node_names(self.nodes)}
        gone = [name for name in self.state.members if name not in wanted]
        members.stop(self.state, gone)
        for name in gone:
            del self.state.members[name]
        self.state.nodes, self.state.driver = self.nodes, self.driver
        self.layout.save(self.state)

    def start_nodes(self, plane: ControlPlane) -> None:
        """Each node's namespaces, network, libvirtd and agent."""
        pair = plane.identity(credentials.USER)
        wanted = services.credentials(
            self.layout, (str(pair.cert), str(pair.key)), self.nodes, self.token_life_s
        )
        write_json(self.layout.credentials / "config.json", wanted)
        for name in node_names(self.nodes):
            self.say(f"node {name}")
            members.start(self.layout, self.state, name)
            self.tell(name, services.node(self.layout, name, self.driver))

    def start_novakube(self, plane: ControlPlane) -> None:
        """Credentials, operator, API, image server."""
        self.say("operator and API")
        (self.layout.local / "operator").mkdir(exist_ok=True)
        self.layout.images.mkdir(exist_ok=True)
        wanted = services.novakube(self.layout, self.api_url)
        wanted["credentials"]["env"] = {"NOVAKUBE_LOCAL_NODES": str(self.nodes)}
        self.tell(CLOUD, {**services.control_plane(plane), **wanted})

    def wait_for_nodes(self, plane: ControlPlane) -> None:
        """Every node's Hypervisor says Ready."""
        admin = plane.admin()
        for name in node_names(self.nodes):
            path = f"/apis/novakube.dev/v1alpha1/hypervisors/{name}"
            logs = ["operator", "credentials", f"{name}-agent", f"{name}-libvirtd"]
            self.wait(f"hypervisor {name} Ready", admin, path, NODES_READY_S, logs)
        self.say(f"{self.nodes} nodes ready")

    def wait(
        self, what: str, admin: KubeHttp, path: str, deadline_s: float, logs: list[str]
    ) -> Json:
        """The object once its condition Ready is true."""
        found: Json | None = None

        def ready() -> bool:
            nonlocal found
            found = read(lambda: admin.get(path))
            return found is not None and condition(found, "Ready") == "True"

        self.until(ready, what, deadline_s, logs, lambda: explain(found))
        return found or {}

    def until(
        self,
        reached: Callable[[], bool],
        what: str,
        deadline_s: float,
        logs: list[str],
        explain: Callable[[], str] = lambda: "",
    ) -> None:
        """Returns once something is so.

        Raises:
            LocalCloudError: it is not within the deadline; with the ends of the logs.
        """
        give_up_at = time.monotonic() + deadline_s
        while not reached():
            if time.monotonic() > give_up_at:
                shown = [log_tail(self.layout.logs / f"{name}.log") for name in logs]
                told = "\n".join(["", explain(), *shown])
                raise LocalCloudError(f"{what}: not within {deadline_s:g} s{told}")
            time.sleep(POLL_S)

    def first_machine(self, plane: ControlPlane) -> None:
        """Boots one and waits for its own word on the console."""
        plane.kubectl("apply", "-f", str(FIRST_MACHINE))
        self.say("first machine")
        path = "/apis/novakube.dev/v1alpha1/namespaces/demo/instances/hello"
        made = self.wait(
            "instance demo/hello Running", plane.admin(), path, MACHINE_S, ["operator", "n1-agent"]
        )
        if self.driver == "libvirt":
            self.wait_console(str(made["status"]["guest"]), str(made["status"]["node"]))
        self.say("instance demo/hello is Running")

    def wait_console(self, guest: str, node: str) -> None:
        """The guest's own ready line in its console log."""
        name = guest.rpartition("/")[2]
        log = self.layout.node_dir(node) / "novakube" / "guests" / name / "console.log"
        give_up_at = time.monotonic() + MACHINE_S
        while time.monotonic() < give_up_at:
            if log.exists() and READY_TEXT in log.read_text(errors="replace"):
                return
            time.sleep(POLL_S)
        raise LocalCloudError(f"no {READY_TEXT!r} on its console\n{log_tail(log)}")


def read(get: Callable[[], T]) -> T | None:
    """An answer, or None while the server is not there."""
    try:
        return get()
    except (ApiError, OSError):
        return None


def condition(found: Json, wanted: str) -> str | None:
    """Status of one condition."""
    listed = found.get("status", {}).get("conditions", [])
    return next((one["status"] for one in listed if one["type"] == wanted), None)


def explain(found: Json | None) -> str:
    """An object's conditions, one a line."""
    if found is None:
        return "  it does not exist"
    listed = found.get("status", {}).get("conditions", [])
    lines = [
        f"  {one['type']}={one['status']} {one['reason']}: {one.get('message', '')}"
        for one in listed
    ]
    return "\n".join(lines) or "  it has no conditions yet"


def ensure_node(admin: KubeHttp, name: str) -> None:
    """The Node object that kubelet would make."""
    labels = {"novakube.dev/hypervisor": "true", "kubernetes.io/hostname": name}
    admin.ensure("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
