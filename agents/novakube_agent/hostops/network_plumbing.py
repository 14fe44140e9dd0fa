"""Bridge, namespace, gateway and taps of one Network: each step observed, then made. Blocking.

Root namespace of the agent: bridge ``nkb...`` with the guests' taps, the uplink if the
Network has one, and the veth ``nkv...`` whose other end is the gateway, inside namespace
``nk-...``. Gateway and uplink are isolated bridge ports: the gateway's ARP and DHCP answer
local guests only and never cross to other nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from novakube_agent.hostops import netns
from novakube_agent.hostops.netlink import Link, Netlink, set_sysctl
from novakube_agent.render.names import (
    BRIDGE_PREFIX,
    GATEWAY_LINK,
    TAP_PREFIX,
    VETH_PREFIX,
    VLAN_PREFIX,
    Mark,
    bridge_name,
    gateway_mac,
    netns_name,
    parse_mark,
    tap_name,
    veth_name,
    vlan_name,
)
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_kit.errors import HostFailure, InvalidSpec

PHYSICAL_NETWORKS_SETTING = "NOVAKUBE_PHYSICAL_NETWORKS"
OUR_PREFIXES = (BRIDGE_PREFIX, TAP_PREFIX, VETH_PREFIX, VLAN_PREFIX)
_FORWARD_DELAY = 0  # centiseconds; a port forwards at once, as nova-network's ``setfd 0``


def our_links(netlink: Netlink) -> dict[str, tuple[Link, Mark]]:
    """Links that carry our names and our mark, by name."""
    found = {}
    for link in netlink.links():
        mark = parse_mark(link.alias)
        if mark is not None and link.name.startswith(OUR_PREFIXES):
            found[link.name] = (link, mark)
    return found


def ensure_network(
    netlink: Netlink, nic: GuestNic, gateways: list[str], physical_networks: Mapping[str, str]
) -> None:
    """The Network's plumbing, up.

    Args:
        netlink: of the root namespace.
        nic: any NIC of the Network.
        gateways: addresses with prefix length for the gateway link.
        physical_networks: interface by name of physical network.

    Raises:
        HostFailure: no interface for the physical network, or the kernel refused.
    """
    uid = nic.network_uid
    bridge = _ensure_bridge(netlink, nic)
    namespace = netns_name(uid)
    netns.create(namespace)
    veth = _ensure_veth(netlink, uid, namespace)
    netns.inside(namespace, lambda: _ensure_gateway(uid, nic.mtu, gateways))
    _ensure_uplink(netlink, nic, bridge, physical_networks)
    netlink.change(veth, ifalias=Mark(uid).text(), mtu=nic.mtu, master=bridge.index)
    netlink.isolate_port(veth)
    netlink.change(veth, state="up")


def _ensure_bridge(netlink: Netlink, nic: GuestNic) -> Link:
    name = bridge_name(nic.network_uid)
    if netlink.find(name) is None:
        netlink.add(
            name,
            "bridge",
            br_stp_state=0,
            br_forward_delay=_FORWARD_DELAY,
            br_mcast_snooping=0,
            ifalias=Mark(nic.network_uid).text(),
        )
    bridge = netlink.get(name)
    quieten(name)
    netlink.change(bridge, ifalias=Mark(nic.network_uid).text(), mtu=nic.mtu, state="up")
    return bridge


def quieten(name: str) -> None:
    """No IPv6 of the node itself on the link: it belongs to the guests."""
    set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")


def _ensure_veth(netlink: Netlink, network_uid: str, namespace: str) -> Link:
    name = veth_name(network_uid)
    if netlink.find(name) is None:
        # The peer is born inside the namespace: never a nameless end in the root namespace.
        with (netns.DIRECTORY / namespace).open("rb") as handle:
            peer: dict[str, str | int] = {
                "ifname": GATEWAY_LINK,
                "address": gateway_mac(network_uid),
                "net_ns_fd": handle.fileno(),
            }
            netlink.add(name, "veth", peer=peer)
    quieten(name)
    return netlink.get(name)


def _ensure_gateway(network_uid: str, mtu: int, gateways: list[str]) -> None:
    set_sysctl("ipv6/conf/all/disable_ipv6", "1")
    with Netlink() as netlink:
        netlink.change(netlink.get("lo"), state="up")
        gateway = netlink.get(GATEWAY_LINK)
        netlink.change(gateway, mtu=mtu, address=gateway_mac(network_uid), state="up")
        _ensure_ipv6(GATEWAY_LINK, wanted=any(":" in text for text in gateways))
        netlink.ensure_addresses(gateway, gateways)


def _ensure_ipv6(link: str, *, wanted: bool) -> None:
    """IPv6 on the gateway's link while a Subnet needs it: its addresses usable at once."""
    if wanted:
        # Nobody else may have the gateway's address: the wait for a duplicate is for nothing.
        set_sysctl(f"ipv6/conf/{link}/accept_dad", "0")
        set_sysctl(f"ipv6/conf/{link}/accept_ra", "0")
    set_sysctl(f"ipv6/conf/{link}/disable_ipv6", "0" if wanted else "1")


