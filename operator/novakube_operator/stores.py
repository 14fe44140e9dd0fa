"""The operator's view of the cluster: a store per kind, Nodes and Namespaces by name.

Kinds that users write are fed by kopf's events and by relists, kinds that our own processes
write by reflectors of the kit (a create makes five of its nine events there, and kopf spends
milliseconds on each); both by the answers to our own writes. Everything a reconcile looks up it
finds here by an index; nothing lists in a reconcile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.errors import NotFound, StateRolledBack
from novakube_kit.kube import Json, KubePort, Resource, WatchEvent
from novakube_kit.objects import Key, key_of
from novakube_kit.reflector import Reflector
from novakube_kit.resources import NAMESPACES, NODES, resource_of
from novakube_kit.store import AnyObject, Index, Store
from novakube_operator.core.adoption import addresses_of
from novakube_operator.core.projects import Bindings
from novakube_operator.resources.judges import INDICES as JUDGES_INDICES

UNWATCHED = frozenset({"addressslices", "historyrecords"})
WATCHED: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind.plural not in UNWATCHED)
FOLLOWED = frozenset({"guests", "hypervisorreports", "hypervisors", "ipaddresses", "ports"})
"""What our own processes write most of: followed by reflectors."""
MADE_BY_LEADERS = frozenset({"guests", "ports"})
"""What a second leader may have made and a Quota counts."""
PAGE = 500
"""client-go's default page size."""
Changed = Callable[[str, AnyObject | None, AnyObject | None], None]


def _reference(obj: AnyObject, ref: Any) -> tuple[str, str]:
    return (getattr(ref, "namespace", None) or obj.namespace, ref.name)


def _requests(field: str) -> Index:
    def values(obj: AnyObject) -> list[tuple[str, str]]:
        refs = (getattr(request, field) for request in obj.spec.networks)
        return [_reference(obj, ref) for ref in refs if ref is not None]

    return values


def _hinted(*hints: str) -> Index:
    def values(obj: AnyObject) -> list[tuple[str, str]]:
        given = obj.spec.scheduler_hints
        return [(obj.namespace, value) for hint in hints for value in given.get(hint, ())]

    return values


def _claim(obj: AnyObject) -> list[str]:
    return [obj.status.claim.instance_uid] if obj.status.claim else []


def _group_hint(obj: AnyObject) -> list[tuple[str, str]]:
    return [(obj.namespace, name) for name in obj.spec.scheduler_hints.get("group", [])[:1]]


INDICES: dict[str, dict[str, Index]] = {
    "instances": {
        "flavor": lambda obj: [obj.spec.flavor.name],
        "image": lambda obj: [_reference(obj, obj.spec.image)],
        "network": _requests("network"),
        "subnet": _requests("subnet"),
        "port": _requests("port"),
        "id": lambda obj: [obj.spec.id] if obj.spec.id else [],
        "hintedGroup": _hinted("group"),
        "hintedInstance": _hinted("same_host"),
        "keys": lambda obj: [key.name for key in obj.spec.keys if key.public_key is None],
        "quotaGroup": _group_hint,
    },
    "instanceactions": {"instance": lambda obj: [(obj.namespace, obj.spec.instance.name)]},
    "guests": {
        "namespace": lambda obj: [obj.namespace],
        "node": lambda obj: [obj.spec.hypervisor],
        "network": lambda obj: [nic.network_uid for nic in obj.spec.nics],
        "instance": lambda obj: [obj.spec.instance.uid],
        "of": lambda obj: [(obj.spec.instance.namespace, obj.spec.instance.name)],
    },
    "hypervisorreports": {
        "orphan": lambda obj: {
            id for item in obj.status.orphans for id in (item.instance_uid, item.instance_id)
        },
        "orphanAddress": lambda obj: {
            held for item in obj.status.orphans for held in addresses_of(item)
        },
    },
    "ports": {"claim": _claim, "owner": lambda obj: obj.owner_uids},
    "ipaddresses": {
        "claim": lambda obj: [obj.spec.claim.uid],
        "address": lambda obj: [(obj.spec.network_uid, obj.spec.address)],
    },
    "quotas": {"user": lambda obj: [item.user_id for item in obj.spec.users]},
    "keypairs": {
        "name": lambda obj: [obj.spec.display_name or obj.name],
    },
}


