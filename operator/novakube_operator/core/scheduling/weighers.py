"""Weighers: the larger the weight, the better the node. Pure.

Source of criteria and multipliers: nova/scheduler/weights, nova.conf [filter_scheduler].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from novakube_operator.core.scheduling.facts import version_number
from novakube_operator.core.scheduling.hosts import Host, Request
from novakube_operator.core.scheduling.pipeline import Options, Weigher, WeigherFactory, Weights

BUILD_FAILURE_MULTIPLIER = 1_000_000.0


def _of_host(measure: Callable[[Host], float]) -> Weights:
    return lambda hosts, _: [measure(host) for host in hosts]


def _of_group(policy: str, sign: int) -> Weights:
    def weights(hosts: Sequence[Host], request: Request) -> Sequence[float]:
        group = request.group
        if group is None or group.rule.policy != policy:
            return ()
        return [float(sign * group.members.get(host.name, 0)) for host in hosts]

    return weights


def _weigher(name: str, default: float, weights: Weights) -> tuple[str, WeigherFactory]:
    def make(_: Options, multiplier: float | None) -> Weigher:
        return Weigher(name, weights, default if multiplier is None else multiplier)

    return name.replace("_", "-"), make


WEIGHERS: dict[str, WeigherFactory] = dict(
    (
        _weigher("ram", 1.0, _of_host(lambda host: host.free_memory_mib)),
        _weigher("cpu", 1.0, _of_host(lambda host: host.free_vcpus)),
        _weigher("disk", 1.0, _of_host(lambda host: host.free_disk_bytes)),
        _weigher("io_ops", -1.0, _of_host(lambda host: host.load.io_ops)),
        _weigher("soft_affinity", 1.0, _of_group("soft-affinity", 1)),
        _weigher("soft_anti_affinity", 1.0, _of_group("soft-anti-affinity", -1)),
        _weigher("num_instances", 0.0, _of_host(lambda host: host.load.instances)),
        _weigher(
            "build_failure",
            BUILD_FAILURE_MULTIPLIER,
            _of_host(lambda host: -host.load.build_failures),
        ),
        _weigher(
            "hypervisor_version", 1.0, _of_host(lambda host: version_number(host.status.version))
        ),
    )
)
"""Name -> factory. ``build-failure`` is given as a positive multiplier, as in Nova."""


def multiplier(weigher: Weigher, host: Host) -> float:
    """The weigher's, or the smallest that the node's Aggregates give; no numbers count not."""
    values = host.metadata.get(f"{weigher.name}_weight_multiplier")
    numbers = [number for value in values or () if (number := _number(value)) is not None]
    return min(numbers, default=weigher.multiplier)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def total_weights(
    hosts: Sequence[Host], request: Request, weighers: Sequence[Weigher]
) -> list[float]:
    """Each criterion normalised to 0..1 over these nodes, multiplied, summed."""
    totals = [0.0] * len(hosts)
    overridden = [index for index, host in enumerate(hosts) if host.metadata]
    for weigher in weighers:
        if not weigher.multiplier and not overridden:
            continue
        raw = weigher.weights(hosts, request)
        low, span = min(raw, default=0.0), max(raw, default=0.0) - min(raw, default=0.0)
        if not span:
            continue
        scale = weigher.multiplier / span
        shares = [(weight - low) * scale for weight in raw]
        for index in overridden:
            shares[index] = (raw[index] - low) / span * multiplier(weigher, hosts[index])
        totals = [total + share for total, share in zip(totals, shares, strict=True)]
    return totals
