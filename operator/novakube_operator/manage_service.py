"""``novakube-manage service`` and ``host``: the agents of the nodes and the nodes themselves."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime
from typing import Any

from novakube_crds.v1alpha1.hypervisor import HYPERVISOR
from novakube_kit.clock import parse_timestamp
from novakube_kit.errors import InvalidSpec, NotFound
from novakube_kit.kube import KubePort
from novakube_kit.objects import Object, parse
from novakube_kit.resources import LEASES, resource_of
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.manage_verbs import Answer, Table, Verb, argument, on_cluster, record

BINARY = "novakube-agent"
HYPERVISORS = resource_of(HYPERVISOR)
HEARTBEAT = "heartbeat"
PAGE = 500


async def _hypervisors(kube: KubePort) -> list[Object[Any, Any]]:
    answer = await kube.list(HYPERVISORS, limit=PAGE)
    found = [parse(HYPERVISOR, item) for item in answer["items"]]
    return sorted(found, key=lambda obj: obj.name)


async def hypervisor(kube: KubePort, name: str) -> Object[Any, Any]:
    """The Hypervisor of a node.

    Raises:
        NotFound: names the ones that there are.
    """
    try:
        return parse(HYPERVISOR, await kube.get(HYPERVISORS, name))
    except NotFound as error:
        names = ", ".join(obj.name for obj in await _hypervisors(kube)) or "none"
        raise NotFound(f"no host is named {name}; there are: {names}") from error


def _condition(obj: Object[Any, Any], type: str) -> Any:
    return next((c for c in obj.status.conditions if c.type == type), None)


def _state(obj: Object[Any, Any]) -> str:
    """``up`` and ``down`` as Nova says it: whether the agent is heard."""
    alive = _condition(obj, "AgentAlive")
    return "up" if alive is not None and alive.status == "True" else "down"


def _status(obj: Object[Any, Any]) -> str:
    return "enabled" if obj.spec.enabled else "disabled"


async def _heard_at(kube: KubePort, node: str) -> datetime | None:
    try:
        lease = await kube.get(LEASES, HEARTBEAT, namespace_of_node(node))
    except NotFound:
        return None
    at = lease["spec"].get("renewTime")
    return parse_timestamp(at) if at else None


async def _list(kube: KubePort, args: Namespace) -> Table:
    rows = []
    for obj in await _hypervisors(kube):
        if args.host and obj.name != args.host:
            continue
        zone, reason = obj.status.availability_zone, obj.spec.disabled_reason
        heard = obj.status.heartbeat_at
        rows.append((BINARY, obj.name, zone, _status(obj), _state(obj), heard, reason))
    columns = ("BINARY", "HOST", "ZONE", "STATUS", "STATE", "UPDATED AT", "DISABLED REASON")
    return Table(columns, tuple(rows))


async def _describe(kube: KubePort, args: Namespace) -> Table:
    obj = await hypervisor(kube, args.host)
    spec, status = obj.spec, obj.status
    capacity, allocated = status.capacity, status.allocated
    values: dict[str, Any] = {
        "host": obj.name,
        "id": status.id or obj.uid,
        "binary": BINARY,
        "zone": status.availability_zone,
        "status": _status(obj),
        "disabledReason": spec.disabled_reason,
        "state": _state(obj),
        "heartbeatAt": await _heard_at(kube, obj.name),
        "forcedDown": spec.forced_down,
        "maintenance": spec.maintenance,
        "hypervisorType": status.hypervisor_type,
        "version": status.version,
        "agentVersion": status.agent_version,
        "address": status.address,
        "instances": status.running,
        "vcpus": f"{allocated.vcpus} of {capacity.vcpus}",
        "memoryMiB": f"{allocated.memory_mib} of {capacity.memory_mib}",
        "diskGiB": f"{allocated.disk_gib} of {capacity.disk_gib}",
    }
    for condition in status.conditions:
        words = (condition.status, condition.reason, condition.message)
        values[condition.type] = " ".join(word for word in words if word)
    return record(**values)


async def _enable(kube: KubePort, args: Namespace) -> Answer:
    return await _switch(kube, args.host, {"enabled": True, "disabledReason": None})


async def _disable(kube: KubePort, args: Namespace) -> Answer:
    return await _switch(kube, args.host, {"enabled": False, "disabledReason": args.reason})


async def _switch(kube: KubePort, host: str, wanted: dict[str, Any]) -> Answer:
    obj = await hypervisor(kube, host)
    if (obj.spec.enabled, obj.spec.disabled_reason) == tuple(wanted.values()):
        text = f"{host} is {_status(obj)} already"
        return Answer(text, {"host": host, **wanted})
    await kube.patch(HYPERVISORS, host, {"spec": wanted})
    word = "enabled" if wanted["enabled"] else "disabled"
    return Answer(f"{host} {word}", {"host": host, **wanted})


async def _hosts(kube: KubePort, args: Namespace) -> Table:
    found = [
        obj for obj in await _hypervisors(kube)
        if not args.zone or obj.status.availability_zone == args.zone
    ]  # fmt: skip
    if args.zone and not found:
        raise InvalidSpec(f"no host is in zone {args.zone}", reason="NotFound")
    rows = [
        (obj.name, obj.status.availability_zone, obj.status.running,
         obj.status.capacity.vcpus, obj.status.allocated.vcpus,
         obj.status.capacity.memory_mib, obj.status.allocated.memory_mib,
         obj.status.capacity.disk_gib, obj.status.allocated.disk_gib)
        for obj in found
    ]  # fmt: skip
    columns = ("HOST", "ZONE", "INSTANCES", "VCPUS", "VCPUS USED", "MEMORY MIB",
               "MEMORY MIB USED", "DISK GIB", "DISK GIB USED")  # fmt: skip
    return Table(columns, tuple(rows))


_HOST = argument("host", help="name of the node")
VERBS = (
    Verb("service", "list", "agents, whether they are heard and take new instances",
         on_cluster(_list), (argument("--host", help="only this one"),)),
    Verb("service", "enable", "let new instances be placed on a host", on_cluster(_enable),
         (_HOST,)),
    Verb("service", "disable", "place no new instances on a host; what runs stays",
         on_cluster(_disable), (_HOST, argument("--reason", help="shown to whoever asks why"))),
    Verb("service", "describe", "everything about a host", on_cluster(_describe), (_HOST,),
         aliases=("describe_resource",)),
    Verb("host", "list", "hosts with capacity and what is promised of it", on_cluster(_hosts),
         (argument("zone", nargs="?", help="only hosts of this availability zone"),)),
)  # fmt: skip
