"""A control plane of its own for a benchmark: etcd on disk, API server, operators, agents.

Every process is the one that runs in a cluster, with its own account's token and the chart's
rights; the simulated nodes differ in the agent's driver only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measures import Usage, parse, usage
from novakube_local.chart import apply_chart
from novakube_local.controlplane import ControlPlane, free_ports
from novakube_local.kubehttp import KubeHttp
from novakube_local.layout import Layout
from novakube_local.services import SYSTEM
from novakube_local.up import condition, ensure_node, read

TOKEN_LIFE_S = 24 * 3600
NODE = "sim"
READY_S = 180.0
STOP_S = 30.0
POLL_S = 0.2
ROOMY = {"vcpus": 4096, "memory_mib": 1 << 24, "disk_gib": 1 << 20}
"""Of a simulated node: the benchmark is not about room."""
GROUP = "/apis/novakube.dev/v1alpha1"


class Process:
    """One of ours, logging to a file; it dies with this process."""

    def __init__(self, module: str, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.http = env["NOVAKUBE_HTTP"]
        self._module = module
        self._env = dict(env)
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it."""
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", self._module],
                env={**os.environ, **self._env}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._running is not None
        return self._running.pid

    def check(self) -> None:
        """Raises when it has ended."""
        if self._running is not None and self._running.poll() is not None:
            raise RuntimeError(f"{self._module} ended:\n{self.log.read_text()[-4000:]}")

    def metrics(self) -> str:
        """Its own /metrics."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def leads(self) -> bool:
        """Whether this operator holds the Lease."""
        return any(
            name == "novakube_leader" and value == 1 for name, _, value in parse(self.metrics())
        )

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it and waits."""
        if self._running is None:
            return
        if self._running.poll() is None:
            self._running.send_signal(how)
            try:
                self._running.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait(STOP_S)
        self._running = None


class Plane:
    """The cloud of a benchmark, for a ``with`` block."""

    def __init__(self, nodes: int) -> None:
        """Args: nodes: simulated ones, all in one agent process."""
        self.nodes = [NODE] if nodes == 1 else [f"{NODE}-{n}" for n in range(nodes)]
        # On disk, beside the clone: a temporary folder may be memory, where fsync costs nothing.
        base = Layout().local / "bench"
        base.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=base))
        self.control = ControlPlane(self.directory / "plane", controller_manager=True)
        self.operators: list[Process] = []
        self.agent: Process | None = None

    @property
    def admin(self) -> KubeHttp:
        """The administrator's client."""
        return self.control.admin()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _start(self) -> None:
        self.control.start()
        apply_chart(self.control.kubeconfig, "workloads=false")
        for name in self.nodes:
            ensure_node(self.admin, name)
        database = f"sqlite:///{self.directory / 'history.sqlite'}"
        for number in range(2):
            env = self._env("operator", number) | {"NOVAKUBE_DATABASE_URL": database}
            log = self.directory / f"operator-{number}.log"
            self.operators.append(Process("novakube_operator.main", env, log))
            self.operators[-1].start()
        self.agent = Process("novakube_agent.main", self._agent_env(), self.directory / "agent.log")
        self.agent.start()
        self.wait_schedulable()

    def _end(self) -> None:
        for process in (*self.operators, self.agent):
            if process is not None:
                process.end()
        self.control.stop()
        if os.environ.get("KEEP"):
            print(f"kept: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _env(self, account: str, number: int = 0) -> dict[str, str]:
        token = self.directory / f"{account}-{number}.token"
        token.write_text(self.control.token(SYSTEM, f"novakube-{account}", ttl_s=TOKEN_LIFE_S))
        return {
            "NOVAKUBE_API_SERVER": self.control.server,
            "NOVAKUBE_CA_FILE": str(self.control.ca_file),
            "NOVAKUBE_TOKEN_FILE": str(token),
            "NOVAKUBE_HTTP": f"127.0.0.1:{free_ports().etcd}",
            "PYTHONUNBUFFERED": "1",
        }

    def _agent_env(self) -> dict[str, str]:
        """Each simulated node acts by a token bound to its own Node, as a real one does."""
        tokens = self.directory / "tokens"
        tokens.mkdir()
        for name in self.nodes:
            token = self.control.token(SYSTEM, "novakube-agent", name, ttl_s=TOKEN_LIFE_S)
            (tokens / f"{name}.token").write_text(token)
        return self._env("agent") | {
            "NOVAKUBE_TOKEN_FILE": str(tokens / f"{self.nodes[0]}.token"),
            "NOVAKUBE_FAKE_TOKENS": str(tokens),
            "NOVAKUBE_NODE": NODE,
            "NOVAKUBE_DRIVER": "fake",
            "NOVAKUBE_FAKE": json.dumps(ROOMY),
            "NOVAKUBE_FAKE_NODES": str(len(self.nodes)),
            "NOVAKUBE_STATE_DIR": str(self.directory / "state"),
            "NOVAKUBE_AGENT_LISTEN": "127.0.0.1:0",
        }

    def wait_schedulable(self) -> None:
        """Every node can take guests."""
        waiting = list(self.nodes)
        give_up_at = time.monotonic() + READY_S
        while waiting:
            self.check()
            found = read(lambda: self.admin.call("GET", f"{GROUP}/hypervisors")) or {"items": []}
            ready = {
                item["metadata"]["name"]
                for item in found["items"]
                if condition(item, "Schedulable") == "True"
            }
            waiting = [name for name in waiting if name not in ready]
            if waiting and time.monotonic() > give_up_at:
                raise RuntimeError(f"not schedulable: {waiting[:5]}; logs in {self.directory}")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raises when a process has ended."""
        for process in (*self.operators, self.agent):
            if process is not None:
                process.check()

    @property
    def leader(self) -> Process:
        """The operator that decides."""
        return next(process for process in self.operators if process.leads())

    def usages(self) -> dict[str, Usage]:
        """Of every process, by its part."""
        leader = self.leader
        assert self.agent is not None
        found = {
            "operator": usage(leader.pid),
            "standby": usage(next(p.pid for p in self.operators if p is not leader)),
            "agent": usage(self.agent.pid),
        }
        for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
            found[name] = usage(self.control.pid(name))
        return found
