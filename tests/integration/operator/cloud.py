"""A whole control plane with one simulated node: the operator's and the agent's own processes,
each with its account's token and the chart's rights."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from novakube_kit.kube import Json
from novakube_local.controlplane import ControlPlane
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_operator.manage import main as manage
from tests.deadlines import EVENT_S, READY_S, STOP_S
from tests.integration.api.cloud import GROUP, SYSTEM
from tests.ports import free_port
from tests.waiting import wait_until_sync

NODE = "n1"
MAILBOX = f"novakube-node-{NODE}"
BUILD_FAILURES_MAX = 3
MERGE = "application/merge-patch+json"
SHA256 = "0" * 64
REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")


class Child:
    """One of our processes; its log is a file."""

    def __init__(self, module: str, env: dict[str, str], log: Path) -> None:
        self._module = module
        self.env = env
        self.http = f"http://{env['NOVAKUBE_HTTP']}"
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        """With further settings for this life of it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                env={**os.environ, **self.env, **env}, stdout=log, stderr=log,
            )  # fmt: skip

    def with_environment(self, **env: str) -> Child:
        """The same process with other settings; it writes into the same log."""
        return Child(self._module, self.env | env, self.log)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://{self.env['NOVAKUBE_HTTP']}/metrics") as answer:
            text = answer.read().decode()
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(float(v) for have, v in found if wanted <= set(have.split(",")))

    def check(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-4000:]

    def metrics(self) -> dict[str, float]:
        """The process's own /metrics: ``name{labels}`` -> value."""
        url = f"http://{self.env['NOVAKUBE_HTTP']}/metrics"
        with urllib.request.urlopen(url, timeout=STOP_S) as answer:
            text = answer.read().decode()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(STOP_S)


