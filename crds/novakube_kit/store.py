"""A process's own view of one kind, with indices.

Fed from two sides: a reflector's events and the answers to the process's own writes, so that
a decision made right after a write sees it. The newer resourceVersion wins, whichever side
brings it. Versions are compared as integers: with etcd they are one growing revision (the API
promises comparability from Kubernetes 1.35 on; all versions supported here use etcd's).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from novakube_crds.base import ApiModel
from novakube_crds.kind import Kind
from novakube_kit.errors import ApiUnavailable, InvalidSpec
from novakube_kit.kube import Json, KubePort, WatchEvent
from novakube_kit.objects import Key, Object, key_of, parse
from novakube_kit.reflector import Reflector
from novakube_kit.resources import resource_of

SpecT = TypeVar("SpecT", bound=ApiModel)
StatusT = TypeVar("StatusT", bound=ApiModel | None)
AnyObject = Object[Any, Any]
Index = Callable[[AnyObject], Iterable[Hashable]]
Changed = Callable[[AnyObject | None, AnyObject | None], None]
"""Old and new; None where there is none."""

_log = logging.getLogger(__name__)

GRAVES = 4096
"""Deleted uids remembered, so that late answers and echoes do not bring them back."""


class Store(Generic[SpecT, StatusT]):
    """Objects of a kind by key, by uid and by secondary indices. One event loop only."""

    def __init__(
        self,
        kind: Kind,
        *,
        indices: Mapping[str, Index] | None = None,
        changed: Changed | None = None,
    ) -> None:
        """Makes an empty store.

        Args:
            kind: what it holds.
            indices: name -> function giving the values an object is found by.
            changed: called after each change with the old and the new object.
        """
        self.kind = kind
        self._objects: dict[Key, Object[SpecT, StatusT]] = {}
        self._keys: dict[str, Key] = {}
        self._functions = dict(indices or {})
        self._indices: dict[str, dict[Hashable, set[Key]]] = {name: {} for name in self._functions}
        self._changed = changed
        self._graves: OrderedDict[str, None] = OrderedDict()
        self._waiters: dict[Key, list[asyncio.Event]] = {}
        self.unreadable: dict[Key, str] = {}
        """Objects that do not fit the model, with the reason; they are not in the store."""

    def reflector(
        self,
        kube: KubePort,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Reflector:
        """A reflector that feeds this store."""
        return Reflector(
            kube,
            resource_of(self.kind),
            self.handle,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            listed=self.retain,
        )

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object[SpecT, StatusT]]:
        """All objects at this moment."""
        return iter(tuple(self._objects.values()))

    def get(self, namespace: str | None, name: str) -> Object[SpecT, StatusT] | None:
        """The object of that name; ``None`` or "" is the namespace of cluster kinds."""
        return self._objects.get((namespace or "", name))

    def by_uid(self, uid: str) -> Object[SpecT, StatusT] | None:
        """The object of that uid."""
        key = self._keys.get(uid)
        return None if key is None else self._objects.get(key)

    def by(self, index: str, value: Hashable) -> tuple[Object[SpecT, StatusT], ...]:
        """Objects found by a value of an index, in the order of their keys."""
        return tuple(self._objects[key] for key in sorted(self._indices[index].get(value, ())))

    def any(self, index: str, value: Hashable) -> Object[SpecT, StatusT] | None:
        """One of the objects that an index finds, whichever; constant time."""
        key = next(iter(self._indices[index].get(value, ())), None)
        return None if key is None else self._objects[key]

    def count(self, index: str, value: Hashable) -> int:
        """How many objects an index finds; constant time."""
        return len(self._indices[index].get(value, ()))

    def handle(self, event: WatchEvent) -> None:
        """Takes an event of a watch."""
        if event.type == "DELETED":
            metadata = event.object["metadata"]
            self.unreadable.pop(key_of(event.object), None)
            # The answer to our own last write may come after this event.
            self._bury(metadata["uid"])
            self._drop(key_of(event.object), metadata["uid"])
        else:
            self.observe(event.object)

    def observe(self, obj: Json) -> Object[SpecT, StatusT] | None:
        """Takes an object as a watch or a write's answer gave it; the newer version stays.

        Returns what the store now holds: None for an object known to be deleted or one that
        does not fit the model (logged, and listed in ``unreadable``).
        """
        key, metadata = key_of(obj), obj["metadata"]
        held = self._objects.get(key)
        if metadata["uid"] in self._graves:
            return held
        if held is not None and int(held.resource_version) >= int(metadata["resourceVersion"]):
            return held
        try:
            new = cast("Object[SpecT, StatusT]", parse(self.kind, obj))
        except InvalidSpec as error:
            _log.error("unreadable object: %s", error)
            self.unreadable[key] = error.message
            return None
        self.unreadable.pop(key, None)
        if new.deleting and not new.finalizers:
            # The write that removed the last finalizer deleted the object.
            self._bury(new.uid)
            self._drop(key, new.uid)
            return None
        self._put(key, new)
        return new

    def forget(self, uid: str) -> None:
        """A delete of ours was answered with the object gone: later echoes are ignored."""
        self._bury(uid)
        key = self._keys.get(uid)
        if key is not None:
            self._drop(key, uid)

    def _bury(self, uid: str) -> None:
        self._graves[uid] = None
        while len(self._graves) > GRAVES:
            self._graves.popitem(last=False)

    def retain(self, keys: frozenset[Key], version: str) -> None:
        """A list made at ``version`` held exactly ``keys``: drops what vanished unseen.

        Objects written by ourselves after the list are newer than it and stay.
        """
        for key, held in tuple(self._objects.items()):
            if key not in keys and int(held.resource_version) <= int(version):
                self._drop(key, held.uid)

    def rolled_back(self, listed: Mapping[Key, tuple[str, int]], version: int) -> Key | None:
        """An object that a list made at ``version`` has older than it was before; None: none.

        What we wrote after the list is newer than it, and no sign of anything.

        Args:
            listed: key -> UID and resourceVersion, as the list has them.
            version: the list's own.
        """
        for key, (uid, found) in listed.items():
            held = self._objects.get(key)
            if (
                held is not None
                and held.uid == uid
                and found < int(held.resource_version) <= version
            ):
                return key
        return None

    def behind(self, listed: Mapping[Key, tuple[str, int]]) -> list[Key]:
        """Objects that a list has and this store lacks or holds in an older version.

        Args:
            listed: key -> UID and resourceVersion, as the list has them.
        """
        return [
            key
            for key, (uid, found) in listed.items()
            if uid not in self._graves
            and ((held := self._objects.get(key)) is None or int(held.resource_version) < found)
        ]

    async def wait_for(
        self, namespace: str | None, name: str, version: str, *, deadline_s: float
    ) -> None:
        """Returns once the object is held at that version or a newer one.

        Raises:
            ApiUnavailable: it was not within ``deadline_s``.
        """
        key = (namespace or "", name)
        try:
            async with asyncio.timeout(deadline_s):
                while not self._has(key, int(version)):
                    await self._next_change(key)
        except TimeoutError as error:
            raise ApiUnavailable(
                f"{self.kind.kind} {namespace}/{name} did not reach version {version} here "
                f"within {deadline_s:g} s"
            ) from error

    def _has(self, key: Key, version: int) -> bool:
        held = self._objects.get(key)
        return held is not None and int(held.resource_version) >= version

    async def _next_change(self, key: Key) -> None:
        event = asyncio.Event()
        waiting = self._waiters.setdefault(key, [])
        waiting.append(event)
        try:
            await event.wait()
        finally:
            waiting.remove(event)
            if not waiting:
                self._waiters.pop(key, None)

    def _put(self, key: Key, new: Object[SpecT, StatusT]) -> None:
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = new
        self._keys[new.uid] = key
        for name, function in self._functions.items():
            for value in function(new):
                self._indices[name].setdefault(value, set()).add(key)
        self._announce(key, old, new)

    def _drop(self, key: Key, uid: str) -> None:
        """Removes the object unless another one took its name meanwhile."""
        held = self._objects.get(key)
        if held is None or held.uid != uid:
            return
        self._unindex(key, held)
        del self._objects[key]
        self._announce(key, held, None)

    def _unindex(self, key: Key, old: Object[SpecT, StatusT]) -> None:
        self._keys.pop(old.uid, None)
        for name, function in self._functions.items():
            entries = self._indices[name]
            for value in function(old):
                members = entries.get(value)
                if members is not None:
                    members.discard(key)
                    if not members:
                        del entries[value]

    def _announce(
        self, key: Key, old: Object[SpecT, StatusT] | None, new: Object[SpecT, StatusT] | None
    ) -> None:
        for waiter in self._waiters.get(key, ()):
            waiter.set()
        if self._changed is not None:
            self._changed(old, new)
