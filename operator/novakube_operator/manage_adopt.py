"""``novakube-manage vm adopt``: an Instance for a domain that belongs to none."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.hypervisorreport import OrphanDomain
from novakube_crds.v1alpha1.image import IMAGE
from novakube_crds.v1alpha1.instance import INSTANCE, READY
from novakube_crds.v1alpha1.network import NETWORK
from novakube_kit.errors import AlreadyExists, Conflict, NotFound, Retryable
from novakube_kit.kube import Json, KubePort
from novakube_kit.objects import Object, parse
from novakube_kit.resources import NAMESPACES, resource_of
from novakube_operator.core import takeover
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.core.projects import PROJECT_LABEL
from novakube_operator.manage_service import hypervisor
from novakube_operator.manage_verbs import Answer, Verb, argument, on_cluster
from novakube_operator.manage_vm import DOMAIN, NODE, PAGE, TIMEOUT, alive, orphan, until

INSTANCES, GUESTS = resource_of(INSTANCE), resource_of(GUEST)


async def _adopt(kube: KubePort, args: Namespace) -> Answer:
    node = await hypervisor(kube, args.node)
    domain = await orphan(kube, node, args.id)
    if not alive(node):
        raise Conflict(f"host {args.node} is not heard: its agent has to take the domain over")
    name = args.name or domain.instance_name or args.id
    made = await _make(kube, await _instance(kube, args, domain, name))
    wanted = takeover.POWER_STATES.get(domain.state, "Running")

    async def missing() -> str | None:
        return await _missing(kube, made, args.node, domain, wanted)

    left = await until(missing, args.timeout)
    if left is not None:
        raise Retryable(
            f"instance {made.namespace}/{name} was made, and within {args.timeout:g} s did not "
            f"take the domain over: {left}. It goes on trying; deleting it destroys the domain"
        )
    return await _taken_over(kube, made, args, domain)


async def _taken_over(
    kube: KubePort, made: Object[Any, Any], args: Namespace, domain: OrphanDomain
) -> Answer:
    status = parse(INSTANCE, await kube.get(INSTANCES, made.name, made.namespace)).status
    held = [item.address for item in status.addresses]
    lost = sorted({address for nic in domain.nics for address in nic.addresses} - set(held))
    text = (
        f"instance {made.namespace}/{made.name} has taken over domain {args.id} on {args.node}: "
        f"{', '.join([status.state, *held])}"
    )
    if lost:
        text += f"; it had {', '.join(lost)} before"
    data = {"namespace": made.namespace, "name": made.name, "id": args.id, "node": args.node,
            "state": status.state, "guest": status.guest, "addresses": held}  # fmt: skip
    return Answer(text, data)


async def _instance(kube: KubePort, args: Namespace, domain: OrphanDomain, name: str) -> Json:
    """Its manifest. Raises NotFound, Conflict, InvalidSpec: what has to be there or be given."""
    namespace = domain.instance_namespace
    try:
        metadata = (await kube.get(NAMESPACES, namespace))["metadata"]
    except NotFound as error:
        message = f"the domain is one of namespace {namespace}, which does not exist: make it first"
        raise NotFound(message) from error
    if metadata.get("deletionTimestamp"):
        raise Conflict(f"namespace {namespace} is being deleted")
    project = (metadata.get("labels") or {}).get(PROJECT_LABEL)
    flavor = takeover.flavor_for(domain, await _all(kube, FLAVOR), args.flavor, project)
    image = takeover.image_for(domain, await _all(kube, IMAGE), namespace, args.image)
    networks = takeover.networks_for(domain, namespace, args.network)
    for where, network in networks:
        try:
            await kube.get(resource_of(NETWORK), network, where)
        except NotFound as error:
            message = f"network {where}/{network} of the domain does not exist: make it first"
            raise NotFound(message) from error
    return takeover.instance_for(domain, name, flavor, image, networks)


async def _all(kube: KubePort, kind: Kind) -> list[Object[Any, Any]]:
    found = (await kube.list(resource_of(kind), limit=PAGE))["items"]
    return [parse(kind, item) for item in found]


async def _make(kube: KubePort, body: Json) -> Object[Any, Any]:
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    try:
        return parse(INSTANCE, await kube.create(INSTANCES, body, namespace))
    except AlreadyExists as error:
        message = f"instance {namespace}/{name} exists and is another one: choose by --name"
        raise Conflict(message) from error


async def _missing(
    kube: KubePort, made: Object[Any, Any], node: str, domain: OrphanDomain, wanted: str
) -> str | None:
    """What the Instance still lacks; None once its Guest is the domain's.

    Raises:
        Conflict: it is gone, or was built anew: the domain ended before it was taken over.
    """
    try:
        now = parse(INSTANCE, await kube.get(INSTANCES, made.name, made.namespace))
    except NotFound as error:
        raise Conflict(f"instance {made.namespace}/{made.name} was deleted meanwhile") from error
    if now.status.guest is None:
        return _told(now)
    try:
        found = await kube.get(GUESTS, now.status.guest, namespace_of_node(now.status.node or node))
    except NotFound:
        return _told(now)
    guest = parse(GUEST, found)
    if guest.spec.adopt != domain.guest_uid:
        message = f"the domain was gone before it was taken over: {guest.name} is a new machine"
        raise Conflict(f"{message} on {guest.spec.hypervisor}")
    done = guest.status.adopted == domain.guest_uid and guest.status.phase == "Ready"
    return None if done and now.status.state == wanted else _told(now)


def _told(instance: Object[Any, Any]) -> str:
    ready = get_condition(instance.status.conditions, READY)
    return f"{instance.status.state}: {ready.message}" if ready else str(instance.status.state)


VERBS = (
    Verb("vm", "adopt", "make the instance of a domain that belongs to none; it runs on",
         on_cluster(_adopt),
         (DOMAIN, NODE,
          argument("--name", help="of the instance; default: the name it had"),
          argument("--flavor", help="where several have the domain's sizes"),
          argument("--image", metavar="[NAMESPACE/]NAME",
                   help="where several fit, or the host does not remember"),
          argument("--network", metavar="[NAMESPACE/]NAME", action="append", default=[],
                   help="where the host does not remember: one for each NIC, or none"),
          TIMEOUT)),
)  # fmt: skip
