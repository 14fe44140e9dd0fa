"""A local cloud of its own with one libvirt node, whose processes can be held and killed.

Its guests have a blank disk: no time goes into booting, all else is real.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from novakube_local import members
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_local.layout import Layout
from novakube_local.pki import Pair
from tests.deadlines import EVENT_S, READY_S, UP_S
from tests.waiting import wait_until_sync

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("agents", "api", "charts", "crds", "local", "operator")
GROUP = "/apis/novakube.dev/v1alpha1"
NODE = "n1"
MAILBOX = f"novakube-node-{NODE}"
NAMESPACE = "demo"
AGAIN = frozenset({403, 429})
"""An API server that has not loaded rights, or its storage, yet: all is allowed here."""
MERGE = "application/merge-patch+json"
COMMANDS = {
    "operator": re.compile(r"novakube_operator\.main"),
    "agent": re.compile(r"novakube_agent\.main"),
    "libvirtd": re.compile(r"^libvirtd\b"),
    "kube-apiserver": re.compile(r"kube-apiserver "),
    "etcd": re.compile(r"^\S*etcd "),
}
"""Victims by how their command line looks."""
DNSMASQ = re.compile(r"^\S*dnsmasq ")
QEMU = re.compile(r"^\S*qemu-system")
CLOCK = """

def _jumping(self: SystemClock) -> datetime:
    from datetime import timedelta
    from pathlib import Path

    offset = Path({!r})
    jump_s = float(offset.read_text()) if offset.exists() else 0.0
    return datetime.now(UTC) + timedelta(seconds=jump_s)


