"""``novakube-manage vm orphans|destroy``: domains that belong to no Instance."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from novakube_crds.v1alpha1.hypervisor import HYPERVISOR
from novakube_kit.errors import NotFound
from novakube_kit.kube import KubePort
from novakube_kit.objects import Object, parse
from novakube_kit.resources import resource_of
from novakube_operator.manage_service import hypervisor
from novakube_operator.manage_verbs import Answer, Table, Verb, argument, on_cluster

HYPERVISORS = resource_of(HYPERVISOR)
PAGE = 500


async def _orphans(kube: KubePort, _: Namespace) -> Table:
    answer = await kube.list(HYPERVISORS, limit=PAGE)
    nodes = sorted((parse(HYPERVISOR, item) for item in answer["items"]), key=lambda n: n.name)
    rows = tuple(
        (
            node.name,
            item.instance_id,
            f"{item.instance_namespace}/{item.instance_name}",
            item.state,
            item.guest_uid,
        )
        for node in nodes
        for item in node.status.orphans
    )
    return Table(("HOST", "ID", "INSTANCE", "STATE", "GUEST"), rows)


def _orphan(node: Object[Any, Any], id: str) -> str:
    """The Guest UID of a domain that belongs to no Instance."""
    for item in node.status.orphans:
        if item.instance_id == id and item.guest_uid is not None:
            return str(item.guest_uid)
    raise NotFound(f"host {node.name} has no domain {id} that belongs to no Instance")


async def _destroy(kube: KubePort, args: Namespace) -> Answer:
    """Orders it in the administrator's part of the Hypervisor; the operator passes it on."""
    node = await hypervisor(kube, args.host)
    uid = _orphan(node, args.id)
    standing = {item.guest_uid for item in node.status.orphans}
    # Orders whose domain is gone have done their work.
    orders = {order for order in node.spec.destroy_orphans if order in standing} | {uid}
    change = {
        "metadata": {"resourceVersion": node.resource_version},
        "spec": {"destroyOrphans": sorted(orders)},
    }
    await kube.patch(HYPERVISORS, node.name, change)
    text = f"ordered: {node.name} destroys domain {args.id} and its disks"
    return Answer(text, {"host": node.name, "id": args.id})


VERBS = (
    Verb("vm", "orphans", "domains on the hosts that belong to no instance; they are kept",
         on_cluster(_orphans)),
    Verb("vm", "destroy", "destroy a domain that belongs to no instance, with its disks",
         on_cluster(_destroy), (argument("host"), argument("id", help="as vm orphans shows it"))),
)  # fmt: skip
