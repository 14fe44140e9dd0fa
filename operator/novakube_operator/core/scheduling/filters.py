"""Filters of room and choice: what every request is checked for. Pure."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from novakube_crds.v1alpha1.hypervisor import BUILD_FAILURES
from novakube_operator.core.scheduling.hosts import GIB, Host, Request
from novakube_operator.core.scheduling.json_query import parse
from novakube_operator.core.scheduling.pipeline import (
    Check,
    Filter,
    Options,
    Refusal,
    UnusableHint,
)


def forced_host(request: Request) -> Check | None:
    """``spec.forcedHost`` leaves no choice."""
    wanted = request.forced_host
    if wanted is None:
        return None
    refusal = Refusal(f"not spec.forcedHost {wanted}")
    return lambda host: None if host.name == wanted else refusal


def enabled(request: Request) -> Check:
    """Enabled, heard within 40 s, driver working, not in maintenance.

    A node that was disabled for its build failures takes what is forced onto it: that is how
    an administrator tries it.
    """
    forced, now = request.forced_host, request.now

    def check(host: Host) -> Refusal | None:
        why = host.unschedulable
        if why is None or (why.reason == BUILD_FAILURES and forced == host.name):
            return None
        age_s = None if why.silent_since is None else max(0.0, now - why.silent_since)
        return Refusal(why.text, age_s=age_s)

    return check


def not_refused(request: Request) -> Check | None:
    """A node that refused this creation is not asked again."""
    refused, refusal = request.refused, Refusal("refused it before")
    return (lambda host: refusal if host.name in refused else None) if refused else None


def availability_zone(request: Request) -> Check | None:
    """The wanted zone, when one is wanted."""
    wanted = request.zone
    if wanted is None:
        return None
    refusal = Refusal(f"not in zone {wanted}")
    return lambda host: None if host.zone == wanted else refusal


def memory(request: Request) -> Check:
    """Memory by ratio and reservation."""
    wanted = request.wanted.memory_mib
    text = f"short of {wanted} MiB memory"

    def check(host: Host) -> Refusal | None:
        free = host.limit.memory_mib - host.load.used.memory_mib
        return None if free >= wanted else Refusal(text, free)

    return check


def cpu(request: Request) -> Check:
    """VCPUs by ratio and reservation."""
    wanted = request.wanted.vcpus
    text = f"short of {wanted} vCPUs"

    def check(host: Host) -> Refusal | None:
        free = host.limit.vcpus - host.load.used.vcpus
        return None if free >= wanted else Refusal(text, free)

    return check


def disk(request: Request) -> Check:
    """Disk space by ratio and reservation."""
    wanted = request.wanted.disk_bytes
    text = f"short of {-(-wanted // GIB)} GiB disk"

    def check(host: Host) -> Refusal | None:
        free = host.limit.disk_bytes - host.load.used.disk_bytes
        return None if free >= wanted else Refusal(text, free // GIB)

    return check


def same_host(request: Request) -> Check | None:
    """Hint ``same_host``: only nodes of the named Instances."""
    nodes, refusal = request.same_host, Refusal("without the instances of hint same_host")
    if nodes is None:
        return None
    return lambda host: None if host.name in nodes else refusal


def different_host(request: Request) -> Check | None:
    """Hint ``different_host``: no node of the named Instances."""
    nodes, refusal = request.different_host, Refusal("with an instance of hint different_host")
    return (lambda host: refusal if host.name in nodes else None) if nodes else None


def cidr_affinity(request: Request) -> Check | None:
    """Hints ``build_near_host_ip`` and ``cidr``: nodes whose address is in that network.

    Raises:
        UnusableHint: they are no network.
    """
    if request.near_host_ip is None:
        return None
    text = f"{request.near_host_ip}{request.near_cidr}"
    try:
        # Without the slash it would be another address.
        net = ip_network(text if request.near_cidr.startswith("/") else "", strict=False)
    except ValueError as error:
        raise UnusableHint(
            f"hints build_near_host_ip and cidr: {text!r} is no network such as 192.0.2.1/24"
        ) from error
    refusal = Refusal(f"outside {net} of hint build_near_host_ip")

    def check(host: Host) -> Refusal | None:
        address = host.status.address
        return None if address is not None and ip_address(address) in net else refusal

    return check


def affinity(request: Request) -> Check | None:
    """A group with policy affinity stays where its first member is."""
    group = request.group
    if group is None or group.rule.policy != "affinity" or not group.members:
        return None
    members, refusal = group.members, Refusal(f"without server group {group.rule.name}")
    return lambda host: None if host.name in members else refusal


def anti_affinity(request: Request) -> Check | None:
    """A group with policy anti-affinity has ``maxServersPerHost`` members per node at most."""
    group = request.group
    if group is None or group.rule.policy != "anti-affinity":
        return None
    members, most = group.members, group.rule.max_servers_per_host
    refusal = Refusal(f"with {most} of server group {group.rule.name} already")
    return lambda host: refusal if members.get(host.name, 0) >= most else None


def json_query(request: Request) -> Check | None:
    """Hint ``query``."""
    if request.query is None:
        return None
    query, refusal = parse(request.query), Refusal("not matching hint query")
    return lambda host: None if query(host) else refusal


def isolated_hosts(options: Options) -> Filter:
    """Isolated images on isolated hosts only; by setting, those hosts for nothing else."""

    def choose(request: Request) -> Check | None:
        if not options.isolated_hosts and not options.isolated_images:
            return None
        isolated = request.image in options.isolated_images
        text = "not for isolated images" if isolated else "for isolated images only"
        refusal = Refusal(text)
        if not isolated and not options.restrict_isolated_hosts_to_isolated_images:
            return None
        return lambda host: None if (host.name in options.isolated_hosts) == isolated else refusal

    return choose
