"""Filters and weighers by name, and the pipeline that settings choose of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from novakube_operator.core.scheduling import (
    aggregate_filters,
    capability_filters,
    filters,
)
from novakube_operator.core.scheduling.pipeline import (
    Filter,
    FilterFactory,
    Options,
    Pipeline,
    WeigherFactory,
)
from novakube_operator.core.scheduling.weighers import WEIGHERS

Made = TypeVar("Made")


def _plain(one: Filter) -> FilterFactory:
    return lambda _: one


FILTERS: dict[str, FilterFactory] = {
    "forced-host": _plain(filters.forced_host),
    "enabled": _plain(filters.enabled),
    "not-refused": _plain(filters.not_refused),
    "availability-zone": _plain(filters.availability_zone),
    "aggregate-tenants": _plain(aggregate_filters.aggregate_tenants),
    "aggregate-flavors": _plain(aggregate_filters.aggregate_flavors),
    "aggregate-image-properties": aggregate_filters.aggregate_image_properties,
    "aggregate-extra-specs": _plain(aggregate_filters.aggregate_extra_specs),
    "isolated-hosts": filters.isolated_hosts,
    "capabilities": _plain(capability_filters.capabilities),
    "image-properties": _plain(capability_filters.image_properties),
    "same-host": _plain(filters.same_host),
    "different-host": _plain(filters.different_host),
    "cidr-affinity": _plain(filters.cidr_affinity),
    "json-query": _plain(filters.json_query),
    "affinity": _plain(filters.affinity),
    "anti-affinity": _plain(filters.anti_affinity),
    "memory": _plain(filters.memory),
    "cpu": _plain(filters.cpu),
    "disk": _plain(filters.disk),
    "io-ops": aggregate_filters.io_ops,
    "instances": aggregate_filters.instances,
}
"""In the order of reasons: the first that says no is the node's reason."""

NEEDED = ("forced-host", "enabled", "not-refused", "memory", "cpu", "disk")
"""Always on: without them a placement breaks what other parts rely on."""
OPTIONAL = frozenset({"aggregate-flavors", "io-ops", "instances"})
"""Off by default, as in Nova: their limits would surprise who never set them."""
DEFAULT_FILTERS = tuple(name for name in FILTERS if name not in OPTIONAL)
DEFAULT_WEIGHERS = tuple((name, None) for name in WEIGHERS)


class UnknownName(Exception):
    """Settings name a filter or weigher that nobody provides; the message lists what there is."""


def pipeline(
    options: Options = Options(),  # noqa: B008 - a frozen value
    chosen: Sequence[str] = DEFAULT_FILTERS,
    weighed: Sequence[tuple[str, float | None]] = DEFAULT_WEIGHERS,
    more_filters: Mapping[str, FilterFactory] | None = None,
    more_weighers: Mapping[str, WeigherFactory] | None = None,
) -> Pipeline:
    """The chosen filters in the chosen order, those of ``NEEDED`` that it lacks behind them.

    Raises:
        UnknownName: a name that neither we nor ``more_*`` have.
    """
    filters_by_name = {**FILTERS, **(more_filters or {})}
    weighers_by_name = {**WEIGHERS, **(more_weighers or {})}
    names = [*chosen, *(name for name in NEEDED if name not in chosen)]
    return Pipeline(
        tuple(_pick(filters_by_name, name, "filter")(options) for name in names),
        tuple(
            _pick(weighers_by_name, name, "weigher")(options, number) for name, number in weighed
        ),
        tuple(names),
    )


def _pick(known: Mapping[str, Callable[..., Made]], name: str, what: str) -> Callable[..., Made]:
    if name not in known:
        raise UnknownName(f"no scheduler {what} {name!r}; there are: {', '.join(sorted(known))}")
    return known[name]
