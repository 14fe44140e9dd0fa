"""The agent's settings, read once from the environment."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from novakube_kit.errors import InvalidSpec

DriverName = Literal["libvirt", "fake"]
VirtType = Literal["auto", "kvm", "qemu"]
Net = ipaddress.IPv4Network | ipaddress.IPv6Network
AGENT_PORT = 8776
DEFAULT_STATE_DIR = Path("/var/lib/novakube")
DEFAULT_LIBVIRT_URI = "qemu:///system"


@dataclass(frozen=True, slots=True)
class FakeSettings:
    """Delays, failures and size of simulated nodes (``NOVAKUBE_FAKE``, JSON)."""

    delays_s: Mapping[str, float] = field(default_factory=dict)
    """Operation (``start``, ``define``, ``image``, ...) -> seconds it takes."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Operation -> message it fails with for good."""
    flaky: Mapping[str, int] = field(default_factory=dict)
    """Operation -> number of times it fails in a passing way before it works."""
    vcpus: int = 64
    memory_mib: int = 256 * 1024
    disk_gib: int = 4096
    acpi: bool = True
    """Whether guests obey the power button."""
    persist: bool = False
    """Keep the simulated hosts in ``STATE_DIR/fake`` across agent restarts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the agent is told from outside."""

    node: str
    driver: DriverName = "libvirt"
    state_dir: Path = DEFAULT_STATE_DIR
    virt_type: VirtType = "auto"
    libvirt_uri: str = DEFAULT_LIBVIRT_URI
    http_host: str = "127.0.0.1"
    http_port: int = 8082
    listen_host: str = "0.0.0.0"  # noqa: S104 - mutual TLS; the API reaches it over the network
    listen_port: int = AGENT_PORT
    """Of the mutual-TLS server; 0 picks a free one, which the report names."""
    address: str | None = None
    """Address reported for the API and for migrations; None: the one the default route uses."""
    workers: int = 16
    resync_s: float = 60.0
    heartbeat_s: float = 10.0
    host_run_dir: Path = Path("/run")
    """The host's /run: ``nologin`` in it says that the host goes down."""
    host_etc_dir: Path = Path("/etc")
    """The host's /etc: its ``systemd`` says whether libvirt-guests is enabled."""
    log_level: str = "info"
    image_allowed_cidrs: tuple[Net, ...] = ()
    image_refused_cidrs: tuple[Net, ...] = ()
    """Networks of image servers that are allowed or refused beyond the usual rules."""
    image_stalled_s: float = 30.0
    """An image server that sends no byte for so long is given up, and asked again later."""
    physical_networks: Mapping[str, str] = field(default_factory=dict)
    """Interface by physical network, for flat and VLAN segments."""
    fake_nodes: int = 1
    fake_tokens: Path | None = None
    """Folder of ``<node>.token``: each simulated node's own first token, since the API server
    gives a node's account to a caller on that node only. None: one node, the process's token."""
    fake: FakeSettings = field(default_factory=FakeSettings)


def read_settings(env: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``NOVAKUBE_*``.

    Raises:
        InvalidSpec: names the variable and what is allowed.
    """
    env = os.environ if env is None else env
    driver = _choice(env, "NOVAKUBE_DRIVER", ("libvirt", "fake"), "libvirt")
    http_host, http_port = _listen(env, "NOVAKUBE_HTTP", "127.0.0.1:8082")
    listen_host, listen_port = _listen(env, "NOVAKUBE_AGENT_LISTEN", f"0.0.0.0:{AGENT_PORT}")
    return Settings(
        node=env.get("NOVAKUBE_NODE") or ("fake" if driver == "fake" else socket.gethostname()),
        driver=cast("DriverName", driver),
        state_dir=Path(env.get("NOVAKUBE_STATE_DIR") or DEFAULT_STATE_DIR),
        virt_type=cast(
            "VirtType", _choice(env, "NOVAKUBE_VIRT_TYPE", ("auto", "kvm", "qemu"), "auto")
        ),
        libvirt_uri=env.get("NOVAKUBE_LIBVIRT_URI") or DEFAULT_LIBVIRT_URI,
        http_host=http_host,
        http_port=http_port,
        listen_host=listen_host,
        listen_port=listen_port,
        address=env.get("NOVAKUBE_ADDRESS") or None,
        workers=int(_number(env, "NOVAKUBE_WORKERS", 16, 1, 256)),
        resync_s=_number(env, "NOVAKUBE_RESYNC_S", 60, 1, 3600),
        heartbeat_s=_number(env, "NOVAKUBE_HEARTBEAT_S", 10, 1, 30),
        host_run_dir=Path(env.get("NOVAKUBE_HOST_RUN") or "/run"),
        host_etc_dir=Path(env.get("NOVAKUBE_HOST_ETC") or "/etc"),
        log_level=env.get("NOVAKUBE_LOG_LEVEL") or "info",
        image_allowed_cidrs=_networks(env, "NOVAKUBE_IMAGE_ALLOWED_CIDRS"),
        image_refused_cidrs=_networks(env, "NOVAKUBE_IMAGE_REFUSED_CIDRS"),
        image_stalled_s=_number(env, "NOVAKUBE_IMAGE_STALLED_S", 30, 1, 3600),
        physical_networks=_pairs(env, "NOVAKUBE_PHYSICAL_NETWORKS"),
        fake_nodes=int(_number(env, "NOVAKUBE_FAKE_NODES", 1, 1, 5000)),
        fake_tokens=Path(tokens) if (tokens := env.get("NOVAKUBE_FAKE_TOKENS")) else None,
        fake=_fake(env.get("NOVAKUBE_FAKE") or "{}"),
    )


def _bad(name: str, value: str, allowed: str) -> InvalidSpec:
    return InvalidSpec(f"{name} is {value!r}; allowed: {allowed}", reason="InvalidConfiguration")


def _choice(env: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = env.get(name) or default
    if value not in allowed:
        raise _bad(name, value, ", ".join(allowed))
    return value


def _number(env: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError as error:
        raise _bad(name, text, f"a number from {least:g} to {most:g}") from error
    if not least <= value <= most:
        raise _bad(name, text, f"a number from {least:g} to {most:g}")
    return value


def _listen(env: Mapping[str, str], name: str, default: str) -> tuple[str, int]:
    text = env.get(name) or default
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise _bad(name, text, "host:port")
    return host.strip("[]"), int(port)


def _networks(env: Mapping[str, str], name: str) -> tuple[Net, ...]:
    text = env.get(name) or ""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part)
    except ValueError as error:
        raise _bad(name, text, "CIDRs separated by commas") from error


def _pairs(env: Mapping[str, str], name: str) -> dict[str, str]:
    text = env.get(name) or ""
    pairs = [part.split(":") for part in text.split(",") if part]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise _bad(name, text, "network:interface[,network:interface...]")
    return {pair[0]: pair[1] for pair in pairs}


def _fake(text: str) -> FakeSettings:
    allowed = ", ".join(FakeSettings.__dataclass_fields__)
    try:
        fields: dict[str, Any] = json.loads(text)
        return FakeSettings(**fields)
    except (ValueError, TypeError) as error:
        raise _bad("NOVAKUBE_FAKE", text, f"a JSON object with {allowed}") from error