def _ensure_uplink(
    netlink: Netlink, nic: GuestNic, bridge: Link, physical_networks: Mapping[str, str]
) -> None:
    # vxlan spans nodes by its tunnels, not by an interface of the site.
    if nic.segment_type == "vxlan" or nic.physical_network is None:
        return
    uplink = _physical_interface(netlink, nic, physical_networks)
    if nic.segment_type == "vlan":
        if nic.segment_id is None:
            raise InvalidSpec(f"network {nic.network_name}: a vlan segment needs an id")
        name = vlan_name(nic.network_uid)
        if netlink.find(name) is None:
            netlink.add(name, "vlan", link=uplink.index, vlan_id=nic.segment_id)
        uplink = netlink.get(name)
        netlink.change(uplink, ifalias=Mark(nic.network_uid).text())
    if uplink.master not in (None, 0, bridge.index):
        raise HostFailure(
            f"interface {uplink.name} of physical network {nic.physical_network} already "
            "belongs to another bridge",
            reason="PhysicalNetworkTaken",
        )
    if netlink.addresses(uplink):
        raise HostFailure(
            f"interface {uplink.name} of physical network {nic.physical_network} carries "
            "addresses of this node; give the network an interface of its own",
            reason="PhysicalNetworkTaken",
        )
    netlink.change(uplink, master=bridge.index)
    netlink.isolate_port(uplink)
    netlink.change(uplink, state="up")


def _physical_interface(
    netlink: Netlink, nic: GuestNic, physical_networks: Mapping[str, str]
) -> Link:
    name = physical_networks.get(nic.physical_network or "")
    link = netlink.find(name) if name else None
    if link is None:
        known = ", ".join(sorted(physical_networks)) or "none"
        missing = f"interface {name} does not exist" if name else "it names no interface for it"
        raise HostFailure(
            f"network {nic.network_name} is on physical network {nic.physical_network}, but "
            f"{PHYSICAL_NETWORKS_SETTING} of this node does not serve it: {missing} "
            f"(it knows: {known})",
            reason="PhysicalNetworkMissing",
        )
    return link


def ensure_tap(netlink: Netlink, nic: GuestNic) -> None:
    """The NIC's tap: ours, persistent, on the bridge, up. Opened by the hypervisor."""
    name = tap_name(nic.port_uid)
    if netlink.find(name) is None:
        netlink.add_tap(name)
    tap = netlink.get(name)
    mark = Mark(nic.network_uid, nic.port_uid).text()
    bridge = netlink.get(bridge_name(nic.network_uid))
    quieten(name)
    if (tap.alias, tap.master, tap.mtu) != (mark, bridge.index, nic.mtu):
        netlink.change(tap, ifalias=mark, mtu=nic.mtu, master=bridge.index)
    if not tap.up:
        netlink.change(tap, state="up")


def remove_network(netlink: Netlink, network_uid: str) -> None:
    """Bridge, veth, VLAN device and namespace gone; tolerant of absence.

    An interface of the site that was on the bridge is left as it is, without master.
    """
    netlink.remove(veth_name(network_uid))
    netlink.remove(vlan_name(network_uid))
    netlink.remove(bridge_name(network_uid))
    netns.remove(netns_name(network_uid))
