"""A node as kubelet has it: containerd, kubelet, kube-proxy and the bridge CNI, all private.

Everything they write lies in the node's own mounts (see `node_mounts`), its pods in one control
group of the clone; so they end with the node's first process, and `remove_cgroups` does the rest.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import yaml

from novakube_local import binaries
from novakube_local.clusterplane import ClusterPlane
from novakube_local.errors import LocalCloudError
from novakube_local.layout import Layout, node_address, write_json
from novakube_local.services import Spec

PAUSE_IMAGE = "docker.io/novakube/pause:local"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_CONFIG = "/run/cni/net.d"
CNI_PLUGINS = "/usr/lib/cni"
CGROUPS = Path("/sys/fs/cgroup")
REMOVE_S = 20.0
POLL_S = 0.1
HYPERVISOR = "novakube.dev/hypervisor=true"


def configuration(layout: Layout, node: str) -> Path:
    """Folder of a node's configuration files."""
    return layout.node_dir(node) / "config"


def write_configuration(layout: Layout, node: str, ca_file: Path, proxy: Path) -> None:
    """The files that the node's processes read.

    Args:
        layout: of the clone.
        node: its name.
        ca_file: whom kubelet trusts as its clients.
        proxy: kubeconfig of kube-proxy.
    """
    folder = configuration(layout, node)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "containerd.toml").write_text(_CONTAINERD)
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout, ca_file)))
    (folder / "kube-proxy.yaml").write_text(yaml.safe_dump(_kube_proxy(node, proxy)))
    write_json(folder / "cni" / "10-pods.conflist", _cni(node))


_CONTAINERD = f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Without CAP_SYS_RESOURCE no score may be lowered; every sandbox would fail.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{CNI_CONFIG}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(layout: Layout, ca_file: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca_file)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # Images come by import alone: what is thrown away cannot be had again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "staticPodPath": "",
        # Its default takes seconds off the start of every pod on a busy machine.
        "registryPullQPS": 0,
        "kubeAPIQPS": 50,
        "kubeAPIBurst": 100,
        "syncFrequency": "30s",
    }


def _kube_proxy(node: str, kubeconfig: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node,
        "bindAddress": node_address(node),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": "10.244.0.0/16",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "oomScoreAdj": 0,
        # The machine's limits are not the node's to set.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _cni(node: str) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": f"10.244.{int(node[1:])}.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni/networks",
        },
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def node_services(layout: Layout, node: str, plane: ClusterPlane) -> dict[str, Spec]:
    """What runs on the node: libvirtd beside the pods, as a site has it."""
    folder = configuration(layout, node)
    kubelet = {
        "config": str(folder / "kubelet.yaml"),
        "kubeconfig": str(plane.kubelet_kubeconfig(node)),
        "hostname-override": node,
        "node-ip": node_address(node),
        "node-labels": HYPERVISOR,
        "root-dir": "/var/lib/kubelet",
    }
    options = [f"--{name}={value}" for name, value in kubelet.items()]
    proxy = f"--config={folder / 'kube-proxy.yaml'}"
    return {
        "libvirtd": {"argv": ["libvirtd"]},
        "containerd": {"argv": ["containerd", f"--config={folder / 'containerd.toml'}"]},
        "kube-proxy": {"argv": [str(binaries.require("kube-proxy")), proxy]},
        "kubelet": {
            "argv": [str(binaries.require("kubelet")), *options],
            "needs": [CONTAINERD_SOCKET],
        },
    }


# -- control groups ------------------------------------------------------------------------


def _hierarchies() -> list[Path]:
    """Roots of the machine's control groups: one, or one for each controller of version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    if not CGROUPS.is_dir():
        return []
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def make_cgroups(layout: Layout) -> None:
    """The group that kubelet puts its pods' groups into; it does not make that itself."""
    for root in _hierarchies():
        group = root / layout.cgroup
        group.mkdir(exist_ok=True)
        wanted = group / "cgroup.subtree_control"
        offered = group / "cgroup.controllers"
        if wanted.exists() and offered.exists():
            wanted.write_text(" ".join(f"+{name}" for name in offered.read_text().split()))


def remove_cgroups(layout: Layout) -> None:
    """The group and those below; their processes are ended already.

    Raises:
        LocalCloudError: one is still in use after the deadline.
    """
    give_up_at = time.monotonic() + REMOVE_S
    groups = [root / layout.cgroup for root in _hierarchies() if (root / layout.cgroup).exists()]
    while left := [group for group in groups if not _removed(group)]:
        if time.monotonic() > give_up_at:
            raise LocalCloudError(f"the control groups {left} cannot be removed")
        time.sleep(POLL_S)


def _removed(group: Path) -> bool:
    """Whether the group is gone; removes what is empty, innermost first."""
    below = [path for path in group.rglob("*") if path.is_dir()]
    for path in [*reversed(below), group]:
        with contextlib.suppress(OSError):  # in use until its last process is collected
            path.rmdir()
    return not group.exists()


def node_ready(node: dict[str, Any] | None) -> bool:
    """Whether a Node object says Ready."""
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def describe(node: dict[str, Any] | None) -> str:
    """A Node's conditions, for a message."""
    return json.dumps((node or {}).get("status", {}).get("conditions", []), indent=1)
