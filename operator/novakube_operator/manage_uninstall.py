"""``novakube-manage uninstall``: what holds novakube in the cluster, and letting go of it."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass

from novakube_crds.base import FINALIZER, SYSTEM_NAMESPACE
from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.hypervisor import HYPERVISOR
from novakube_crds.v1alpha1.hypervisorreport import HYPERVISORREPORT
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.errors import Conflict, NotFound
from novakube_kit.kube import Json, KubePort
from novakube_kit.resources import LEASES, resource_of
from novakube_operator.manage_verbs import Answer, Verb, argument, on_cluster

LEASE = "novakube-operator"
PAGE = 500
WATCHED_S = 6.0
"""A leader renews every 2 s."""
OF_NODES = (HYPERVISOR, HYPERVISORREPORT)
"""They say what a node is, and hold nobody's object."""
TRIES = 3


@dataclass(frozen=True, slots=True)
class Held:
    """An object that cannot vanish without the operator."""

    kind: Kind
    metadata: Json


async def _held(kube: KubePort, kinds: tuple[Kind, ...]) -> list[Held]:
    found = []
    for kind in kinds:
        answer = await kube.list(resource_of(kind), limit=PAGE, metadata_only=True)
        found += [
            Held(kind, item["metadata"])
            for item in answer["items"]
            if FINALIZER in item["metadata"].get("finalizers", [])
        ]
    return found


def refusal(held: list[Held]) -> str:
    """What is still there, by kind, and what to do about it."""
    counts = Counter(one.kind.kind for one in held)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return (
        f"objects that only the operator lets go: {listed}. Delete them while it runs "
        "(kubectl delete instances --all --all-namespaces, then the rest); or keep the machines "
        "and let go of the objects: kubectl -n novakube-system scale deployment "
        "novakube-operator --replicas=0, then novakube-manage uninstall --release"
    )


async def _uninstall(kube: KubePort, args: Namespace) -> Answer:
    if args.release:
        return await _release(kube)
    held = await _held(kube, tuple(kind for kind in KINDS if kind not in OF_NODES))
    if held:
        raise Conflict(refusal(held))
    return Answer("nothing holds novakube: helm uninstall novakube", {"held": 0})


async def _release(kube: KubePort) -> Answer:
    """Takes our finalizer off every object; no order to destroy anything is given.

    Raises:
        Conflict: an operator leads: it would put them on again.
    """
    if await _led(kube):
        raise Conflict(
            "an operator runs and would take hold again: kubectl -n novakube-system scale "
            "deployment novakube-operator --replicas=0"
        )
    held = await _held(kube, tuple(KINDS))
    for one in held:
        await _let_go(kube, one)
    return Answer(
        f"let go of {len(held)} objects; machines run on, and a new installation finds them",
        {"released": len(held)},
    )


async def _led(kube: KubePort) -> bool:
    """Whether somebody renews the operator's Lease."""
    try:
        before = await kube.get(LEASES, LEASE, SYSTEM_NAMESPACE)
        await asyncio.sleep(WATCHED_S)
        after = await kube.get(LEASES, LEASE, SYSTEM_NAMESPACE)
    except NotFound:
        return False
    return bool(before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"])


async def _let_go(kube: KubePort, one: Held) -> None:
    resource, metadata = resource_of(one.kind), one.metadata
    for attempt in range(TRIES):
        rest = [name for name in metadata.get("finalizers", []) if name != FINALIZER]
        change = {"resourceVersion": metadata["resourceVersion"], "finalizers": rest}
        try:
            await kube.patch(
                resource, metadata["name"], {"metadata": change}, metadata.get("namespace")
            )
        except NotFound:
            return
        except Conflict:
            if attempt == TRIES - 1:
                raise
            found = await kube.get(resource, metadata["name"], metadata.get("namespace"))
            metadata = found["metadata"]
        else:
            return


VERBS = (
    Verb("uninstall", "", "whether objects hold novakube in the cluster; exit code 1 while any do",
         on_cluster(_uninstall),
         (argument("--release", action="store_true",
                   help="take our finalizer off all objects; no machine ends"),)),
)  # fmt: skip
