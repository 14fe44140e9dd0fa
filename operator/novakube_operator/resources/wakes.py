"""Which objects must be looked at again when another one changed. Index lookups only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from novakube_kit.objects import Key
from novakube_operator.resources.judges import AnyObject, World

ROLLUP_S = 5.0
"""Used addresses are counted at most this often per network (one write per object and 5 s)."""
Wake = tuple[str, Key, float]
"""Plural, key, delay in seconds."""


def wakes(
    world: World, plural: str, old: AnyObject | None, new: AnyObject | None
) -> Iterator[Wake]:
    """What a change of one object means for others."""
    obj = new or old
    rule = _RULES.get(plural)
    if obj is None:
        return
    if rule is not None:
        yield from rule(world, obj, old is None or new is None, new is None)
    if plural == "aggregates" and old is not None and new is not None:
        # Hosts that it gave up may be another's now.
        yield from _of_aggregate(world, old, False, False)
    if plural == "guests" and (old is None or new is None or new.status.phase == "Gone"):
        yield from _of_guest(world, obj)


def _of_address(world: World, obj: AnyObject, _: bool, gone: bool) -> Iterator[Wake]:
    network: Key = (obj.namespace, obj.spec.network.name)
    subnet: Key = (obj.namespace, obj.spec.subnet.name)
    held = world.of("networks").get(*network)
    leaving = gone and held is not None and held.deleting
    yield "networks", network, 0.0 if leaving else ROLLUP_S
    found = world.of("subnets").get(*subnet)
    if gone and found is not None and found.deleting:
        yield "subnets", subnet, 0.0


def _of_subnet(world: World, obj: AnyObject, began_or_ended: bool, _: bool) -> Iterator[Wake]:
    network: Key = (obj.namespace, obj.spec.network.name)
    yield "networks", network, 0.0
    if began_or_ended:
        for sibling in world.of("subnets").by("network", network):
            if sibling.uid != obj.uid:
                yield "subnets", sibling.key, 0.0


def _of_network(world: World, obj: AnyObject, began_or_ended: bool, _: bool) -> Iterator[Wake]:
    if began_or_ended:
        for subnet in world.of("subnets").by("network", obj.key):
            yield "subnets", subnet.key, 0.0


def _of_port(_: World, obj: AnyObject, __: bool, gone: bool) -> Iterator[Wake]:
    if gone:
        reference = obj.spec.network
        yield "networks", (reference.namespace or obj.namespace, reference.name), 0.0


def _of_hypervisor(world: World, obj: AnyObject, began_or_ended: bool, _: bool) -> Iterator[Wake]:
    if began_or_ended:
        for aggregate in world.of("aggregates").by("host", obj.name):
            yield "aggregates", aggregate.key, 0.0


def _of_aggregate(world: World, obj: AnyObject, _: bool, __: bool) -> Iterator[Wake]:
    for host in obj.spec.hosts:
        for other in world.of("aggregates").by("host", host):
            if other.uid != obj.uid:
                yield "aggregates", other.key, 0.0


def _of_guest(world: World, obj: AnyObject) -> Iterator[Wake]:
    group = obj.spec.server_group
    held = world.of("servergroups").by_uid(group.uid) if group else None
    if held is not None:
        yield "servergroups", held.key, ROLLUP_S


_RULES: dict[str, Callable[[World, AnyObject, bool, bool], Iterator[Wake]]] = {
    "ipaddresses": _of_address,
    "subnets": _of_subnet,
    "networks": _of_network,
    "ports": _of_port,
    "hypervisors": _of_hypervisor,
    "aggregates": _of_aggregate,
}
"""Plural -> rule(world, object, came or went, went)."""
