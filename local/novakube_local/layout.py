"""Where a clone's local cloud keeps what, and the names and addresses it uses on the machine.

Everything is under ``.local`` of the clone. Names on the machine carry the clone's id, so that
two clones side by side do not meet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from novakube_local.binaries import ROOT
from novakube_local.errors import LocalCloudError

CLOUD = "cloud"
"""Name of the member that holds the control plane; nodes are ``n1``, ``n2``, ..."""
BRIDGE = "cloud0"
API_SERVER_ADDRESS = "192.0.2.1"
"""Of the API server in the cloud's network (TEST-NET-1, RFC 5737), which only it can see."""
IMAGES_ADDRESS = "192.0.2.10"
NODE_ADDRESS_BASE = 10
MAX_NODES = 200
PREFIX = 24
API_PORT = 8774
NODE_STATE = "/run/novakube-state"
"""A node's own path to its agent's state. It does not lead through the clone's parents, which
may be closed to dnsmasq's user, as root's home is."""
KEPT = ("bin", "go", "guest-image", "fresh", "container-images")
"""Folders of ``.local`` that outlive the cloud: results of long builds."""
MARK = "NOVAKUBE_LOCAL_CLOUD"
"""In the environment of every process of a cloud; names its folder."""


@dataclass
class State:
    """What was done to the machine; written before it is done."""

    link_net: str = ""
    """The /30 between the machine and the cloud's network."""
    nodes: int = 0
    driver: str = "libvirt"
    kubelets: bool = False
    """Whether nodes are kubelets that run novakube's pods; else its processes run in nodes."""
    members: dict[str, list[int]] = field(default_factory=dict)
    """Member -> pid of its first process on the machine, and that process's start time."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths and names of one clone's cloud."""

    root: Path = ROOT

    @property
    def local(self) -> Path:
        """Everything of the cloud."""
        return self.root / ".local"

    @property
    def id(self) -> str:
        """Six hex digits that differ between clones."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:6]

    @property
    def link(self) -> str:
        """Name of the machine's end of the link into the cloud."""
        return f"nkcloud{self.id}"

    @property
    def images(self) -> Path:
        """The guest image, as served to nodes."""
        return self.local / "guest-image"

    @property
    def container_images(self) -> Path:
        """Archives of novakube's container images, and what they are built from."""
        return self.local / "container-images"

    @property
    def cgroup(self) -> str:
        """Name of the control group that holds the pods of this clone's cluster."""
        return f"novakube-{self.id}"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.local / "log"

    @property
    def control_plane(self) -> Path:
        """Data and certificates of the control plane."""
        return self.local / "controlplane"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, which `make env` names."""
        return self.local / "kubeconfig"

    @property
    def credentials(self) -> Path:
        """Tokens and certificates handed to processes."""
        return self.local / "credentials"

    def services(self, member: str) -> Path:
        """The processes a member's supervisor shall run, one JSON file each."""
        return self.local / "services" / member

    def node_dir(self, node: str) -> Path:
        """A node's disks and libvirt state."""
        return self.local / "nodes" / node

    def status_file(self, member: str) -> Path:
        """What a member's supervisor tells of its processes."""
        return self.local / "status" / f"{member}.json"

    def load(self) -> State:
        """The recorded state; an empty one when there is none."""
        try:
            return State(**json.loads((self.local / "state.json").read_text()))
        except FileNotFoundError:
            return State()

    def save(self, state: State) -> None:
        """Replaces the record at once."""
        write_json(self.local / "state.json", asdict(state))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One up or down at a time.

        Raises:
            LocalCloudError: another one is at work.
        """
        self.local.mkdir(exist_ok=True)
        with (self.local / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalCloudError("another make up or make down of this clone runs") from None
            yield


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(path)


def node_names(count: int) -> list[str]:
    """``n1`` ... ``n<count>``."""
    return [f"n{number}" for number in range(1, count + 1)]


def node_address(node: str) -> str:
    """A node's address in the cloud's network."""
    return f"192.0.2.{NODE_ADDRESS_BASE + int(node[1:])}"
