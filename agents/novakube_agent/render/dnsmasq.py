"""Text of dnsmasq's files: one configuration per Network, one hosts file per NIC.

Pure. Everything a Network needs is derived from its local NICs, so the files can be written
again at any time from the records of these. DHCP and router advertisements only: no DNS
server, no lease without a hosts file (``static`` ranges).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from novakube_agent.render.names import GATEWAY_LINK
from novakube_crds.v1alpha1.guest import GuestAddress, GuestNic, GuestSubnet
from novakube_crds.v1alpha1.subnet import address_mode, is_announced
from novakube_kit.errors import InvalidSpec

DOMAIN = "novalocal"
"""Source: Nova's ``dhcp_domain`` default."""
LEASE_S = 86400
"""Source: nova-network's later default of ``dhcp_lease_time``."""
SERVICE_ADDRESS = "169.254.169.254"
"""DHCP server address on Subnets without a gateway (the metadata address of EC2 and Nova)."""
RA_INTERVAL_S = 600
"""Most seconds between two router advertisements; dnsmasq's own default."""
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def addresses(nic: GuestNic) -> list[GuestAddress]:
    """The NIC's addresses.

    Raises:
        InvalidSpec: an address lies outside its Subnet.
    """
    for item in nic.addresses:
        address = parsed(f"port {nic.port_name}: address", item.address)
        subnet = cidr(f"port {nic.port_name}: subnet", item.subnet.cidr)
        if address not in subnet:
            raise InvalidSpec(
                f"port {nic.port_name}: address {item.address} is outside {item.subnet.cidr}"
            )
    return list(nic.addresses)


