"""`novakube-local cluster`: a Kubernetes cluster with kubelets, ready for `helm install`."""

from __future__ import annotations

from pathlib import Path

from novakube_local import binaries, kubelet, members, services
from novakube_local.clusterplane import (
    SERVICE_ADDRESS,
    SERVICE_NAMES,
    ClusterPlane,
    bind_kubelet_client,
)
from novakube_local.controlplane import Endpoint, Ports
from novakube_local.errors import LocalCloudError
from novakube_local.images import Image, Images
from novakube_local.layout import API_SERVER_ADDRESS, CLOUD, Layout, node_names
from novakube_local.up import Up, read

NEEDED = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "iptables")
NODE_READY_S = 120.0
SOCKET_S = 30.0
IMPORT_S = 300.0


class ClusterUp(Up):
    """One run of cluster."""

    kubelets = True

    def __init__(self, layout: Layout, nodes: int) -> None:
        super().__init__(layout, nodes, "libvirt", token_life_s=600)

    def run(self) -> None:
        """Brings the cluster up; nothing of novakube is installed in it.

        Raises:
            LocalCloudError: what is missing or did not get ready, with the logs that show it.
        """
        self.check_machine()
        self.state = self.layout.load()
        self.need_no_other()
        for name in (*binaries.PROGRAMS, *binaries.CLUSTER_PROGRAMS):
            binaries.require(name, self.say)
        self.build_image()
        images = Images(self.layout, self.say).build()
        plane = self.control_plane()
        self.remove_nodes()
        for name in node_names(self.nodes):
            self.start_kubelet(plane, name, images)
        self.give_storage(plane)
        self.say("the cluster is up")

    def check_machine(self) -> None:
        """As of the local cloud, and what runs pods."""
        super().check_machine()
        self.need(NEEDED, "scripts/bootstrap.sh cluster")
        if not Path(kubelet.CNI_PLUGINS, "bridge").exists():
            raise LocalCloudError(
                f"no {kubelet.CNI_PLUGINS}/bridge: scripts/bootstrap.sh cluster installs it"
            )

    def plane(self, endpoint: Endpoint) -> ClusterPlane:
        """One with all controllers and a scheduler."""
        names = (*endpoint.other_names, SERVICE_ADDRESS, *SERVICE_NAMES)
        return ClusterPlane(
            self.layout.control_plane,
            ports=Ports(),
            endpoint=Endpoint(endpoint.bind, endpoint.address, names),
            controller_manager=True,
            logs=self.layout.logs,
        )

    def control_plane(self) -> ClusterPlane:
        """As of the local cloud; its image server too."""
        plane = super().control_plane()
        if not isinstance(plane, ClusterPlane):
            raise TypeError("the plane of a cluster is a ClusterPlane")
        self.tell(CLOUD, {**services.control_plane(plane), **services.image_server(self.layout)})
        bind_kubelet_client(plane.admin())
        return plane

    def start_kubelet(self, plane: ClusterPlane, name: str, images: list[Image]) -> None:
        """A node's processes, its images, and its Node Ready."""
        self.say(f"node {name}")
        kubelet.make_cgroups(self.layout)
        kubelet.write_configuration(self.layout, name, plane.ca_file, plane.proxy_kubeconfig())
        pid = members.start(self.layout, self.state, name)
        members.run("nsenter", f"--target={pid}", "--net", "ip", "route", "replace", "default",
                    "via", API_SERVER_ADDRESS)  # fmt: skip
        self.tell(name, kubelet.node_services(self.layout, name, plane))
        self.import_images(pid, name, images)
        self.wait_for_node(plane, name)

    def import_images(self, pid: int, name: str, images: list[Image]) -> None:
        """Into the node's containerd: it reaches no registry."""
        self.until(lambda: Path(f"/proc/{pid}/root{kubelet.CONTAINERD_SOCKET}").exists(),
                   f"containerd of {name}", SOCKET_S, [f"{name}-containerd"])  # fmt: skip
        enter = ["nsenter", f"--target={pid}", "--mount", "--net"]
        ctr = ["ctr", f"--address={kubelet.CONTAINERD_SOCKET}", "--namespace=k8s.io", "images"]
        for image in images:
            self.say(f"import {image.reference}")
            members.run(*enter, *ctr, "import", str(image.archive), deadline_s=IMPORT_S)

    def wait_for_node(self, plane: ClusterPlane, name: str) -> None:
        """Its Node object says Ready."""
        admin = plane.admin()
        path = f"/api/v1/nodes/{name}"
        logs = [f"{name}-kubelet", f"{name}-containerd"]
        self.until(
            lambda: kubelet.node_ready(read(lambda: admin.get(path))),
            f"node {name} Ready", NODE_READY_S, logs,
        )  # fmt: skip

    def give_storage(self, plane: ClusterPlane) -> None:
        """One volume on the first node: no provisioner runs here, and the chart asks for one."""
        if not self.nodes:
            return
        name = node_names(1)[0]
        folder = self.layout.node_dir(name) / "novakube" / "volume"
        folder.mkdir(parents=True, exist_ok=True)
        where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
        term = {"nodeSelectorTerms": [{"matchExpressions": [where]}]}
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": "/var/lib/novakube/volume"},
            "nodeAffinity": {"required": term},
        }
        plane.admin().ensure(
            "/api/v1/persistentvolumes", {"metadata": {"name": "volume"}, "spec": spec}
        )
