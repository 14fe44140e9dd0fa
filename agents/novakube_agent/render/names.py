"""Names of links and namespaces on a node, and the marks by which we know our own.

Pure. The kernel limits link names to 15 characters, so they are digests; the readable owner
stands in the link's alias, which is also the proof that a link is ours to remove.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

BRIDGE_PREFIX = "nkb"
TAP_PREFIX = "nkt"
VETH_PREFIX = "nkv"
VLAN_PREFIX = "nkl"
NETNS_PREFIX = "nk-"
GATEWAY_LINK = "gateway"
"""Name of the veth's end inside the network's namespace."""

_DIGITS = 11  # 15 characters of IFNAMSIZ - 1, less the prefix
_ALIAS = "novakube"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the alias of a link of ours says."""

    network_uid: str
    port_uid: str | None = None

    def text(self) -> str:
        """The alias; far below the kernel's 255 characters."""
        port = f" port={self.port_uid}" if self.port_uid else ""
        return f"{_ALIAS} network={self.network_uid}{port}"


def parse_mark(alias: str | None) -> Mark | None:
    """The mark in a link's alias; None when the link is not ours."""
    words = (alias or "").split()
    if not words or words[0] != _ALIAS:
        return None
    fields = dict(word.partition("=")[::2] for word in words[1:])
    network = fields.get("network")
    return Mark(network, fields.get("port")) if network else None


def _name(prefix: str, uid: str) -> str:
    return prefix + hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]


def bridge_name(network_uid: str) -> str:
    """The Network's bridge in the root namespace."""
    return _name(BRIDGE_PREFIX, network_uid)


def veth_name(network_uid: str) -> str:
    """The bridge's end of the veth that leads to the gateway."""
    return _name(VETH_PREFIX, network_uid)


def vlan_name(network_uid: str) -> str:
    """The VLAN device on the physical network's interface."""
    return _name(VLAN_PREFIX, network_uid)


def tap_name(port_uid: str) -> str:
    """The tap that becomes the guest's NIC."""
    return _name(TAP_PREFIX, port_uid)


def netns_name(network_uid: str) -> str:
    """The network namespace that holds gateway and DHCP server."""
    return NETNS_PREFIX + network_uid.replace("-", "")[:12]


def gateway_mac(network_uid: str) -> str:
    """MAC of the Network's gateway: the same on every node.

    So a guest that migrates keeps its neighbour entry. One per Network, because one link
    carries the gateways of all its Subnets. First octet 0x0e: unicast, locally administered
    (IEEE 802), and apart from the fa:16:3e of guests and the fe of libvirt's taps.
    """
    digest = hashlib.sha256(f"gateway {network_uid}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x0E, *digest[:5]))
