"""GitOps sees no drift, at any moment of an Instance's life."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import yaml

from novakube_kit.kube import Json
from novakube_local.kubehttp import ApiError
from tests.deadlines import MACHINE_S, STOP_S
from tests.e2e.cloud import LocalCloud
from tests.integration.operator.cloud import MERGE
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)
PACE_S = 0.1
"""Between two comparisons: the guest boots on the same cores."""
MOVES_BY_ITSELF = ("resourceVersion", "managedFields")
MANIFEST = """
apiVersion: novakube.dev/v1alpha1
kind: Instance
metadata: {{name: web, namespace: {0}, labels: {{team: blue}}}}
spec:
  flavor: {{name: e2e}}
  image: {{name: drift}}
  networks: [{{network: {{name: drift}}}}]
  powerState: Running
---
apiVersion: novakube.dev/v1alpha1
kind: Image
metadata: {{name: drift, namespace: {0}}}
spec:
  diskFormat: qcow2
  source: {{url: "http://192.0.2.10/novakube-guest.qcow2"}}
---
apiVersion: novakube.dev/v1alpha1
kind: Network
metadata: {{name: drift, namespace: {0}}}
spec: {{}}
---
apiVersion: novakube.dev/v1alpha1
kind: Subnet
metadata: {{name: drift-v4, namespace: {0}}}
spec: {{network: {{name: drift}}, cidr: 10.64.0.0/24}}
"""


class Watcher:
    """Compares without a pause what is there with what an apply would make of it.

    One thread asks the API server by dry run, at the very version it read; another runs
    ``kubectl diff`` itself.
    """

    def __init__(self, cloud: LocalCloud, namespace: str, file: Path) -> None:
        self._cloud = cloud
        self._namespace = namespace
        self._file = file
        self._manifests: list[Json] = list(yaml.safe_load_all(file.read_text()))
        self._end = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._dry_runs, self._diffs)]
        self.differences: list[str] = []
        self.seen: Counter[str] = Counter()
        """States of the Instance in which the dry run found nothing to change."""
        self.diffs = 0
        """Runs of ``kubectl diff`` that found nothing."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(STOP_S)
            assert not thread.is_alive()

    def until(self, state: str) -> None:
        """Waits until the Instance was compared in that state from now on."""
        count = self.seen[state]
        wait_until_sync(
            lambda: self.differences or self.seen[state] > count, f"compared in {state}", MACHINE_S
        )
        assert self.differences == []

    def _dry_runs(self) -> None:
        while not self._end.wait(PACE_S):
            for manifest in self._manifests:
                state = self._compare(manifest)
                if state and manifest["kind"] == "Instance":
                    self.seen[state] += 1

    def _compare(self, manifest: Json) -> str | None:
        """The state in which nothing would change; None: not there, or written meanwhile."""
        plural, name = f"{manifest['kind'].lower()}s", manifest["metadata"]["name"]
        live = self._cloud.get(plural, name, self._namespace)
        if live is None:
            return None
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        body = {**manifest, "metadata": {**manifest["metadata"], **version}}
        path = self._cloud.path(plural, name, self._namespace)
        try:
            merged = self._cloud.admin.call("PATCH", f"{path}?dryRun=All", body, MERGE)
        except ApiError as error:
            if error.code in (404, 409):
                return None
            self.differences.append(str(error))
            raise
        if still(live) != still(merged):
            self.differences.append(f"{live}\nwould become\n{merged}")
        return str(live.get("status", {}).get("state", "there"))

    def _diffs(self) -> None:
        while not self._end.wait(PACE_S):
            if self._cloud.get("instances", "web", self._namespace) is None:
                continue
            done = self._cloud.kubectl_attempt("diff", "-f", str(self._file))
            gone = self._cloud.get("instances", "web", self._namespace) is None
            if done.returncode == 0:
                self.diffs += 1
            elif not gone:
                self.differences.append(done.stdout + done.stderr)


def still(obj: Json) -> Json:
    """An object without what every write moves."""
    kept = {k: v for k, v in obj["metadata"].items() if k not in MOVES_BY_ITSELF}
    return {**obj, "metadata": kept}


def act(cloud: LocalCloud, namespace: str, action: str) -> None:
    spec = {"instance": {"name": "web"}, "action": action}
    cloud.make("InstanceAction", action.lower(), spec, namespace)


def test_no_difference_at_any_moment(cloud: LocalCloud, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(MANIFEST.format(namespace))
    agent = cloud.node.agent
    with Watcher(cloud, namespace, file) as watcher:
        with agent.stopped():
            with cloud.operator.stopped():
                cloud.kubectl("apply", "-f", str(file))
                watcher.until("Scheduling")
            watcher.until("Building")
        watcher.until("Running")
        cloud.booted(cloud.running("web", namespace))
        for action, meanwhile, then in (
            ("Pause", "Pausing", "Paused"), ("Unpause", "Unpausing", "Running"),
            ("Stop", "Stopping", "Stopped"), ("Start", "Starting", "Running"),
        ):  # fmt: skip
            with agent.stopped():
                act(cloud, namespace, action)
                watcher.until(meanwhile)
            watcher.until(then)
            cloud.until("instanceactions", action.lower(), namespace, MACHINE_S, state="Succeeded")
        with agent.stopped():
            cloud.kubectl("delete", "instance", "web", "-n", namespace, "--wait=false")
            watcher.until("Deleting")
        wait_until_sync(
            lambda: cloud.get("instances", "web", namespace) is None, "web gone", MACHINE_S
        )
    print(f"dry runs by state {dict(watcher.seen)}, kubectl diff {watcher.diffs} times")
    assert watcher.differences == []
    assert watcher.diffs > 0
