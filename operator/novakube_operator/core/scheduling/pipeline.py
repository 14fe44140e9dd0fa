"""The shapes of filters and weighers, which a site may add to.

A filter is asked once per decision what it has to check of each node (None: nothing), so one
that the request does not concern costs nothing per node. A weigher gives all remaining nodes
their raw weights at once; they are normalised, multiplied and summed as Nova does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from novakube_operator.core.scheduling.hosts import Host, Request


class UnusableHint(Exception):
    """A scheduler hint that can never be followed; the message is for its author."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node is left out. Refusals with the same text are counted together."""

    text: str
    """Such as ``short of 2048 MiB memory``; the same for all nodes it fits."""
    free: int | None = None
    """What the node still has of it; the largest is named: ``most free 1536 on n4``."""
    age_s: float | None = None
    """How old it is; the oldest is named: ``heartbeat 42 s old``."""


Check = Callable[[Host], Refusal | None]
Filter = Callable[[Request], Check | None]
Weights = Callable[[Sequence[Host], Request], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Weigher:
    """One criterion: the larger the weight, the better the node, before the multiplier."""

    name: str
    """``<name>_weight_multiplier`` in an Aggregate's metadata replaces the multiplier there."""
    weights: Weights
    multiplier: float


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the filters and weighers. Source of defaults: nova.conf [filter_scheduler]."""

    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    isolated_images: frozenset[str] = frozenset()
    isolated_hosts: frozenset[str] = frozenset()
    restrict_isolated_hosts_to_isolated_images: bool = True
    image_properties_namespace: str = ""
    image_properties_separator: str = "."


FilterFactory = Callable[[Options], Filter]
WeigherFactory = Callable[[Options, float | None], Weigher]
"""Made with a multiplier, None: the weigher's own default."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The filters in the order of their reasons, and the weighers."""

    filters: tuple[Filter, ...]
    weighers: tuple[Weigher, ...]
    filter_names: tuple[str, ...] = ()
