"""Pure parts of a cluster with kubelets: what its nodes are told, and what of it is cleaned up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from novakube_local import kubelet
from novakube_local.cluster import ClusterUp
from novakube_local.errors import LocalCloudError
from novakube_local.layout import Layout, State
from novakube_local.node_mounts import MACHINE_SETTINGS
from novakube_local.up import Up

CONTROLLERS = ("cpu", "memory")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of version 1, as folders."""
    for name in CONTROLLERS:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(kubelet, "CGROUPS", tmp_path)
    return tmp_path


def test_control_groups_of_the_clone_go_and_others_stay(groups: Path) -> None:
    layout = Layout(Path("/clone"))
    kubelet.make_cgroups(layout)
    for name in CONTROLLERS:
        (groups / name / layout.cgroup / "kubepods" / "burstable" / "pod1").mkdir(parents=True)
        (groups / name / "novakube-other").mkdir()
    kubelet.remove_cgroups(layout)
    assert sorted(path.name for path in groups.rglob("*")) == sorted(
        [*CONTROLLERS, *("novakube-other" for _ in CONTROLLERS)]
    )
    kubelet.remove_cgroups(layout)


def test_a_control_group_in_use_is_named(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "REMOVE_S", 0.0)
    layout = Layout(Path("/clone"))
    busy = groups / "cpu" / layout.cgroup
    (busy / "kubepods").mkdir(parents=True)
    (busy / "kubepods" / "a process").touch()
    with pytest.raises(LocalCloudError, match=f"cpu/{layout.cgroup}.*cannot be removed"):
        kubelet.remove_cgroups(layout)


def test_controllers_are_handed_on_where_there_is_one_hierarchy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2: a group's controllers are for its children only once it says so."""
    monkeypatch.setattr(kubelet, "CGROUPS", tmp_path)
    layout = Layout(Path("/clone"))
    (tmp_path / "cgroup.controllers").touch()
    group = tmp_path / layout.cgroup
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    (group / "cgroup.subtree_control").touch()
    kubelet.make_cgroups(layout)
    assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_nodes_differ_where_they_must(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    found = []
    for node in ("n1", "n2"):
        kubelet.write_configuration(layout, node, Path("/ca.crt"), Path("/proxy"))
        folder = kubelet.configuration(layout, node)
        told = yaml.safe_load((folder / "kubelet.yaml").read_text())
        proxy = yaml.safe_load((folder / "kube-proxy.yaml").read_text())
        (plugin,) = json.loads((folder / "cni" / "10-pods.conflist").read_text())["plugins"]
        assert told["cgroupRoot"] == f"/{layout.cgroup}"
        assert told["authentication"]["anonymous"] == {"enabled": False}
        assert proxy["hostnameOverride"] == node
        found.append((plugin["ipam"]["ranges"][0][0]["subnet"], proxy["bindAddress"]))
    assert found == [("10.244.1.0/24", "192.0.2.11"), ("10.244.2.0/24", "192.0.2.12")]


def test_settings_of_the_whole_machine_are_there_to_be_copied() -> None:
    assert all(Path("/proc/sys", name).is_file() for name in MACHINE_SETTINGS)


@pytest.mark.parametrize(
    ("up", "kubelets", "runs"),
    [
        (Up(Layout(Path("/c")), 1, "libvirt", 600), True, "make cluster"),
        (ClusterUp(Layout(Path("/c")), 1), False, "make up"),
    ],
    ids=["up beside a cluster", "cluster beside an up"],
)
def test_one_kind_of_nodes_at_a_time(up: Up, kubelets: bool, runs: str) -> None:
    up.state = State(members={"cloud": [1, 1]}, kubelets=kubelets)
    with pytest.raises(LocalCloudError, match=f"what {runs} made runs here"):
        up.need_no_other()
    up.state = State(members={"cloud": [1, 1]}, kubelets=not kubelets)
    up.need_no_other()