class Stores:
    """All stores. One event loop only."""

    def __init__(self, changed: Changed) -> None:
        """``changed(plural, old, new)`` is told every change of one of our objects."""
        self.by_plural: dict[str, Store[Any, Any]] = {
            kind.plural: self._make(kind, changed) for kind in WATCHED
        }
        self.nodes: dict[str, Json] = {}
        self.namespaces: dict[str, Json] = {}
        self.bindings = Bindings()
        self.node_changed: Callable[[str], None] = lambda _: None
        self.namespace_changed: Callable[[str], None] = lambda _: None
        self._gaps: set[str] = set()
        self.gap = asyncio.Event()
        """Set when kopf listed a kind anew: deletions may have been missed."""
        self._listed = False
        self._listed_to = dict.fromkeys(MADE_BY_LEADERS, 0)
        self.listed_at = 0
        """Version at which Guests and Ports were last listed whole: what other leaders made up
        to then is here, whatever order the watches tell it in."""

    def _make(self, kind: Kind, changed: Changed) -> Store[Any, Any]:
        indices = {**JUDGES_INDICES.get(kind.plural, {}), **INDICES.get(kind.plural, {})}
        return Store(
            kind,
            indices=indices,
            changed=lambda old, new: changed(kind.plural, old, new),
        )

    def of(self, plural: str) -> Store[Any, Any]:
        """The store of a kind."""
        return self.by_plural[plural]

    def feed(self, plural: str, type: str | None, obj: Json) -> None:
        """Takes one event as kopf gives it; type None is an item of a list kopf made."""
        if type is None and self._listed:
            self._gaps.add(plural)
            self.gap.set()
        self.of(plural).handle(WatchEvent(type or "ADDED", obj))

    def feed_node(self, type: str | None, obj: Json) -> None:
        """Takes an event of a Node."""
        self._feed_raw(self.nodes, type, obj, self.node_changed)

    def feed_namespace(self, type: str | None, obj: Json) -> None:
        """Takes an event of a Namespace."""
        metadata = None if type == "DELETED" else obj["metadata"]
        others = self.bindings.changed(obj["metadata"]["name"], metadata)
        self._feed_raw(self.namespaces, type, obj, self.namespace_changed)
        for name in others:
            self.namespace_changed(name)

    def _feed_raw(
        self, held: dict[str, Json], type: str | None, obj: Json, changed: Callable[[str], None]
    ) -> None:
        name = obj["metadata"]["name"]
        if type == "DELETED":
            held.pop(name, None)
        else:
            held[name] = {"metadata": _slim(obj["metadata"])}
        changed(name)

    def wake_node(self, name: str) -> None:
        """A node's heartbeat began or stopped."""
        self.node_changed(name)

    def terminating(self, namespace: str) -> bool:
        """Whether a namespace is being deleted."""
        found = self.namespaces.get(namespace)
        return found is not None and bool(found["metadata"].get("deletionTimestamp"))

    def reflectors(self, kube: KubePort) -> list[Reflector]:
        """Whoever runs them keeps the stores of ``FOLLOWED`` up to date, without gaps."""
        return [
            Reflector(
                kube, resource_of(kind), self.of(kind.plural).handle,
                listed=partial(self._followed, kind.plural),
            )
            for kind in WATCHED
            if kind.plural in FOLLOWED
        ]  # fmt: skip

    def _followed(self, plural: str, keys: frozenset[Key], version: str) -> None:
        """A whole list of a kind: what we hold from our own writes beyond it has vanished.

        A list after the first follows an outage: what kopf watches is compared too, as kopf
        goes on where it was.
        """
        self.of(plural).retain(keys, version)
        if self._listed:
            self._gaps |= {kind.plural for kind in WATCHED} - FOLLOWED
            self.gap.set()
        if plural in MADE_BY_LEADERS:
            self._listed_to[plural] = int(version)
            self.listed_at = max(self.listed_at, min(self._listed_to.values()))

    async def load(self, kube: KubePort) -> None:
        """Lists what kopf watches once; with what is followed, the stores may be believed."""
        for kind in WATCHED:
            if kind.plural not in FOLLOWED:
                await self._list(kube, kind)
        for res, feed in ((NODES, self.feed_node), (NAMESPACES, self.feed_namespace)):
            for item in (await kube.list(res, limit=PAGE))["items"]:
                feed("ADDED", item)
        self._listed = True

    async def list_afresh(self, kube: KubePort) -> None:
        """Lists Guests and Ports whole, as the API server has them at this moment.

        Raises:
            ApiUnavailable: ``listed_at`` stays what it was.
        """
        kinds = [kind for kind in WATCHED if kind.plural in MADE_BY_LEADERS]
        versions = [await self._list(kube, kind) for kind in kinds]
        self.listed_at = max(self.listed_at, min(versions))

    async def _list(self, kube: KubePort, kind: Kind) -> int:
        answer = await kube.list(resource_of(kind), limit=PAGE)
        for item in answer["items"]:
            self.of(kind.plural).observe(item)
        return int(answer["metadata"]["resourceVersion"])

    async def relist(self, kube: KubePort, plurals: Iterable[str] | None = None) -> None:
        """Finds what changed or vanished while nobody watched.

        Names, uids and versions cross the wire, and the objects that are behind.

        Raises:
            ApiUnavailable, Conflict: nothing was dropped of the kinds not yet done.
            StateRolledBack: the process must start anew.
        """
        wanted = set(plurals) if plurals is not None else None
        for kind in WATCHED:
            if kind.plural not in FOLLOWED and (wanted is None or kind.plural in wanted):
                await self._relist(kube, resource_of(kind), kind.plural)

    def taken_gaps(self) -> set[str]:
        """The kinds kopf listed anew since the last call."""
        gaps, self._gaps = self._gaps, set()
        self.gap.clear()
        return gaps

    async def _relist(self, kube: KubePort, res: Resource, plural: str) -> None:
        answer = await kube.list(res, limit=PAGE, metadata_only=True)
        version = answer["metadata"]["resourceVersion"]
        listed = {
            key_of(item): (item["metadata"]["uid"], int(item["metadata"]["resourceVersion"]))
            for item in answer["items"]
        }
        older = self.of(plural).rolled_back(listed, int(version))
        if older is not None:
            raise StateRolledBack(
                f"{plural} {'/'.join(filter(None, older))} is older than it was: the API's store "
                "was restored from a backup"
            )
        self.of(plural).retain(frozenset(listed), version)
        for namespace, name in self.of(plural).behind(listed):
            # kopf may still tell of it; after an outage it may also have gone on past it.
            with contextlib.suppress(NotFound):
                self.of(plural).observe(await kube.get(res, name, namespace or None))


def _slim(metadata: Json) -> Json:
    kept = ("name", "uid", "labels", "deletionTimestamp", "resourceVersion")
    return {key: metadata[key] for key in kept if key in metadata}
