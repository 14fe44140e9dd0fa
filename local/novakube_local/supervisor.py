"""First process of a member (the control plane or a node) in a PID namespace of its own.

It runs what ``services/<member>/*.json`` names, starts again what ends (backoff 0.5 s to 30 s),
reaps orphans and tells in ``status/<member>.json`` what it sees. As it is process 1 of its
namespace, its end is the end of every process of the member, of its network and its mounts: the
kernel cleans up, whatever happened. SIGHUP reads the folder again, SIGTERM stops in order.

A process's own children (QEMU, dnsmasq) are not touched when it is stopped or dies.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novakube_local.layout import Layout, write_json

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = float(os.environ.get("NOVAKUBE_LOCAL_BACKOFF_MAX_S", "30"))
STEADY_S = 60.0
"""A process that lived this long starts again at once."""
LOOK_S = 1.0
"""How often files a service waits for are looked at."""
STOP_S = 10.0
_SIGNALS = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT}


@dataclass
class Service:
    """One process and its history."""

    name: str
    spec: dict[str, Any]
    pid: int | None = None
    started_at: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    restarts: int = 0
    last_exit: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def missing(self) -> list[str]:
        """Files the service waits for."""
        return [path for path in self.spec.get("needs", []) if not Path(path).exists()]


class Supervisor:
    """The services of one member."""

    def __init__(self, layout: Layout, member: str) -> None:
        self.layout = layout
        self.member = member
        self.services: dict[str, Service] = {}

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self.read()
        while True:
            self.start_due()
            self.tell()
            got = signal.sigtimedwait(_SIGNALS, self.next_look())
            if got is None:
                continue
            if got.si_signo in (signal.SIGTERM, signal.SIGINT):
                break
            self.read()
            self.reap()
        self.stop_all()

    def read(self) -> None:
        """Takes over what the folder says now; a changed or removed service is ended."""
        wanted: dict[str, dict[str, Any]] = {}
        for path in sorted(self.layout.services(self.member).glob("*.json")):
            wanted[path.stem] = json.loads(path.read_text())
        for name, service in list(self.services.items()):
            if wanted.get(name) != service.spec:
                self.end([service])
                del self.services[name]
        for name, spec in wanted.items():
            if name not in self.services:
                self.services[name] = Service(name, spec)

    def start_due(self) -> None:
        """Starts what does not run, may run and has its files."""
        now = time.monotonic()
        for service in self.services.values():
            if service.pid is None and now >= service.not_before and not service.missing():
                self.start(service)

    def start(self, service: Service) -> None:
        """One process, in a session of its own, its output in its log."""
        log = self.layout.logs / f"{service.spec['log']}.log"
        with log.open("ab") as output:
            service.process = subprocess.Popen(
                service.spec["argv"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **service.spec.get("env", {})},
                cwd="/",
                start_new_session=True,
                preexec_fn=_unblock,
            )
        service.pid = service.process.pid
        service.started_at = time.monotonic()

    def reap(self) -> None:
        """Collects every ended child, orphans of others included."""
        by_pid = {service.pid: service for service in self.services.values() if service.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                self.ended(by_pid[pid], os.waitstatus_to_exitcode(status))

    def ended(self, service: Service, code: int) -> None:
        """Decides when an ended service starts again."""
        now = time.monotonic()
        service.failures = 0 if now - service.started_at >= STEADY_S else service.failures + 1
        wait = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** max(0, service.failures - 1))
        service.not_before = now + (wait if service.failures else 0.0)
        service.restarts += 1
        service.last_exit = f"signal {-code}" if code < 0 else f"exit code {code}"
        _collected(service)

    def next_look(self) -> float:
        """Seconds until something may be due; long when nothing is."""
        waiting = [one for one in self.services.values() if one.pid is None]
        if not waiting:
            return 3600.0
        due = min(one.not_before for one in waiting) - time.monotonic()
        return max(0.05, min(LOOK_S, due)) if due > 0 else LOOK_S

    def tell(self) -> None:
        """Writes what runs; pids are those inside the member's namespace."""
        told = {
            one.name: {
                "pid": one.pid,
                "restarts": one.restarts,
                "last_exit": one.last_exit,
                "missing": [] if one.pid else one.missing(),
                "log": one.spec["log"],
            }
            for one in self.services.values()
        }
        path = self.layout.status_file(self.member)
        if not path.exists() or json.loads(path.read_text()) != told:
            write_json(path, told)

    def stop_all(self) -> None:
        """Ends the services, last named first."""
        order = sorted(self.services.values(), key=lambda one: int(one.spec.get("order", 0)))
        for service in reversed(order):
            self.end([service])

    def end(self, services: list[Service]) -> None:
        """SIGTERM, then SIGKILL after the deadline."""
        for service in services:
            if service.process is None:
                continue
            service.process.terminate()
            try:
                service.process.wait(float(service.spec.get("stop_s", STOP_S)))
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()
            _collected(service)


def _collected(service: Service) -> None:
    if service.process is not None and service.process.returncode is None:
        service.process.returncode = 0  # waited for above; Popen must not wait again
    service.process = None
    service.pid = None


def _unblock() -> None:
    """A child starts with no signal blocked, unlike its supervisor."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def main() -> None:
    """``python -m novakube_local.supervisor MEMBER``; run by `novakube-local up`."""
    parser = argparse.ArgumentParser(description="first process of a member of a local cloud")
    parser.add_argument("member")
    member = parser.parse_args().member
    layout = Layout()
    if member.startswith("n"):
        from novakube_local.node_mounts import mount_kubelet, mount_private

        mount = mount_kubelet if layout.load().kubelets else mount_private
        mount(layout.node_dir(member))
    Supervisor(layout, member).run()


if __name__ == "__main__":
    main()