class Cloud:
    """What tests do with it: apply, wait, count."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.admin: KubeHttp = plane.admin()
        self.operator = Child(
            "novakube_operator.main",
            self._env(plane, directory, "operator")
            | {
                "NOVAKUBE_DATABASE_URL": f"sqlite:///{directory / 'operator.sqlite'}",
                "NOVAKUBE_BUILD_FAILURES_MAX": str(BUILD_FAILURES_MAX),
            },
            directory / "operator.log",
        )
        self.plane, self._directory = plane, directory
        self.more_agents: dict[str, Child] = {}
        self.agent = self._agent(NODE, directory, "agent")
        self.host_file = directory / "state" / "fake" / f"{NODE}.json"
        """What the simulated host has, whatever the API says; it outlives the agent."""

    def _agent(self, node: str, directory: Path, name: str, **env: str) -> Child:
        return Child(
            "novakube_agent.main",
            self._env(self.plane, directory, name, node)
            | {
                "NOVAKUBE_NODE": node,
                "NOVAKUBE_DRIVER": "fake",
                "NOVAKUBE_STATE_DIR": str(directory / "state"),
                "NOVAKUBE_AGENT_LISTEN": "127.0.0.1:0",
                "NOVAKUBE_FAKE": json.dumps({"persist": True}),
            }
            | env,
            directory / f"{name}.log",
        )

    def add_node(self, node: str, **env: str) -> None:
        """One more node with an agent of its own; ``env``: settings of the agent."""
        label = {"novakube.dev/hypervisor": "true"}
        body = {"metadata": {"name": node, "labels": label}}
        self.admin.call("POST", "/api/v1/nodes", body)
        directory = self._directory / node
        directory.mkdir()
        self.more_agents[node] = self._agent(node, directory, "agent", **env)
        self.more_agents[node].start()

    def retire_node(self, node: str) -> None:
        """Ends its agent; other tests place nothing there."""
        self.patch("hypervisors", node, {"spec": {"enabled": False}})
        self.more_agents.pop(node).end(signal.SIGKILL)

    @staticmethod
    def _env(
        plane: ControlPlane, directory: Path, part: str, node: str | None = None
    ) -> dict[str, str]:
        token = directory / f"{part}.token"
        token.write_text(plane.token(SYSTEM, f"novakube-{part}", node))
        return {
            "NOVAKUBE_API_SERVER": plane.server,
            "NOVAKUBE_CA_FILE": str(plane.ca_file),
            "NOVAKUBE_TOKEN_FILE": str(token),
            "NOVAKUBE_HTTP": f"127.0.0.1:{free_port()}",
        }

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints, as an administrator."""
        return self.plane.kubectl(*arguments, stdin=stdin)

    def manage(self, *args: str) -> None:
        """``novakube-manage`` as the cluster's administrator."""
        env = {"NOVAKUBE_API_SERVER": "", "KUBECONFIG": str(self.plane.kubeconfig)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            manage(args)

    def path(self, plural: str, name: str = "", namespace: str | None = "") -> str:
        where = f"{GROUP}/namespaces/{namespace}" if namespace else GROUP
        return f"{where}/{plural}" + (f"/{name}" if name else "")

    def make(self, kind: str, name: str, spec: Json, namespace: str = "") -> Json:
        body = {
            "apiVersion": "novakube.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return self.admin.call("POST", self.path(f"{kind.lower()}s", "", namespace), body)

    def list(self, plural: str, namespace: str = "") -> list[Json]:
        items: list[Json] = self.admin.call("GET", self.path(plural, "", namespace))["items"]
        return items

    def get(self, plural: str, name: str, namespace: str = "") -> Json | None:
        try:
            return self.admin.call("GET", self.path(plural, name, namespace))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def patch(self, plural: str, name: str, body: Json, namespace: str = "") -> Json:
        return self.admin.call("PATCH", self.path(plural, name, namespace), body, MERGE)

    def delete(self, plural: str, name: str, namespace: str = "") -> None:
        self.admin.call("DELETE", self.path(plural, name, namespace))

    def until(
        self, plural: str, name: str, namespace: str, deadline_s: float = EVENT_S, **status: Any
    ) -> Json:
        """The object once its status has these values."""
        seen: list[Json | None] = [None]

        def reached() -> Json | None:
            self.operator.check()
            self.agent.check()
            seen[0] = found = self.get(plural, name, namespace)
            have = (found or {}).get("status", {})
            return found if all(have.get(k) == v for k, v in status.items()) else None

        try:
            found = wait_until_sync(reached, f"{plural} {name} {status}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {(seen[0] or {}).get('status')}") from error
        assert found is not None
        return found

    def gone(self, plural: str, name: str, namespace: str) -> None:
        wait_until_sync(
            lambda: self.get(plural, name, namespace) is None, f"{plural} {name} gone", EVENT_S
        )

    def message(self, name: str, namespace: str, state: str, has: str) -> str:
        """The Ready condition's message once the Instance is in that state for that cause."""

        def said() -> str | None:
            found = self.get("instances", name, namespace) or {}
            status = found.get("status", {})
            text = condition(found, "Ready").get("message", "")
            return text if status.get("state") == state and has in text else None

        try:
            text = wait_until_sync(said, f"{name} {state}: {has}", EVENT_S)
        except AssertionError as error:
            found = self.get("instances", name, namespace) or {}
            raise AssertionError(f"{error}; it is {found.get('status')}") from error
        assert text is not None
        return text

    def writes(self) -> Counter[str]:
        """Mutating requests so far by ``VERB resource/subresource``, answered 2xx."""
        text = self.admin.call("GET", "/metrics")["text"]
        counted: Counter[str] = Counter()
        for labels, value in REQUESTS.findall(text):
            of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if of["verb"] in WRITES and of["code"].startswith("2"):
                name = f"{of['verb']} {of['resource']}/{of['subresource']}".rstrip("/")
                counted[name] += int(float(value))
        return counted

    def until_ready(self, plural: str, name: str, namespace: str) -> None:
        """Waits for the object's Ready condition."""
        wait_until_sync(
            lambda: (
                condition(self.get(plural, name, namespace) or {}, "Ready").get("status") == "True"
            ),
            f"{plural} {name} Ready",
            EVENT_S,
        )

    def until_schedulable(self, node: str = NODE) -> None:
        def schedulable() -> bool:
            self.operator.check()
            found = self.get("hypervisors", node)
            return condition(found or {}, "Schedulable").get("status") == "True"

        try:
            wait_until_sync(schedulable, f"{node} schedulable", READY_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.get('hypervisors', node)}") from error


def condition(obj: Json, type: str) -> Json:
    """The condition of that type, empty when it is not there."""
    conditions: list[Json] = obj.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == type), {})
