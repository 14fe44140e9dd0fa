"""The local cloud of this clone as tests use it: its API, its processes, its node from inside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from novakube_kit.kube import Json
from novakube_local import binaries, members
from novakube_local.controlplane import ControlPlane, Endpoint, Ports
from novakube_local.layout import API_SERVER_ADDRESS, CLOUD, Layout, write_json
from novakube_local.show import host_pid
from tests.deadlines import EVENT_S, MACHINE_S, READY_S
from tests.integration.operator.cloud import Cloud, condition
from tests.waiting import wait_until_sync

ROOT = Path(__file__).resolve().parents[2]
NODE = "n1"
COMMAND_S = 60.0


def make(*targets: str, deadline_s: float = 900.0) -> str:
    """Runs make as a newcomer would; its output shows when it fails."""
    run = subprocess.run(
        ["make", *targets], cwd=ROOT, capture_output=True, text=True,
        timeout=deadline_s, check=False,
    )  # fmt: skip
    assert run.returncode == 0, f"make {targets}:\n{run.stdout[-6000:]}\n{run.stderr[-3000:]}"
    return run.stdout


class Service:
    """A process of the local cloud, which its member's supervisor starts again when it ends."""

    def __init__(self, layout: Layout, member: str, name: str) -> None:
        self._layout = layout
        self._member = member
        self._name = name

    def supervisor(self) -> int:
        """The machine's pid of the member's first process."""
        pid = members.alive(self._layout.load(), self._member)
        assert pid is not None, f"the supervisor of {self._member} is gone"
        return pid

    def told(self) -> Json:
        """What the supervisor says of it."""
        told: Json = json.loads(self._layout.status_file(self._member).read_text())
        return dict(told.get(self._name, {}))

    def pid_now(self) -> int | None:
        """The machine's pid; None while it does not run."""
        inner = self.told().get("pid")
        return host_pid(self.supervisor(), inner) if inner else None

    def pid(self) -> int:
        """The machine's pid, once it runs."""
        what = f"{self._member} {self._name} runs"
        return wait_until_sync(self.pid_now, what, READY_S) or 0

    def check(self) -> None:
        """Nothing to do: it may be dead at any moment, and comes back."""

    def signal(self, how: signal.Signals) -> int:
        """Sends a signal to it; its pid."""
        pid = self.pid()
        os.kill(pid, how)
        return pid

    def kill(self) -> None:
        """Ends it without a word; returns once that process is gone."""
        pid = self.signal(signal.SIGKILL)
        wait_until_sync(lambda: members.start_time(pid) is None, f"{self._name} dead", EVENT_S)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It makes no step meanwhile."""
        pid = self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def log(self) -> str:
        """Its log so far."""
        name = self._name if self._member == CLOUD else f"{self._member}-{self._name}"
        return (self._layout.logs / f"{name}.log").read_text(errors="replace")

    @contextlib.contextmanager
    def settings(self, **env: str) -> Iterator[None]:
        """It runs with other settings meanwhile."""
        path = self._layout.services(self._member) / f"{self._name}.json"
        before: Json = json.loads(path.read_text())
        self._restart(path, {**before, "env": {**before["env"], **env}})
        try:
            yield
        finally:
            self._restart(path, before)

    def _restart(self, path: Path, spec: Json) -> None:
        old = self.pid()
        write_json(path, spec)
        os.kill(self.supervisor(), signal.SIGHUP)
        wait_until_sync(
            lambda: self.pid_now() not in (None, old), f"{self._name} with new settings", READY_S
        )


class Node:
    """A node of the cloud, seen from inside."""

    def __init__(self, layout: Layout, name: str) -> None:
        self.name = name
        self.state_dir = layout.node_dir(name) / "novakube"
        self.agent = Service(layout, name, "agent")
        self.libvirtd = Service(layout, name, "libvirtd")

    def run(self, *argv: str) -> str:
        """Output of a command in the node's mounts and network."""
        done = self.attempt(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """The same, whatever its outcome."""
        enter = ["nsenter", f"--target={self.agent.supervisor()}", "--mount", "--net"]
        return subprocess.run(
            [*enter, *argv], capture_output=True, text=True, timeout=COMMAND_S, check=False
        )

    def virsh(self, *argv: str) -> str:
        """Output of virsh against the node's libvirtd."""
        return self.run("virsh", "--connect", "qemu:///system", *argv).strip()

    def domains(self) -> list[str]:
        """Names of all domains, running or not."""
        return sorted(self.virsh("list", "--all", "--name").split())

    def qemu(self, domain: str) -> list[int]:
        """The machine's pids of QEMU processes of a domain, whose name holds a UID."""
        mark, found = f"guest={domain},".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found

    def console(self, guest: str) -> str:
        """A guest's console log so far."""
        log = self.state_dir / "guests" / guest / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def metric(self, name: str) -> float:
        """A figure without labels of the node's agent."""
        text = self.run("curl", "-sf", "http://127.0.0.1:8082/metrics")
        found = [line.split()[1] for line in text.splitlines() if line.split()[0] == name]
        assert found, f"the agent of {self.name} has no metric {name}"
        return float(found[0])

    def traces(self) -> set[str]:
        """Everything that a Guest may leave behind."""
        links = json.loads(self.run("ip", "-json", "link", "show"))
        found = {f"domain {name}" for name in self.domains()}
        found |= {f"link {link['ifname']}" for link in links if link["ifname"].startswith("nk")}
        found |= {f"netns {line}" for line in self.run("ls", "/run/netns").split()}
        for folder in ("guests", "journal", "networks"):
            found |= {f"{folder}/{path.name}" for path in (self.state_dir / folder).glob("*")}
        return found


class LocalCloud(Cloud):
    """The cloud that ``make up`` made."""

    def __init__(self) -> None:
        self.layout = Layout()
        self.address = members.link_addresses(self.layout.load())[1]
        self.plane = ControlPlane(
            self.layout.control_plane,
            ports=Ports(),
            endpoint=Endpoint("0.0.0.0", self.address, (API_SERVER_ADDRESS,)),
            controller_manager=True,
            logs=self.layout.logs,
        )
        self.admin = self.plane.admin()
        self.node = Node(self.layout, NODE)
        self.operator = Service(self.layout, CLOUD, "operator")  # type: ignore[assignment]
        self.agent = self.node.agent  # type: ignore[assignment]
        self.api = Service(self.layout, CLOUD, "api")
        self.credentials = Service(self.layout, CLOUD, "credentials")

    def kubectl(self, *argv: str, stdin: str | None = None) -> str:
        """Output of kubectl as the administrator."""
        done = self.kubectl_attempt(*argv, stdin=stdin)
        assert done.returncode == 0, f"kubectl {argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def kubectl_attempt(
        self, *argv: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same, whatever its outcome."""
        kubectl = [str(binaries.require("kubectl")), f"--kubeconfig={self.layout.kubeconfig}"]
        return subprocess.run(
            [*kubectl, *argv], input=stdin, capture_output=True, text=True, timeout=COMMAND_S,
            env={**os.environ, "NO_PROXY": self.address, "no_proxy": self.address}, check=False,
        )  # fmt: skip

    def console_log(self, name: str, namespace: str) -> str:
        """What ``kubectl novakube console-log`` prints: through the API and the node's agent."""
        plugin = [sys.executable, str(ROOT / "api" / "plugin" / "kubectl-novakube")]
        kubectl = str(binaries.require("kubectl").parent)
        done = subprocess.run(
            [*plugin, "console-log", name, "-n", namespace],
            capture_output=True, text=True, timeout=COMMAND_S, check=False,
            env={**os.environ, "KUBECONFIG": str(self.layout.kubeconfig),
                 "PATH": f"{kubectl}:{os.environ['PATH']}",
                 "NO_PROXY": self.address, "no_proxy": self.address},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def read(self, name: str, namespace: str) -> Json:
        """What ``kubectl get instance -o json`` prints; empty when it is not there."""
        text = self.kubectl(
            "get", "instance", name, "-n", namespace, "-o", "json", "--ignore-not-found"
        )
        return json.loads(text) if text else {}

    def said(
        self, name: str, namespace: str, state: str, reason: str, *words: str,
        deadline_s: float = MACHINE_S, kind: str = "Ready",
    ) -> Json:  # fmt: skip
        """The Instance once a user reads that state with that reason and those words."""

        def reached() -> Json | None:
            found = self.get("instances", name, namespace) or {}
            told = condition(found, kind)
            fits = found.get("status", {}).get("state") == state and told.get("reason") == reason
            return found if fits and all(word in told["message"] for word in words) else None

        try:
            wait_until_sync(reached, f"{name}: {state}, {reason}, {words}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.read(name, namespace)}") from error
        return self.read(name, namespace)

    def running(self, name: str, namespace: str, **status: Any) -> Json:
        """The Instance once it runs, and its guest said so on its console."""
        found = self.until(
            "instances", name, namespace, MACHINE_S, state="Running", powerState="Running",
            **status,
        )  # fmt: skip
        assert condition(found, "Ready")["status"] == "True"
        return found

    def booted(self, instance: Json, times: int = 1) -> None:
        """Waits until the guest's console said ready so many times."""
        guest = instance["status"]["guest"]
        ready = f"novakube-guest ready {instance['metadata']['name']} "
        wait_until_sync(
            lambda: self.node.console(guest).count(ready) >= times,
            f"boot {times} of {guest}", MACHINE_S,
        )  # fmt: skip

    def leased(self, name: str, namespace: str) -> Json:
        """The first DHCP lease in the status of an Instance's Guest, once it is there."""

        def leases() -> list[Json]:
            return [
                lease for guest in self.guests_of(name, namespace)
                for lease in guest.get("status", {}).get("leases", [])
            ]  # fmt: skip

        return wait_until_sync(leases, f"a lease of {name}", MACHINE_S)[0]

    def guests_of(self, name: str, namespace: str) -> list[Json]:
        """The Guests of an Instance, on whichever node."""
        return [
            guest for guest in self.list("guests")
            if (guest["spec"]["instance"]["namespace"], guest["spec"]["instance"]["name"])
            == (namespace, name)
        ]  # fmt: skip

    def empty(self, namespace: str) -> None:
        """Deletes the namespace's Instances; waits until they are gone."""
        for instance in self.list("instances", namespace):
            if not instance["metadata"].get("deletionTimestamp"):
                self.delete("instances", instance["metadata"]["name"], namespace)
        wait_until_sync(
            lambda: not self.list("instances", namespace), f"{namespace} empty", MACHINE_S
        )
