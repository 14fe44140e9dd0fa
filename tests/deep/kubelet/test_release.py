"""helm install, a guest, a new agent under it, a killed pod, the guest's end, helm uninstall: the
chart on a node with kubelet. In this order; each test goes on from the one before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from novakube_operator.smoke.disk import LINE
from novakube_operator.smoke.objects import NAME
from tests.deadlines import CLUSTER_S, MACHINE_S, STOP_S
from tests.deep.kubelet.release import RELEASE, ROOT, SYSTEM, Release
from tests.deep.kubelet.traffic import of_guests, unbroken
from tests.e2e.cloud import Json
from tests.waiting import wait_until_sync

EXAMPLE = str(ROOT / "examples" / "first-instance.yaml")
MIB = 1024 * 1024
PODS_MIB = 450
LOUD = ("warning", "error", "critical")
pytestmark = pytest.mark.timeout(CLUSTER_S)


def web(release: Release) -> Json:
    """The guest of the example, as the last test left it."""
    return release.running("web", "demo")


def qemu(release: Release) -> list[int]:
    return release.node.qemu(f"novakube-{web(release)['status']['guest'].rpartition('/')[2]}")


def capabilities(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {k: int(v, 16) for k, v in (line.split(":\t") for line in lines if "Cap" in line)}


def test_helm_installs_and_all_pods_get_ready(release: Release) -> None:
    release.helm("install", RELEASE, "charts/novakube", "--create-namespace")
    release.ready()
    assert {pod["spec"]["nodeName"] for pod in release.pods()} == {"n1"}


def test_an_instance_runs(release: Release) -> None:
    release.kubectl("apply", "-f", EXAMPLE)
    instance = web(release)
    release.booted(instance)
    assert instance["status"]["node"] == "n1"
    assert len(qemu(release)) == 1


def test_helm_test_boots_a_guest_and_leaves_nothing(release: Release) -> None:
    """Its pod serves the disk; the guest's one line comes back through API and agent."""
    pods, traces = release.pods(), release.node.traces()
    said = release.helm_attempt("test", RELEASE)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"on its console: {LINE}" in said.stdout + said.stderr
    assert {pod["metadata"]["uid"] for pod in release.pods()} == {
        pod["metadata"]["uid"] for pod in pods
    }
    assert release.get("instances", NAME, SYSTEM) is None
    assert release.node.traces() == traces
    accounts = release.kubectl("-n", SYSTEM, "get", "serviceaccounts,roles,rolebindings")
    assert "novakube-test" not in accounts


def test_the_agent_keeps_only_the_capabilities_it_names(release: Release) -> None:
    (pid,) = release.processes("novakube-agent")
    start = (ROOT / "images" / "agent" / "start.sh").read_text()
    kept = re.search(r"^kept=(.*)$", start, flags=re.MULTILINE)
    assert kept is not None
    held = capabilities(pid)
    assert held["CapBnd"] == held["CapEff"] != 0
    assert held["CapBnd"].bit_count() == len(kept[1].split(","))
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    for program in ("novakube-operator", "novakube-api"):
        (pid,) = release.processes(program)
        assert set(capabilities(pid).values()) == {0}


def test_a_new_agent_finds_the_guest_and_its_network_untouched(release: Release) -> None:
    """While the DaemonSet is rolled, the guest answers each ping and a TCP stream stays open."""
    running = qemu(release)
    old = release.component("agent")["metadata"]["uid"]
    with unbroken(release, web(release)):
        release.kubectl("-n", SYSTEM, "rollout", "restart", "daemonset/novakube-agent")
        release.ready()
        assert release.component("agent")["metadata"]["uid"] != old
    assert qemu(release) == running


def test_a_killed_agent_pod_comes_back_to_its_guest(release: Release) -> None:
    running = qemu(release)
    pod = release.component("agent")["metadata"]
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['name']}"
    release.admin.call("DELETE", f"{path}?gracePeriodSeconds=0")
    wait_until_sync(
        lambda: pod["uid"] not in {one["metadata"]["uid"] for one in release.pods()},
        "the agent's pod gone", STOP_S,
    )  # fmt: skip
    release.ready()
    assert qemu(release) == running
    patch = {"spec": {"powerState": "Stopped"}}
    path = "/apis/novakube.dev/v1alpha1/namespaces/demo/instances/web"
    release.admin.call("PATCH", path, patch, "application/merge-patch+json")
    release.until("instances", "web", "demo", MACHINE_S, state="Stopped")
    assert qemu_of_stopped(release) == []


def qemu_of_stopped(release: Release) -> list[int]:
    guest = release.read("web", "demo")["status"]["guest"].rpartition("/")[2]
    return release.node.qemu(f"novakube-{guest}")


def test_helm_uninstall_is_refused_while_an_instance_is_there(release: Release) -> None:
    before = {pod["metadata"]["uid"] for pod in release.pods()}
    done = release.helm_attempt("uninstall", RELEASE)
    assert done.returncode != 0
    said = release.kubectl("-n", SYSTEM, "logs", "job/novakube-uninstall-guard")
    assert "objects that only the operator lets go: " in said
    assert " 1 Guest, " in said
    assert " 1 Instance, " in said
    assert before <= {pod["metadata"]["uid"] for pod in release.pods()}
    release.kubectl("-n", SYSTEM, "delete", "job", "novakube-uninstall-guard")
    assert release.read("web", "demo")["status"]["state"] == "Stopped"


def test_the_guest_leaves_nothing_on_the_node(release: Release) -> None:
    release.kubectl("delete", "-f", EXAMPLE, "--timeout=60s")
    assert of_guests(release) == set()


def test_pods_were_not_restarted_and_are_small(release: Release) -> None:
    resident = 0
    for pod in release.pods():
        (told,) = pod["status"]["containerStatuses"]
        assert told["restartCount"] == 0, pod["metadata"]["name"]
    for component in ("operator", "api", "agent"):
        loud = [one for one in release.logs(component) if one["level"] in LOUD]
        assert loud == []
        for pid in release.processes(f"novakube-{component}"):
            status = Path(f"/proc/{pid}/status").read_text()
            found = re.search(r"^VmRSS:\s+(\d+) kB", status, flags=re.MULTILINE)
            assert found is not None
            resident += int(found[1]) * 1024
    assert 0 < resident <= PODS_MIB * MIB


def test_helm_uninstall_ends_the_pods(release: Release) -> None:
    release.helm("uninstall", RELEASE, "--wait")
    wait_until_sync(lambda: not release.pods(), "no pods", MACHINE_S)