SystemClock.now = _jumping
"""
"""Put into the copy that this cloud runs: its wall clock can be moved by a file."""
Json = dict[str, Any]
MANIFESTS: tuple[tuple[str, str, Json], ...] = (
    ("flavors", "", {"vcpus": 1, "memoryMiB": 32, "rootGiB": 1}),
    (
        "images",
        NAMESPACE,
        {
            "diskFormat": "qcow2",
            "source": {"url": "http://192.0.2.10/blank.qcow2"},
            "properties": {"os_shutdown_timeout": "1"},
        },
    ),
    ("networks", NAMESPACE, {}),
    ("subnets", NAMESPACE, {"network": {"name": "crash"}, "cidr": "10.77.0.0/24"}),
)


class CrashCloud:
    """``start`` first, ``end`` last."""

    def __init__(self, directory: Path, **settings: str) -> None:
        """Args: settings: of all its processes, beyond the usual."""
        self._settings = settings
        self.root = directory / "clone"
        self.points = directory / "points"
        self.points.mkdir(parents=True)
        self.root.mkdir()
        for name in SOURCES:
            shutil.copytree(ROOT / name, self.root / name)
        clock = self.root / "crds" / "novakube_kit" / "clock.py"
        clock.write_text(clock.read_text() + CLOCK.format(str(self.points / "clock")))
        (self.root / ".local").mkdir()
        (self.root / ".local" / "bin").symlink_to(ROOT / ".local" / "bin")
        self.layout = Layout(self.root)
        self._admin: KubeHttp | None = None

    # -- life ------------------------------------------------------------------------------

    def _local(self, *arguments: str) -> None:
        folders = [str(self.root / name) for name in SOURCES if name != "charts"]
        environment = {
            **os.environ,
            "PYTHONPATH": ":".join(folders),
            "PYTHONSAFEPATH": "1",
            "NOVAKUBE_FAILPOINT_DIR": str(self.points),
            "NOVAKUBE_LOCAL_BACKOFF_MAX_S": "0.5",
            **self._settings,
        }
        done = subprocess.run(
            [sys.executable, "-m", "novakube_local", *arguments],
            env=environment, capture_output=True, text=True, timeout=UP_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """The cloud with its flavor, image and network; no guest."""
        images = self.layout.images
        built = ROOT / ".local" / "guest-image"
        if built.exists():
            shutil.copytree(built, images)
        images.mkdir(exist_ok=True)
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", str(images / "blank.qcow2"), "1M"],
            check=True, timeout=30,
        )  # fmt: skip
        self.up()
        self.fill()

    def up(self) -> None:
        """What ``make up`` makes is there, without its first machine."""
        self._local("up")
        self.delete("instances", "hello", NAMESPACE)
        self.until_gone("instances", "hello", NAMESPACE)

    def fill(self) -> None:
        """Flavor, image and network of the guests."""
        for plural, namespace, spec in MANIFESTS:
            self.make(plural, "crash", spec, namespace)

    def end(self) -> None:
        """Down, and that nothing of it is left is machine_state's test."""
        self._local("down")

    # -- the API ---------------------------------------------------------------------------

    @property
    def admin(self) -> KubeHttp:
        """As the cluster's administrator, past all rights."""
        if self._admin is None:
            pki = self.layout.control_plane / "pki"
            server = self.layout.kubeconfig.read_text().split("server: ")[1].split()[0].strip('"')
            pair = Pair(pki / "admin.crt", pki / "admin.key")
            self._admin = KubeHttp(server, pki / "ca.crt", pair)
        return self._admin

    def call(self, *arguments: Any) -> Json:
        """A request, again while the API server is away."""
        answers: list[Json] = []

        def answered() -> bool:
            try:
                answers.append(self.admin.call(*arguments))
            except (OSError, ApiError) as error:
                if isinstance(error, ApiError) and error.code < 500 and error.code not in AGAIN:
                    raise
                return False
            return True

        wait_until_sync(answered, f"{arguments[:2]} answered", READY_S)
        return answers[-1]

    @staticmethod
    def path(plural: str, name: str = "", namespace: str = "") -> str:
        where = f"{GROUP}/namespaces/{namespace}" if namespace else GROUP
        return f"{where}/{plural}" + (f"/{name}" if name else "")

    def make(self, plural: str, name: str, spec: Json, namespace: str = "") -> Json:
        kind = {"instances": "Instance", "flavors": "Flavor", "images": "Image"}
        kind |= {"networks": "Network", "subnets": "Subnet", "instanceactions": "InstanceAction"}
        body = {"apiVersion": "novakube.dev/v1alpha1", "kind": kind[plural],
                "metadata": {"name": name}, "spec": spec}  # fmt: skip
        with contextlib.suppress(ApiError):  # made by a request whose answer was lost
            return self.call("POST", self.path(plural, "", namespace), body)
        return self.call("GET", self.path(plural, name, namespace))

    def patch(self, plural: str, name: str, body: Json, namespace: str) -> Json:
        return self.call("PATCH", self.path(plural, name, namespace), body, MERGE)

    def delete(self, plural: str, name: str, namespace: str) -> None:
        with contextlib.suppress(ApiError):
            self.call("DELETE", self.path(plural, name, namespace))

    def get(self, plural: str, name: str, namespace: str) -> Json | None:
        try:
            return self.call("GET", self.path(plural, name, namespace))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, plural: str, namespace: str) -> list[Json]:
        items: list[Json] = self.call("GET", self.path(plural, "", namespace))["items"]
        return items

    def until(self, what: str, check: Callable[[], Any], deadline_s: float) -> Any:
        """Waits; the message of a failure has the processes' last lines."""
        try:
            return wait_until_sync(check, what, deadline_s)
        except AssertionError as error:
            logs = ""
            for name in ("operator", "n1-agent"):
                log = self.layout.logs / f"{name}.log"
                logs += f"\n--- {name}\n" + log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"{error}{logs}") from None

    def until_gone(self, plural: str, name: str, namespace: str) -> None:
        self.until(
            f"{plural} {name} gone", lambda: self.get(plural, name, namespace) is None, READY_S
        )

    # -- processes -------------------------------------------------------------------------

    def pid(self, victim: str) -> int | None:
        """The victim's pid on this machine."""
        found = (pid for pid, text in self._commands().items() if COMMANDS[victim].search(text))
        return next(found, None)

    def _commands(self) -> dict[int, str]:
        """Command lines of all of the cloud's processes, by pid on this machine.

        By their PID namespace: libvirt gives QEMU an environment without the cloud's mark.
        """
        state, found = self.layout.load(), {}
        firsts = (members.alive(state, member) for member in state.members)
        spaces = {Path(f"/proc/{pid}/ns/pid").readlink() for pid in firsts if pid is not None}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (folder / "ns" / "pid").readlink() in spaces:
                    text = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = text.decode(errors="replace")
        return found

    def qemu_pids(self) -> set[int]:
        """Of all machines that run."""
        return {pid for pid, command in self._commands().items() if QEMU.search(command)}

    def _count(self, pattern: re.Pattern[str]) -> int:
        return sum(bool(pattern.search(command)) for command in self._commands().values())

    def kill(self, victim: str) -> int:
        """SIGKILL to the victim; its pid."""
        pid = self.until(f"{victim} runs", lambda: self.pid(victim), READY_S)
        os.kill(pid, signal.SIGKILL)
        assert isinstance(pid, int)
        return pid

    def until_runs_again(self, victim: str, old: int) -> None:
        """The supervisor started it anew."""
        self.until(f"{victim} again", lambda: self.pid(victim) not in (None, old), READY_S)
        if victim == "kube-apiserver":
            self.until("the API server knows its rights", self.serves, READY_S)

    def answers(self) -> bool:
        """The API server is up, whatever it knows."""
        with contextlib.suppress(ApiError, OSError):
            self.admin.call("GET", "/readyz")
            return True
        return False

    def serves(self) -> bool:
        """Past its start, in which it refuses everybody for want of loaded rights."""
        with contextlib.suppress(ApiError, OSError):
            self.admin.call("GET", "/readyz")
            self.admin.call("GET", self.path("guests", "", MAILBOX))
            return True
        return False

    def until_leads(self) -> None:
        """An operator process has the Lease and works: a Hypervisor is heard."""

        def heard() -> bool:
            found = self.get("hypervisors", NODE, "") or {}
            conditions = found.get("status", {}).get("conditions", [])
            return any(c["type"] == "Schedulable" and c["status"] == "True" for c in conditions)

        self.until("the node is schedulable", heard, READY_S)

    # -- failpoints ------------------------------------------------------------------------

    def hold(self, program: str, trigger: str, nonce: str) -> None:
        """Arms a process; see novakube_kit.failpoints."""
        self.reached(program).unlink(missing_ok=True)
        temporary = self.points / f".{program}"
        temporary.write_text(f"{trigger} {nonce}")
        temporary.rename(self.points / f"{program}.trigger")

    def reached(self, program: str) -> Path:
        return self.points / f"{program}.reached"

    def let_go(self, program: str) -> None:
        (self.points / f"{program}.trigger").unlink(missing_ok=True)
        self.reached(program).unlink(missing_ok=True)

    # -- the node --------------------------------------------------------------------------

    def inside(self, *argv: str) -> str:
        """A command on the node."""
        pid = members.alive(self.layout.load(), NODE)
        done = subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--", *argv],
            capture_output=True, text=True, timeout=EVENT_S, check=False,
        )  # fmt: skip
        return done.stdout

    def node(self) -> dict[str, Any]:
        """What a guest leaves on its node, if anything does."""
        state = self.layout.node_dir(NODE) / "novakube"
        links = json.loads(self.inside("ip", "-json", "link", "show") or "[]")
        return {
            "domains": sorted(self.inside("virsh", "--quiet", "list", "--all", "--name").split()),
            "links": sorted(x["ifname"] for x in links if x["ifname"].startswith("nk")),
            "namespaces": sorted(self.inside("ip", "netns", "list").split()),
            "dnsmasq": self._count(DNSMASQ),
            "qemu": self._count(QEMU),
            "guests": sorted(p.name for p in (state / "guests").glob("*")),
            "journal": len(list((state / "journal").glob("*.json"))),
            "networks": sorted(p.name for p in (state / "networks").glob("*")),
            "rules": self.inside("iptables-save").count("nk"),
        }
