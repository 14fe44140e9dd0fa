"""A node's own view of the folders libvirt works in, in its mount namespace only."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

from novakube_local.layout import NODE_STATE

MOUNT_TIMEOUT_S = 10
KEPT = {
    "/var/lib/libvirt": "libvirt",
    "/var/log/libvirt": "log",
    "/etc/libvirt/qemu": "domains",
}
"""On disk in the node's folder; the rest lives in memory."""
KEPT_BY_KUBELET = {
    "/var/lib/containerd": "containerd",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/novakube": "novakube",
}
OVERLAID = ("/var/lib", "/var/log")
"""On a kubelet node: what its programs make here the machine never sees."""
MACHINE_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
)
"""Settings of the whole machine that kubelet wants otherwise; it gets copies."""
IN_MEMORY = ("/run", "/etc/libvirt", "/etc/systemd", "/var/cache/libvirt")
"""``/etc/systemd`` is hidden: no systemd runs in a node, so what the machine enabled is not."""
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
dynamic_ownership = 0
stdio_handler = "file"
"""
"""One QEMU host of several on one machine: no cgroups, namespaces or labels of their own."""
LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
"""


def mount_kubelet(node_dir: Path) -> None:
    """As `mount_private`, for a node whose processes are pods.

    Mounts made in a pod or by kubelet pass between the node and its pods, never to the machine:
    the node's mounts are a group of their own.

    Raises:
        subprocess.CalledProcessError: a mount failed.
    """
    for target in OVERLAID:
        layers = {"upperdir": node_dir / f"upper{target}", "workdir": node_dir / f"work{target}"}
        for folder in layers.values():
            folder.mkdir(parents=True, exist_ok=True)
        options = ",".join([f"lowerdir={target}", *(f"{k}={v}" for k, v in layers.items())])
        _mount("-t", "overlay", "-o", options, "novakube", target)
    mount_private(node_dir)
    for target, name in KEPT_BY_KUBELET.items():
        (node_dir / name).mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(node_dir / name), target)
    copies = Path("/run/settings")
    for name in MACHINE_SETTINGS:
        setting = Path("/proc/sys", name)
        copy = copies / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(setting.read_text())
        _bind_file(copy, setting)
    shutil.copytree(node_dir / "config" / "cni", "/run/cni/net.d")
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        # Kubernetes' own requirement: a pod reaches a Service whose pod is on the same bridge.
        bridged.write_text("1")
    subprocess.run(["mount", "--make-rshared", "/"], check=True, timeout=MOUNT_TIMEOUT_S)


def mount_private(node_dir: Path) -> None:
    """Mounts and fills the folders.

    Raises:
        subprocess.CalledProcessError: a mount failed.
    """
    for target in IN_MEMORY:
        _mount("-t", "tmpfs", "-o", "mode=0755", "novakube", target)
    for target, name in KEPT.items():
        source = node_dir / name
        source.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(source), target)
    state = node_dir / "novakube"
    state.mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(state), NODE_STATE)
    for folder in ("/run/lock", "/run/netns", "/run/libvirt"):
        Path(folder).mkdir(exist_ok=True)
    _own_sysfs()
    _own_boot()
    host_uuid = uuid.uuid5(uuid.NAMESPACE_URL, str(node_dir))
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    Path("/etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=host_uuid))


def _own_sysfs() -> None:
    """A /sys that shows the links of this network namespace; the cgroups stay as they are."""
    kept = "/run/cgroup"
    _mount("--rbind", "/sys/fs/cgroup", kept)
    _mount("-t", "sysfs", "sysfs", "/sys")
    _mount("--move", kept, "/sys/fs/cgroup")
    Path(kept).rmdir()


def _own_boot() -> None:
    """The node boots when it is started here, not when the machine did."""
    boot_id = Path("/run/boot_id")
    boot_id.write_text(f"{uuid.uuid4()}\n")
    _bind_file(boot_id, Path("/proc/sys/kernel/random/boot_id"))


def _bind_file(source: Path, target: Path) -> None:
    command = ["mount", "--bind", str(source), str(target)]
    subprocess.run(command, check=True, timeout=MOUNT_TIMEOUT_S)


def _mount(*arguments: str) -> None:
    Path(arguments[-1]).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments], check=True, timeout=MOUNT_TIMEOUT_S)
