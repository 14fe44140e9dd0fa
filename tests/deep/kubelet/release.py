"""The cluster of ``make cluster`` and the release of the chart in it, as tests use them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from novakube_kit.kube import Json
from novakube_local import binaries
from tests.deadlines import HELM_S, MACHINE_S
from tests.e2e.cloud import NODE, LocalCloud
from tests.integration.operator.cloud import condition
from tests.waiting import wait_until_sync

ROOT = Path(__file__).resolve().parents[3]
SYSTEM = "novakube-system"
WORKLOADS = {"novakube-operator": "deployments", "novakube-api": "deployments",
             "novakube-agent": "daemonsets"}  # fmt: skip
RELEASE = "novakube"


class Release(LocalCloud):
    """helm's release ``novakube`` in the kubelet cluster."""

    def helm(self, *argv: str) -> str:
        """Output of helm as the administrator."""
        done = self.helm_attempt(*argv)
        assert done.returncode == 0, f"helm {argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def helm_attempt(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """The same, whatever its outcome."""
        return subprocess.run(
            [str(binaries.require("helm")), "--namespace", SYSTEM, *argv],
            cwd=ROOT, capture_output=True, text=True, timeout=HELM_S, check=False,
            env={**os.environ, "KUBECONFIG": str(self.layout.kubeconfig),
                 "NO_PROXY": self.address, "no_proxy": self.address},
        )  # fmt: skip

    def pods(self) -> list[Json]:
        """Pods of the release that are not being ended."""
        found = self.admin.call("GET", f"/api/v1/namespaces/{SYSTEM}/pods")["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def component(self, name: str) -> Json:
        """The one pod of a component."""
        label = "app.kubernetes.io/component"
        found = [pod for pod in self.pods() if pod["metadata"]["labels"].get(label) == name]
        assert len(found) == 1, [pod["metadata"]["name"] for pod in found]
        return found[0]

    def rolled_out(self) -> bool:
        """Whether every workload has the pods it shall have, all new and Ready."""
        return all(self._complete(name, plural) for name, plural in WORKLOADS.items())

    def _complete(self, name: str, plural: str) -> bool:
        found = self.admin.call("GET", f"/apis/apps/v1/namespaces/{SYSTEM}/{plural}/{name}")
        told: dict[str, Any] = found.get("status", {})
        if told.get("observedGeneration") != found["metadata"]["generation"]:
            return False
        if plural == "daemonsets":
            wanted = told["desiredNumberScheduled"]
            names = ("numberReady", "updatedNumberScheduled")
        else:
            wanted = found["spec"]["replicas"]
            names = ("readyReplicas", "updatedReplicas", "replicas")
        return wanted > 0 and all(told.get(name, 0) == wanted for name in names)

    def ready(self) -> None:
        """Waits until all pods run and the node takes guests."""
        wait_until_sync(self.rolled_out, "pods Ready", MACHINE_S)
        wait_until_sync(self._takes_guests, f"hypervisor {NODE} Ready", MACHINE_S)

    def _takes_guests(self) -> bool:
        found = self.admin.get(f"/apis/novakube.dev/v1alpha1/hypervisors/{NODE}") or {}
        return condition(found, "Ready").get("status") == "True"

    def logs(self, component: str) -> list[Json]:
        """Records of a component's log so far."""
        name = self.component(component)["metadata"]["name"]
        lines = self.kubectl("logs", "-n", SYSTEM, name).splitlines()
        return [json.loads(line) for line in lines]

    def processes(self, program: str) -> list[int]:
        """The machine's pids of one of our programs in this clone's pods."""
        wanted, found = f"/opt/novakube/bin/{program}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                ours = self.layout.cgroup in (folder / "cgroup").read_text()
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if ours and wanted in words[1:2]:
                    found.append(int(folder.name))
        return found
