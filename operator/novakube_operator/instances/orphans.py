"""What an Instance that vanished without being deleted leaves: kept, told of, given free at last.

That takes stripped finalizers, a deleted CRD or an API server with an older or an empty store.
Its Guests are let go without an order: their VMs run on as domains that belong to nobody, which
their nodes report, an Instance of that id takes over and ``novakube-manage vm`` ends. Addresses
and Ports stay claimed as long as any of that is there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from novakube_crds.v1alpha1.guest import InstanceIdentity
from novakube_kit.errors import NotFound, NovakubeError
from novakube_kit.objects import Key, Object
from novakube_operator.instances.context import RESOURCES, Context
from novakube_operator.instances.delete import refuse_while_crd_goes

AnyObject = Object[Any, Any]
HOLDERS = {"Instance": "instances", "Port": "ports"}
"""Kind of a claim's holder -> its plural."""
Suspect = tuple[AnyObject, str, str, str]
"""A claim; its holder's plural, namespace and UID."""
SWEEP_S = 300.0
"""Between two looks at all claims."""
log = logging.getLogger(__name__)


async def let_go(context: Context, key: Key) -> None:
    """Guests of an Instance that is not there, nor known to be coming.

    Raises:
        Retryable: the Instances' CRD is missing or going: it may come back with all of them.
    """
    for guest in context.by("guests", "of", key):
        identity = guest.spec.instance
        if context.stores.of("instances").by_uid(identity.uid) is not None:
            continue
        if guest.spec.teardown is not None:
            if guest.status.phase == "Gone":
                await context.remove(guest)
            continue
        await refuse_while_crd_goes(context)
        if await _exists(context, identity):
            continue
        log.warning(
            "instance %s/%s %s vanished without being deleted: its guest %s is kept on %s",
            identity.namespace, identity.name, identity.uid, guest.name, guest.spec.hypervisor,
        )  # fmt: skip
        await context.remove(guest)
        context.vanished.pop(identity.uid, None)


async def _exists(context: Context, identity: InstanceIdentity) -> bool:
    """A fresh read: no Guest is let go because a store is behind."""
    try:
        raw = await context.kube.get(RESOURCES["instances"], identity.name, identity.namespace)
    except NotFound:
        return False
    return bool(raw["metadata"]["uid"] == identity.uid)


class Sweep:
    """Frees Ports and addresses of those who are gone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._suspects: frozenset[str] = frozenset()
        """UIDs of the claims that the last look could not explain."""

    async def run(self) -> None:
        """Looks every ``SWEEP_S`` until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.look()
            except NovakubeError as error:
                log.warning("sweep of addresses failed, goes on later: %s", error.message)

    async def look(self) -> None:
        """One look: what was unexplained twice and is refuted by a fresh read is freed."""
        suspects = [*self._ports(), *self._addresses()]
        for claim, plural, namespace, uid in suspects:
            if claim.uid in self._suspects and uid not in await self._uids(plural, namespace):
                log.warning("%s/%s is held by nobody and freed", claim.namespace, claim.name)
                await self._context.remove(claim)
        self._suspects = frozenset(claim.uid for claim, *_ in suspects)

    async def _uids(self, plural: str, namespace: str) -> set[str]:
        """A fresh read: nothing is freed because a store is behind."""
        listed = await self._context.kube.list(RESOURCES[plural], namespace, metadata_only=True)
        return {item["metadata"]["uid"] for item in listed["items"]}

    def _ports(self) -> list[Suspect]:
        """Ports the operator made for Instances that are not there."""
        return [
            (port, "instances", port.namespace, uid)
            for port in self._context.stores.of("ports")
            for uid in port.owner_uids[:1]
            if port.deleting and self._unheld(uid)
        ]

    def _addresses(self) -> list[Suspect]:
        return [
            (address, HOLDERS[claim.kind], claim.namespace, claim.uid)
            for address in self._context.stores.of("ipaddresses")
            for claim in (address.spec.claim,)
            if claim.kind in HOLDERS
            and self._context.stores.of(HOLDERS[claim.kind]).by_uid(claim.uid) is None
            and self._unheld(claim.uid)
        ]

    def _unheld(self, uid: str) -> bool:
        """No Instance, no Guest and no domain of that UID is known."""
        stores = self._context.stores
        return (
            stores.of("instances").by_uid(uid) is None
            and stores.of("guests").any("instance", uid) is None
            and stores.of("hypervisorreports").any("orphan", uid) is None
        )