def parsed(field: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, or InvalidSpec naming the field. Nothing unparsed reaches a file."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidSpec(f"{field} {text!r} is no IP address") from error


def cidr(field: str, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network, or InvalidSpec naming the field."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidSpec(f"{field} {text!r} is no network in CIDR form: {error}") from error


def subnets(nics: Iterable[GuestNic]) -> list[GuestSubnet]:
    """The Subnets in use, by UID; of two versions of one the later in ``nics`` counts."""
    found = {item.subnet.uid: item.subnet for nic in nics for item in addresses(nic)}
    return [found[uid] for uid in sorted(found)]


def gateway_addresses(used: Iterable[GuestSubnet]) -> list[str]:
    """Addresses of the gateway link, with prefix length.

    Each Subnet's gateway, and the service address, which serves IPv4 Subnets that have none.
    dnsmasq serves an IPv6 prefix only from an address in it: without a gateway that is its
    first, which no guest ever gets (RFC 4291: the Subnet-Router anycast address).
    """
    result = [f"{SERVICE_ADDRESS}/32"]
    for subnet in used:
        network = ipaddress.ip_network(subnet.cidr)
        if subnet.gateway is not None:
            result.append(f"{parsed('gateway', subnet.gateway)}/{network.prefixlen}")
        elif network.version == 6 and subnet.dhcp:
            result.append(f"{network[0]}/{network.prefixlen}")
    return result


def render_config(
    directory: PurePath, mtu: int, used: Iterable[GuestSubnet], script: PurePath
) -> str:
    """Dnsmasq's configuration for one Network on one node.

    Args:
        directory: the Network's state directory.
        mtu: bytes, handed out as option 26.
        used: the Subnets of the node's NICs; those without DHCP are left out.
        script: what it runs for each lease.
    """
    lines = [
        "# Written by novakube; changes are lost.",
        "port=0",
        "no-hosts",
        "no-resolv",
        "no-ping",
        "quiet-dhcp",
        f"interface={GATEWAY_LINK}",
        "except-interface=lo",
        "bind-interfaces",
        f"domain={DOMAIN}",
        # The only server of this wire: a lost lease file must not end in a NAK.
        "dhcp-authoritative",
        f"dhcp-leasefile={directory / 'leases'}",
        f"dhcp-hostsfile={directory / 'hosts'}",
        f"pid-file={directory / 'dnsmasq.pid'}",
        f"dhcp-script={script}",
        # A NIC that comes back renews a lease that dnsmasq still has: that is told as well.
        "script-on-renewal",
        f"dhcp-option=option:mtu,{mtu}",
    ]
    served = [subnet for subnet in used if subnet.dhcp]
    size = sum(ipaddress.ip_network(subnet.cidr).num_addresses for subnet in served)
    lines.append(f"dhcp-lease-max={min(max(size, 1), 65536)}")
    for subnet in served:
        lines += _ipv6_lines(subnet) if _is_ipv6(subnet) else _subnet_lines(subnet)
    lines += _announcement([subnet for subnet in served if _is_ipv6(subnet)])
    return "\n".join(lines) + "\n"


def _is_ipv6(subnet: GuestSubnet) -> bool:
    return ":" in subnet.cidr


def _announcement(served: Sequence[GuestSubnet]) -> list[str]:
    """Router advertisements: per link, so one for all Subnets of the Network."""
    announced = [subnet for subnet in served if is_announced(subnet)]
    if not announced:
        return []
    if any(subnet.gateway is not None for subnet in announced):
        return ["enable-ra"]
    # Prefixes without a way out: a router lifetime of 0 s makes nobody's default route.
    return ["enable-ra", f"ra-param={GATEWAY_LINK},{RA_INTERVAL_S},0"]


_RANGE_MODES = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless", "dhcpv6-stateful": "static"}


def _ipv6_lines(subnet: GuestSubnet) -> list[str]:
    network, mode = ipaddress.ip_network(subnet.cidr), address_mode(subnet)
    if mode == "slaac" and not is_announced(subnet):
        return []  # prefix and name servers are announced by somebody else
    tag = subnet_tag(subnet.uid)
    kind = _RANGE_MODES[mode if is_announced(subnet) else "dhcpv6-stateful"]
    lines = [
        f"dhcp-range=set:{tag},{network.network_address},{kind},{network.prefixlen},{LEASE_S}s"
    ]
    if subnet.dns:
        servers = ",".join(f"[{parsed('DNS server', server)}]" for server in subnet.dns)
        lines.append(f"dhcp-option=tag:{tag},option6:dns-server,{servers}")
    return lines


def render_script(python: PurePath, bridge: PurePath) -> str:
    """What dnsmasq runs for each lease: a shell, which starts ``dhcpbridge`` when it must.

    After each SIGHUP dnsmasq tells all its leases once more, and marks that no guest has spoken
    (DNSMASQ_DATA_MISSING): with many guests that would be as many Pythons for nothing.

    Args:
        python: the interpreter; without site-packages, so that no package can break it.
        bridge: the copy of ``dhcpbridge.py``.
    """
    run = f"{shlex.quote(str(python))} -I -S {shlex.quote(str(bridge))}"
    return f"""#!/bin/sh
# Written by novakube; changes are lost.
case $1 in
add | del) ;;
old) [ -z "$DNSMASQ_DATA_MISSING" ] && [ ! -e "$NOVAKUBE_NETWORK/held/$3" ] || exit 0 ;;
*) exit 0 ;;
esac
exec {run} "$@"
"""


def config_name(text: str) -> str:
    """File name of a configuration, made of the text's digest.

    So the command line of a living dnsmasq tells whether it runs with this very text.
    """
    return f"dnsmasq-{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"


def subnet_tag(uid: str) -> str:
    """Dnsmasq's tag for one Subnet."""
    return "s" + uid.replace("-", "")[:12]


def _subnet_lines(subnet: GuestSubnet) -> list[str]:
    network = ipaddress.ip_network(subnet.cidr)
    tag = subnet_tag(subnet.uid)
    routes = [
        f"{cidr('route', route.destination)},{parsed('next hop', route.next_hop)}"
        for route in subnet.routes
    ]
    lines = [f"dhcp-range=set:{tag},{network.network_address},static,{network.netmask},{LEASE_S}s"]
    if subnet.gateway is None:
        # The server has no address in this Subnet: reached on the link at its own address.
        lines.append(f"shared-network={GATEWAY_LINK},{network.network_address}")
        lines.append(f"dhcp-option=tag:{tag},option:router")
        routes.insert(0, f"{SERVICE_ADDRESS}/32,0.0.0.0")
    else:
        lines.append(f"dhcp-option=tag:{tag},option:router,{parsed('gateway', subnet.gateway)}")
        if routes:
            # RFC 3442: a client that understands option 121 ignores option 3.
            routes.append(f"0.0.0.0/0,{subnet.gateway}")
    if routes:
        lines.append(f"dhcp-option=tag:{tag},option:classless-static-route,{','.join(routes)}")
    servers = "".join(f",{parsed('DNS server', server)}" for server in subnet.dns)
    lines.append(f"dhcp-option=tag:{tag},option:dns-server{servers}")
    return lines


def render_host(hostname: str, nic: GuestNic) -> str:
    """The NIC's hosts file: its first address of each family by DHCP; empty without one.

    Further addresses of a NIC are the guest's to configure, as with Nova.
    """
    leased: dict[bool, str] = {}
    for item in addresses(nic):
        six = _is_ipv6(item.subnet)
        if item.subnet.dhcp and (not six or address_mode(item.subnet) == "dhcpv6-stateful"):
            leased.setdefault(six, f"[{item.address}]" if six else item.address)
    if not leased:
        return ""
    return ",".join([nic.mac, *leased.values(), host_label(hostname)]) + "\n"


def host_label(hostname: str) -> str:
    """The first label of a host name, as option 12 carries it.

    Raises:
        InvalidSpec: it is no RFC 1123 label (it would also be read as dnsmasq syntax).
    """
    label = hostname.partition(".")[0].lower()
    if not _LABEL.fullmatch(label):
        raise InvalidSpec(
            f"hostname {hostname!r}: its first label must be 1 to 63 letters, digits or "
            "hyphens and start and end with a letter or digit"
        )
    return label


def conflicting_leases(leases: str, hosts: dict[str, str]) -> list[str]:
    """Lines of a lease file whose address now belongs to another MAC.

    dnsmasq would not give it to the new owner until they expire.

    Args:
        leases: dnsmasq's lease file (``expiry mac address name client-id``; IPv6: ``expiry iaid
            address name duid``).
        hosts: MAC by address of the present NICs.
    """
    return [
        line
        for line, address, holder in _leases(leases)
        if address in hosts and holder not in (None, hosts[address])
    ]


def lease_holders(leases: str) -> dict[str, str | None]:
    """MAC by leased address of a lease file; None where the client's DUID has no MAC."""
    return {address: holder for _, address, holder in _leases(leases)}


def _leases(text: str) -> Iterator[tuple[str, str, str | None]]:
    """Line, address and MAC of each lease in a lease file."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 5:
            six = ":" in fields[2]
            yield line, fields[2], _duid_mac(fields[4]) if six else fields[1]


def _duid_mac(duid: str) -> str | None:
    """The MAC inside a DHCPv6 client's identifier; None where it has none.

    Source: RFC 8415, sections 11.2 (type 1: link-layer address and time) and 11.4 (type 3).
    """
    octets = duid.split(":")
    if len(octets) == 14 and octets[:2] == ["00", "01"]:
        return ":".join(octets[8:])
    if len(octets) == 10 and octets[:2] == ["00", "03"]:
        return ":".join(octets[4:])
    return None
