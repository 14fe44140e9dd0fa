"""``novakube-manage vm orphans|destroy``: domains that belong to no Instance."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable
from typing import Any

from novakube_crds.conditions import is_true
from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.hypervisor import AGENT_ALIVE, HYPERVISOR
from novakube_crds.v1alpha1.hypervisorreport import HYPERVISORREPORT, REPORT_NAME, OrphanDomain
from novakube_kit.clock import SystemClock
from novakube_kit.errors import Conflict, NotFound, Retryable
from novakube_kit.kube import KubePort
from novakube_kit.objects import Object, parse
from novakube_kit.resources import resource_of
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.manage_service import hypervisor
from novakube_operator.manage_verbs import Answer, Table, Verb, argument, on_cluster

HYPERVISORS, GUESTS = resource_of(HYPERVISOR), resource_of(GUEST)
REPORTS = resource_of(HYPERVISORREPORT)
PAGE = 500
ATTEMPTS = 5
"""Of a write that others of the same object come before."""
LOOK_S = 0.5
TIMEOUT_S = 120.0
"""An agent looks over its node within NOVAKUBE_RESYNC_S and reports within 5 s of a change."""


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


async def orphan(kube: KubePort, node: Object[Any, Any], id: str) -> OrphanDomain:
    """A domain of the node that belongs to no Instance and that nobody ordered to destroy.

    Raises:
        Conflict: it belongs to an Instance, or its end is ordered.
        NotFound: the node reports no such domain.
    """
    found = _of(node.status.orphans, id)
    if found is None or found.guest_uid is None:
        await _refuse_owned(kube, node.name, id)
        message = f"host {node.name} has no domain {id} that belongs to no instance"
        raise NotFound(f"{message}; see novakube-manage vm orphans")
    if found.guest_uid in (*node.spec.destroy_orphans, *node.status.fenced):
        raise Conflict(f"host {node.name} has the order to destroy domain {id}")
    return found


def _of(domains: list[OrphanDomain], id: str) -> OrphanDomain | None:
    return next((item for item in domains if item.instance_id == id), None)


async def _refuse_owned(kube: KubePort, node: str, id: str) -> None:
    """Says whose it is, by its Guest or by what is about to get the next one."""
    mailbox = namespace_of_node(node)
    guests = (await kube.list(GUESTS, mailbox, limit=PAGE))["items"]
    identities = [guest["spec"]["instance"] for guest in guests]
    owners = [f"{one['namespace']}/{one['name']}" for one in identities if one["id"] == id]
    if not owners:
        try:
            report = parse(HYPERVISORREPORT, await kube.get(REPORTS, REPORT_NAME, mailbox))
        except NotFound:
            return
        stray = _of(report.status.orphans, id)
        if stray is not None:
            owners = [f"{stray.instance_namespace}/{stray.instance_name}"]
    if owners:
        raise Conflict(
            f"domain {id} on {node} belongs to instance {owners[0]}: what happens to it is "
            "ordered by that object"
        )


async def until(look: Callable[[], Awaitable[str | None]], limit_s: float) -> str | None:
    """Waits until ``look`` finds nothing missing; returns what still is at the deadline."""
    clock = SystemClock()
    give_up_at = clock.monotonic() + limit_s
    while True:
        missing = await look()
        if missing is None or clock.monotonic() >= give_up_at:
            return missing
        await asyncio.sleep(LOOK_S)


def alive(node: Object[Any, Any]) -> bool:
    """Whether the node's agent is heard."""
    return is_true(node.status.conditions, AGENT_ALIVE)


def _confirm(question: str) -> None:
    """Asks on the terminal. Raises Conflict unless the answer is yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Conflict("not confirmed, nothing was ordered (--yes confirms)")


async def _destroy(kube: KubePort, args: Namespace) -> Answer:
    """Orders it in the administrator's part of the Hypervisor; the operator passes it on."""
    domain = await orphan(kube, await hypervisor(kube, args.node), args.id)
    what = f"domain {args.id} ({domain.instance_namespace}/{domain.instance_name}, {domain.state})"
    if not args.yes:
        _confirm(f"Destroy {what} on {args.node} with its disks?")
    node = await _order(kube, args.node, args.id)
    data = {"node": args.node, "id": args.id, "guest": domain.guest_uid, "destroyed": False}
    if not alive(node):
        text = f"ordered: {args.node} destroys {what} when its agent is heard again"
        return Answer(text, data)

    async def standing() -> str | None:
        now = await hypervisor(kube, args.node)
        uids = {*(item.guest_uid for item in now.status.orphans), *now.status.fenced}
        return "standing" if domain.guest_uid in uids else None

    if await until(standing, args.timeout) is not None:
        raise Retryable(
            f"ordered, and not reported as done by {args.node} within {args.timeout:g} s; the "
            f"order stands: {what} is destroyed as soon as the host can"
        )
    return Answer(f"destroyed: {what} on {args.node}, with its disks", data | {"destroyed": True})


async def _order(kube: KubePort, name: str, id: str) -> Object[Any, Any]:
    """Writes the order on the version of the Hypervisor that shows the domain as nobody's."""
    for _ in range(ATTEMPTS):
        node = await hypervisor(kube, name)
        uid = str((await orphan(kube, node, id)).guest_uid)
        standing = {item.guest_uid for item in node.status.orphans}
        # Orders whose domain is gone have done their work.
        orders = {order for order in node.spec.destroy_orphans if order in standing} | {uid}
        change = {
            "metadata": {"resourceVersion": node.resource_version},
            "spec": {"destroyOrphans": sorted(orders)},
        }
        try:
            return parse(HYPERVISOR, await kube.patch(HYPERVISORS, name, change))
        except Conflict:
            await asyncio.sleep(LOOK_S)
    raise Conflict(f"Hypervisor {name} changes all the time; nothing was ordered: try again")


def seconds(text: str) -> float:
    """How long to wait."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise ArgumentTypeError(f"{text!r} is no number of seconds; allowed: 0 to 86400")
    return value


DOMAIN = argument("id", metavar="DOMAIN_ID", help="as vm orphans shows it")
NODE = argument("--node", "--host", required=True, metavar="NODE", help="the host that has it")
TIMEOUT = argument(
    "--timeout", type=seconds, default=TIMEOUT_S, metavar="SECONDS",
    help="how long to wait for the host (default: %(default)g)",
)  # fmt: skip
VERBS = (
    Verb("vm", "orphans", "domains on the hosts that belong to no instance; they are kept",
         on_cluster(_orphans)),
    Verb("vm", "destroy", "destroy a domain that belongs to no instance, with its disks",
         on_cluster(_destroy),
         (DOMAIN, NODE, argument("--yes", action="store_true", help="do not ask"), TIMEOUT)),
)  # fmt: skip
