"""A user's Port that is deleted: its addresses are free once no Instance claims it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from novakube_crds.base import FINALIZER
from novakube_kit.objects import Key, Object
from novakube_operator.instances.context import Context

AnyObject = Object[Any, Any]


class PortController:
    """One pass over one deleted Port."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Ports that the operator made go with their Instance."""
        port = self._context.stores.of("ports").get(*key)
        if port is None or not port.deleting or FINALIZER not in port.finalizers:
            return None
        if port.owner_uids or port.status.claim is not None:
            return None
        for address in self._context.by("ipaddresses", "claim", port.uid):
            await self._context.remove(address)
        await self._context.release(port)
        return None

    def keys(self) -> list[Key]:
        """All Ports."""
        return [obj.key for obj in self._context.stores.of("ports")]

    def wakes(
        self, plural: str, _: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        """Deleted Ports."""
        if plural == "ports" and new is not None and new.deleting:
            yield new.key, 0.0
