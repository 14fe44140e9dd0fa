"""Filters that read the metadata of a node's Aggregates. Pure.

Source: nova/scheduler/filters: aggregate_*.py, type_filter.py, io_ops_filter.py,
num_instances_filter.py.
"""

from __future__ import annotations

from collections.abc import Callable

from novakube_operator.core.scheduling.extra_specs import matcher
from novakube_operator.core.scheduling.hosts import Host, Request
from novakube_operator.core.scheduling.pipeline import Check, Filter, Options, Refusal

EXTRA_SPECS_SCOPE = "aggregate_instance_extra_specs:"
FLAVORS_KEY = "instance_type"
TENANT_KEY = "filter_tenant_id"
"""Also with a suffix, such as ``filter_tenant_id2``: one value has 255 characters at most."""


def aggregate_extra_specs(request: Request) -> Check | None:
    """Extra specs ``aggregate_instance_extra_specs:KEY`` against metadata KEY.

    Keys without a scope are those of the capabilities filter, so that both can be on.
    """
    wanted = [
        (key.removeprefix(EXTRA_SPECS_SCOPE), want, matcher(want))
        for key, want in request.extra_specs.items()
        if key.startswith(EXTRA_SPECS_SCOPE)
    ]
    if not wanted:
        return None

    def check(host: Host) -> Refusal | None:
        for key, want, matches in wanted:
            if not any(map(matches, host.metadata.get(key, ()))):
                return Refusal(f"in no aggregate with {key} {want}")
        return None

    return check


def aggregate_image_properties(options: Options) -> Filter:
    """An image property that an Aggregate names must have one of the Aggregate's values."""
    prefix = ""
    if options.image_properties_namespace:
        prefix = options.image_properties_namespace + options.image_properties_separator

    def choose(request: Request) -> Check | None:
        properties = request.image_properties
        if not properties:
            return None

        def check(host: Host) -> Refusal | None:
            for key, allowed in host.metadata.items():
                value = properties.get(key) if key.startswith(prefix) else None
                if value is not None and value not in allowed:
                    return Refusal(f"for images with another {key} than {value}")
            return None

        return check

    return choose


def aggregate_flavors(request: Request) -> Check:
    """Nodes whose Aggregates name flavors take those flavors only."""
    refusal = Refusal(f"for other flavors than {request.flavor}")

    def check(host: Host) -> Refusal | None:
        named = host.metadata.get(FLAVORS_KEY)
        return None if named is None or request.flavor in named else refusal

    return check


def aggregate_tenants(request: Request) -> Check:
    """Nodes whose Aggregates name tenants take those tenants only."""
    refusal = Refusal("for other projects")

    def check(host: Host) -> Refusal | None:
        if not host.metadata:
            return None
        named = [host.metadata[key] for key in host.metadata if key.startswith(TENANT_KEY)]
        if not named or any(request.tenant in tenants for tenants in named):
            return None
        return refusal

    return check


def least(host: Host, key: str, default: int) -> int:
    """The smallest value that the node's Aggregates give; values that are no numbers count not."""
    values = host.metadata.get(key)
    numbers = [int(value) for value in values if value.isdigit()] if values else []
    return min(numbers, default=default)


def _at_most(
    key: str, default: int, count: Callable[[Host], int], what: str
) -> Callable[[Request], Check]:
    def choose(_: Request) -> Check:
        def check(host: Host) -> Refusal | None:
            most = least(host, key, default)
            return Refusal(f"with {most} {what} already") if count(host) >= most else None

        return check

    return choose


def io_ops(options: Options) -> Filter:
    """Builds at a time; ``max_io_ops_per_host`` in an Aggregate's metadata overrides."""
    key, most = "max_io_ops_per_host", options.max_io_ops_per_host
    return _at_most(key, most, lambda host: host.load.io_ops, "builds")


def instances(options: Options) -> Filter:
    """Instances on a node; ``max_instances_per_host`` in an Aggregate's metadata overrides."""
    key, most = "max_instances_per_host", options.max_instances_per_host
    return _at_most(key, most, lambda host: host.load.instances, "instances")
