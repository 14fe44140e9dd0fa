"""Filters: each gives a reason to leave a node out, or None. Order is the order of reasons."""

from __future__ import annotations

from collections.abc import Callable

from novakube_operator.core.scheduling.hosts import GIB, Host, Request

Filter = Callable[[Host, Request], str | None]


def forced_host(host: Host, request: Request) -> str | None:
    """``spec.forcedHost`` leaves no choice."""
    if request.forced_host is None or request.forced_host == host.name:
        return None
    return f"not spec.forcedHost {request.forced_host}"


def schedulable(host: Host, _: Request) -> str | None:
    """Enabled, heard within 40 s, driver working, not in maintenance."""
    return host.not_schedulable


def not_refused(host: Host, request: Request) -> str | None:
    """A node that refused this creation is not asked again."""
    return "refused it before" if host.name in request.refused else None


def availability_zone(host: Host, request: Request) -> str | None:
    """The wanted zone, when one is wanted."""
    if request.zone is None or request.zone == host.zone:
        return None
    return f"in zone {host.zone}, not {request.zone}"


def memory(host: Host, request: Request) -> str | None:
    """Memory by ratio and reservation."""
    short = request.wanted.memory_mib - host.free_memory_mib()
    return f"short of {short} MiB memory" if short > 0 else None


def cpu(host: Host, request: Request) -> str | None:
    """VCPUs by ratio and reservation."""
    short = request.wanted.vcpus - host.free_vcpus()
    return f"short of {short} vCPUs" if short > 0 else None


def disk(host: Host, request: Request) -> str | None:
    """Disk space by ratio and reservation."""
    short = request.wanted.disk_bytes - host.free_disk_bytes()
    return f"short of {-(-short // GIB)} GiB disk" if short > 0 else None


FILTERS: tuple[Filter, ...] = (
    forced_host,
    schedulable,
    not_refused,
    availability_zone,
    memory,
    cpu,
    disk,
)
"""Nova's defaults that have a meaning here. Source: nova.conf enabled_filters."""
