"""Weighers: the larger the weight, the better the node; normalised to 0..1 and summed."""

from __future__ import annotations

from collections.abc import Callable

from novakube_operator.core.scheduling.hosts import Host

Weigher = Callable[[Host], float]


def memory(host: Host) -> float:
    """Most free memory first: spreads."""
    return float(host.free_memory_mib())


def cpu(host: Host) -> float:
    """Most free vCPUs first."""
    return float(host.free_vcpus())


WEIGHERS: tuple[Weigher, ...] = (memory, cpu)
"""Source: nova.conf weight_classes; ram_weight_multiplier and cpu_weight_multiplier are 1."""
