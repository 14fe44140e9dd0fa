"""One pass over one Instance, and what wakes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from novakube_kit.objects import Key, Object
from novakube_operator.core.adoption import Adopt, Await, done_with
from novakube_operator.core.follow import given_up
from novakube_operator.core.instance_status import newest
from novakube_operator.instances.adopt import adopt, next_of, wait_for_node
from novakube_operator.instances.context import Context
from novakube_operator.instances.create import create
from novakube_operator.instances.delete import delete
from novakube_operator.instances.follow import follow
from novakube_operator.instances.orphans import let_go

AnyObject = Object[Any, Any]


class InstanceController:
    """Observe, decide, apply, report."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._unplaced: set[Key] = set()
        """Instances without a Guest: looked at again when capacity changes."""

    async def reconcile(self, key: Key) -> float | None:
        """One pass."""
        context = self._context
        obj = context.stores.of("instances").get(*key)
        self._unplaced.discard(key)
        await let_go(context, key)
        if obj is None:
            return None
        guests = await self._let_go(context.by("guests", "instance", obj.uid))
        if obj.deleting:
            return await delete(context, obj, guests)
        if context.stores.terminating(obj.namespace):
            return None
        guest = newest(guests)
        await self._end_older(guests, guest)
        return await self._go_on(obj, guest)

    async def _let_go(self, guests: tuple[AnyObject, ...]) -> tuple[AnyObject, ...]:
        """Guests that go with their node's namespace; returns the rest.

        Our finalizer would keep the namespace, and so its next one, from coming. Their VMs are
        taken over or fenced as those of any Guest that vanished.
        """
        left = []
        for guest in guests:
            if guest.deleting and self._context.stores.terminating(guest.namespace):
                await self._context.release(guest)
            else:
                left.append(guest)
        return tuple(left)

    async def _go_on(self, obj: AnyObject, guest: AnyObject | None) -> float | None:
        """An Instance that is to be there: adopt, follow, wait or create."""
        context = self._context
        found = next_of(context, obj, guest)
        if guest is None and found is None:
            return await self._create(obj)
        obj = await context.finalize(obj)
        if isinstance(found, Adopt):
            return await adopt(context, obj, found)
        if isinstance(found, Await) and guest is None:
            return await wait_for_node(context, obj, found)
        assert guest is not None
        return await self._follow(obj, guest)

    async def _create(self, obj: AnyObject) -> float | None:
        if given_up(obj) or (obj.status.state == "Error" and obj.status.launched_at is not None):
            return None
        self._unplaced.add(obj.key)
        after = await create(self._context, obj)
        if after is not None:
            self._unplaced.discard(obj.key)
        return after

    async def _follow(self, obj: AnyObject, guest: AnyObject) -> float | None:
        """A Guest made just now needs no look until its node answers or is slow."""
        answered = guest.status.phase != "Pending" or guest.spec.teardown is not None
        now_s = self._context.clock.monotonic()
        left_s = self._context.patience.left_s(guest.uid, now_s, answered=answered)
        if left_s is not None:
            return left_s
        return await follow(self._context, obj, guest)

    async def _end_older(self, guests: tuple[AnyObject, ...], kept: AnyObject | None) -> None:
        """Superseded incarnations are torn down."""
        for guest in guests:
            if guest is kept or kept is None or not done_with(guest, kept):
                continue
            if guest.status.phase == "Gone":
                await self._context.remove(guest)
            elif guest.spec.teardown is None:
                await self._context.patch(guest, {"spec": {"teardown": "Destroy"}})

    def keys(self) -> set[Key]:
        """All Instances, and those that only Guests tell of."""
        named = {obj.key for obj in self._context.stores.of("instances")}
        guests = (guest.spec.instance for guest in self._context.stores.of("guests"))
        return named | {(identity.namespace, identity.name) for identity in guests}

    def wakes(
        self, plural: str, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        """Instances that a change concerns; index lookups only."""
        obj = new or old
        if obj is None:
            return
        yield from self._context.quota.ledger.instances(plural, old, new)
        if plural == "instances":
            yield obj.key, 0.0
        elif plural == "guests":
            yield from self._of_guest(obj, old, new)
        elif plural == "hypervisorreports":
            yield from self._of_report(old, new)
        elif plural == "hypervisors":
            yield from self._of_hypervisor(old, new)
        elif plural == "aggregates":
            yield from self._waiting() if old is None or old.spec != obj.spec else ()
        elif plural == "servergroups":
            names = (obj.name, obj.uid, obj.spec.id)
            yield from self._of_hint("hintedGroup", obj.namespace, names if old is None else ())
        else:
            yield from self._of_reference(plural, obj)

    def _of_guest(
        self, obj: AnyObject, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        identity = obj.spec.instance
        yield (identity.namespace, identity.name), 0.0
        if new is None:
            self._context.patience.forget(obj.uid)
            self._went(obj)
        if new is None or self._build_made_room(old, new):
            yield from self._waiting()
        if old is None:
            names = (identity.name, identity.uid, identity.id)
            yield from self._of_hint("hintedInstance", identity.namespace, names)

    def _build_made_room(self, old: AnyObject | None, new: AnyObject | None) -> bool:
        """Whether a build ended where the number of builds is limited."""
        if "io-ops" not in self._context.pipeline.filter_names or old is None or new is None:
            return False
        before, after = old.status.phase, new.status.phase
        return before in ("Pending", "Building") and after not in ("Pending", "Building")

    def _of_hint(
        self, index: str, namespace: str, names: Iterable[str | None]
    ) -> Iterator[tuple[Key, float]]:
        """Instances that wait for what their hint names."""
        for name in names:
            for instance in self._context.by("instances", index, (namespace, name)):
                if instance.status.launched_at is None:
                    yield instance.key, 0.0

    def _went(self, guest: AnyObject) -> None:
        """A Guest's object is gone; unless the node said Gone before, its VM is not."""
        if guest.status.phase != "Gone":
            self._context.vanished[guest.spec.instance.uid] = guest

    def _of_report(
        self, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        """Domains without a Guest came or went; what went may have held an address."""
        before, now = _strays(old), _strays(new)
        for key in before ^ now:
            yield key, 0.0
        if before - now:
            yield from self._waiting()

    def _waiting(self) -> Iterator[tuple[Key, float]]:
        for key in tuple(self._unplaced):
            yield key, 0.0

    def _of_hypervisor(
        self, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        """More room may have come; a node that falls silent shows in its Instances."""
        if old is None or new is None or _placing(old) != _placing(new):
            yield from self._waiting()
        obj = new or old
        if obj is None or (old and new and old.status.conditions == new.status.conditions):
            return
        for guest in self._context.by("guests", "node", obj.name):
            identity = guest.spec.instance
            yield (identity.namespace, identity.name), 0.0

    def _of_reference(self, plural: str, obj: AnyObject) -> Iterator[tuple[Key, float]]:
        index = _REFERENCES.get(plural)
        if index is None:
            return
        value = obj.name if plural in ("flavors", "keypairs") else obj.key
        if plural == "keypairs":
            value = obj.spec.display_name or obj.name
        for instance in self._context.by("instances", index, value):
            if instance.status.launched_at is None:
                yield instance.key, 0.0
        if plural in ("subnets", "ipaddresses"):
            yield from self._waiting()


def _placing(hypervisor: AnyObject) -> tuple[Any, ...]:
    """What the scheduler reads of a Hypervisor; its totals are rolled up long after the fact."""
    status = hypervisor.status
    return (
        hypervisor.spec, status.conditions, status.capacity, status.availability_zone,
        status.cpu, status.traits, status.version, status.hypervisor_type, status.virt_type,
    )  # fmt: skip


def _strays(report: AnyObject | None) -> set[Key]:
    """Instances that a node has domains of without a Guest."""
    orphans = report.status.orphans if report is not None else ()
    return {(item.instance_namespace, item.instance_name) for item in orphans}


_REFERENCES = {
    "flavors": "flavor",
    "images": "image",
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "keypairs": "keys",
    "ipaddresses": "network",
}
"""Plural -> the index of Instances that refer to it."""
