"""The processes of each member: command lines, settings, and what they wait for."""

from __future__ import annotations

import sys
from typing import Any

from novakube_local.controlplane import ControlPlane
from novakube_local.layout import (
    API_PORT,
    API_SERVER_ADDRESS,
    CLOUD,
    IMAGES_ADDRESS,
    NODE_STATE,
    Layout,
    node_address,
    node_names,
    write_json,
)

Spec = dict[str, Any]
SYSTEM = "novakube-system"
SLOW_TO_STOP = {"kube-apiserver": 3}
"""The API server waits for open watches; its store is safe without that."""


def python(module: str, *arguments: str) -> list[str]:
    """A module of this project as a command."""
    return [sys.executable, "-m", module, *arguments]


def write(layout: Layout, member: str, wanted: dict[str, Spec]) -> None:
    """Tells a member's supervisor what to run; what is not wanted is ended."""
    folder = layout.services(member)
    for order, (name, spec) in enumerate(wanted.items()):
        log = name if member == CLOUD else f"{member}-{name}"
        write_json(folder / f"{name}.json", {"order": order, "log": log, **spec})
    for path in folder.glob("*.json"):
        if path.stem not in wanted:
            path.unlink()


def control_plane(plane: ControlPlane) -> dict[str, Spec]:
    """etcd, API server, controller manager."""
    return {
        command.name: {
            "argv": list(command.argv),
            "env": dict(command.env),
            "stop_s": SLOW_TO_STOP.get(command.name, 15),
        }
        for command in plane.commands()
    }


def image_server(layout: Layout) -> dict[str, Spec]:
    """Serves the guest image to nodes."""
    argv = python("novakube_local.imageserver", IMAGES_ADDRESS, "80", str(layout.images))
    return {"images": {"argv": argv}}


def novakube(layout: Layout, api_url: str) -> dict[str, Spec]:
    """Credentials, image server, operator and API of the cloud member."""
    keys, tls = layout.credentials, layout.credentials / "api-tls"
    return {
        "credentials": {"argv": python("novakube_local.credentials", str(keys / "config.json"))},
        **image_server(layout),
        "operator": {
            "argv": python("novakube_operator.main"),
            "env": {
                **access(layout, "operator"),
                "NOVAKUBE_HTTP": "127.0.0.1:8080",
                "NOVAKUBE_API_URL": api_url,
                # The supervisor starts a process again only after it ended, as a kubelet does.
                "NOVAKUBE_POD_UID": f"local-{layout.id}",
                "NOVAKUBE_DATABASE_URL": f"sqlite:///{layout.local / 'operator' / 'history.db'}",
            },
            "needs": [str(keys / "operator.token")],
        },
        "api": {
            "argv": python("novakube_api.main"),
            "env": {
                **access(layout, "api"),
                "NOVAKUBE_HTTP": f"0.0.0.0:{API_PORT}",
                "NOVAKUBE_TLS_DIR": str(tls),
            },
            "needs": [str(keys / "api.token"), str(tls / "tls.crt")],
        },
    }


def node(layout: Layout, name: str, driver: str) -> dict[str, Spec]:
    """The libvirtd and agent of a node; a simulated node has no libvirtd."""
    token = layout.credentials / f"agent-{name}.token"
    agent = {
        "argv": python("novakube_agent.main"),
        "env": {
            **access(layout, f"agent-{name}"),
            "NOVAKUBE_NODE": name,
            "NOVAKUBE_DRIVER": driver,
            "NOVAKUBE_VIRT_TYPE": "auto",
            "NOVAKUBE_STATE_DIR": NODE_STATE,
            "NOVAKUBE_ADDRESS": node_address(name),
            "NOVAKUBE_HTTP": "127.0.0.1:8082",
        },
        "needs": [str(token)],
    }
    if driver == "fake":
        return {"agent": agent}
    agent["needs"] = [str(token), "/run/libvirt/libvirt-sock"]
    return {"libvirtd": {"argv": ["libvirtd"]}, "agent": agent}


def access(layout: Layout, identity: str) -> dict[str, str]:
    """How a process of the cloud reaches the API server as itself."""
    return {
        "NOVAKUBE_API_SERVER": f"https://{API_SERVER_ADDRESS}:6443",
        "NOVAKUBE_CA_FILE": str(layout.control_plane / "pki" / "ca.crt"),
        "NOVAKUBE_TOKEN_FILE": str(layout.credentials / f"{identity}.token"),
        "KUBECONFIG": "",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def credentials(layout: Layout, pair: tuple[str, str], nodes: int, life_s: int) -> Spec:
    """What the credentials process hands out, and with which identity it asks."""
    tokens = [
        {
            "namespace": SYSTEM,
            "account": f"novakube-{name}",
            "file": str(layout.credentials / f"{name}.token"),
        }
        for name in ("operator", "api")
    ]
    tokens += [
        {
            "namespace": SYSTEM,
            "account": "novakube-agent",
            "node": name,
            "file": str(layout.credentials / f"agent-{name}.token"),
        }
        for name in node_names(nodes)
    ]
    tls = {"namespace": SYSTEM, "name": "novakube-api-tls"}
    return {
        "server": f"https://{API_SERVER_ADDRESS}:6443",
        "ca": str(layout.control_plane / "pki" / "ca.crt"),
        "cert": pair[0],
        "key": pair[1],
        "life_s": life_s,
        "tokens": tokens,
        "secrets": [{**tls, "dir": str(layout.credentials / "api-tls")}],
    }
