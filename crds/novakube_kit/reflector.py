"""List and watch of one resource, told as a gapless sequence of changes.

Whoever follows a resource (store, work queue) gives a handler. What the API's protocol makes
easy to lose is handled here: objects that vanished while no watch was open are told as
DELETED, an expired resourceVersion leads to a new list, a silent connection is given up. A
store that went back in time (etcd restored from a backup) is told from a server that is behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from novakube_kit.api_errors import EXPIRED, VERSION_TOO_LARGE
from novakube_kit.backoff import Backoff
from novakube_kit.errors import ApiUnavailable, NovakubeError, Retryable, StateRolledBack
from novakube_kit.kube import Json, KubePort, Resource, WatchEvent
from novakube_kit.metrics import WATCH_ERRORS, WATCH_EVENTS, WATCH_LISTS
from novakube_kit.objects import Key, key_of

_log = logging.getLogger(__name__)

WATCH_TIMEOUT_S = 300
INACTIVITY_S = 150.0
"""Without events the API server sends a bookmark about every minute; silence this long is a
dead connection. Source: bookmarkFrequency in k8s.io/apiserver storage/cacher."""
PAGE = 500
"""client-go's default page size."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0

Handler = Callable[[WatchEvent], None]
Listed = Callable[[frozenset[Key], str], None]


class _Seen(NamedTuple):
    uid: str
    resource_version: str
    object: Json | None


class Reflector:
    """Follows a resource, or one namespace or selection of it, until cancelled.

    The handler gets ADDED, MODIFIED and DELETED, in order, each change at least once; it must
    be quick and must not raise (a raise is logged with its traceback and counted, the event
    is not repeated). A DELETED found by a list carries the last object where ``keep_objects``
    is set, else only metadata (namespace, name, uid, resourceVersion). An object replaced by
    another of its name is told as DELETED and ADDED.
    """

    def __init__(
        self,
        kube: KubePort,
        res: Resource,
        handler: Handler,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        listed: Listed | None = None,
        keep_objects: bool = False,
        watch_timeout_s: int = WATCH_TIMEOUT_S,
        inactivity_s: float = INACTIVITY_S,
    ) -> None:
        """Sets up; ``run`` works.

        Args:
            kube: the API as the identity that may list and watch.
            res: what to follow.
            handler: told every change.
            namespace: None: all.
            label_selector: as in the API.
            field_selector: as in the API.
            listed: told the keys and resourceVersion of every complete list, after its
                changes were told (a store drops what it holds from elsewhere).
            keep_objects: keep the last JSON of each object; default is uid and version only.
            watch_timeout_s: seconds after which the server ends a watch.
            inactivity_s: seconds without event or bookmark after which a watch is given up.
        """
        self._kube = kube
        self._res = res
        self._handler = handler
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._listed = listed
        self._keep_objects = keep_objects
        self._watch_timeout_s = watch_timeout_s
        self._inactivity_s = inactivity_s
        self._known: dict[Key, _Seen] = {}
        self._version: str | None = None
        self._newest = 0
        self._backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MAX_S)
        self.synced = asyncio.Event()
        """Set once the first list was told completely; never cleared."""
        self.failure: NovakubeError | None = None
        """Why the reflector has no open watch now; None while all is well. For /healthz."""

    @property
    def resource_version(self) -> str | None:
        """Version up to which everything was told; None before the first list."""
        return self._version

    def keys(self) -> frozenset[Key]:
        """Keys that exist as far as was told."""
        return frozenset(self._known)

    async def run(self) -> None:
        """Follows until cancelled; errors are waited out with backoff, 0.5 s to 30 s.

        Raises:
            StateRolledBack: what was told is newer than all there is: no sequence of changes
                leads from one to the other, so the process must start anew.
        """
        while True:
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except StateRolledBack:
                raise
            except NovakubeError as error:
                await self._failed(error)

    async def _failed(self, error: NovakubeError) -> None:
        WATCH_ERRORS.labels(self._res.plural, error.reason).inc()
        asked_s = error.after_s if isinstance(error, Retryable) else None
        if error.reason in (EXPIRED, VERSION_TOO_LARGE):
            # The watch can't go on from there: list again, at once the first time.
            self._version = None
            _log.info("watch of %s: %s; listing again", self._res.plural, error.reason)
        else:
            self.failure = error
            if isinstance(error, ApiUnavailable):
                # What answers next may be another store, older than what was told: a watch that
                # begins in its future is silent until it gets there. Only a list shows that.
                self._version = None
            # One that says when to come back has a reason of its own, such as a CRD's first watch.
            level = logging.WARNING if asked_s is None else logging.INFO
            _log.log(level, "watch of %s failed: %s", self._res.plural, error)
        await asyncio.sleep(self._backoff.next_s(asked_s))

    async def _list(self) -> None:
        WATCH_LISTS.labels(self._res.plural).inc()
        answer = await self._kube.list(
            self._res,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=PAGE,
        )
        version: str = answer["metadata"]["resourceVersion"]
        if int(version) < self._newest:
            raise StateRolledBack(
                f"{self._res.plural}: the API's store is at version {version}, {self._newest} was "
                "seen before: it was restored from a backup"
            )
        self._newest = int(version)
        current = {key_of(item): item for item in answer["items"]}
        for key in self._known.keys() - current.keys():
            self._vanished(key, version)
        for key, item in current.items():
            self._listed_one(key, item, version)
        self._version = version
        if self._listed is not None:
            self._listed(frozenset(current), version)
        self.failure = None
        self.synced.set()

    def _listed_one(self, key: Key, item: Json, version: str) -> None:
        seen = self._known.get(key)
        if seen is not None and seen.uid != item["metadata"]["uid"]:
            self._vanished(key, version)
            seen = None
        if seen is None:
            self._tell(WatchEvent("ADDED", item))
        elif int(item["metadata"]["resourceVersion"]) < int(seen.resource_version):
            where = "/".join(part for part in key if part)
            raise StateRolledBack(
                f"{self._res.plural} {where}: the API's store has it at version "
                f"{item['metadata']['resourceVersion']}, {seen.resource_version} was seen before: "
                "it was restored from a backup"
            )
        elif seen.resource_version != item["metadata"]["resourceVersion"]:
            self._tell(WatchEvent("MODIFIED", item))

    def _vanished(self, key: Key, version: str) -> None:
        seen = self._known[key]
        gone: Json = {"metadata": {"name": key[1], "uid": seen.uid}}
        if key[0]:
            gone["metadata"]["namespace"] = key[0]
        if seen.object is not None:
            gone = {**seen.object, "metadata": dict(seen.object["metadata"])}
        # Like the API's own DELETED, it carries the version at which it was known to be gone.
        gone["metadata"]["resourceVersion"] = version
        self._tell(WatchEvent("DELETED", gone))

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        events = self._kube.watch(
            self._res,
            self._namespace,
            resource_version=self._version or "0",
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_s=self._watch_timeout_s,
        )
        count = 0
        async for event in self._lively(events):
            count += 1
            self.failure = None
            self._backoff.reset()
            self._version = event.object["metadata"]["resourceVersion"]
            self._newest = max(self._newest, int(self._version))
            if event.type != "BOOKMARK":
                self._tell(event)
        if not count and loop.time() - started < 1.0:
            # An API server that ends watches at once must not be asked in a hot loop.
            raise ApiUnavailable(f"watch of {self._res.plural} ended as soon as it began")
        self.failure = None

    async def _lively(self, events: AsyncIterator[WatchEvent]) -> AsyncIterator[WatchEvent]:
        """The events, each within the inactivity limit; closes the request in every case."""
        try:
            while True:
                async with asyncio.timeout(self._inactivity_s):
                    event = await anext(events, None)
                if event is None:
                    return
                yield event
        except TimeoutError as error:
            raise ApiUnavailable(
                f"watch of {self._res.plural}: silent for {self._inactivity_s:.0f} s"
            ) from error
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    def _tell(self, event: WatchEvent) -> None:
        WATCH_EVENTS.labels(self._res.plural, event.type).inc()
        key, metadata = key_of(event.object), event.object["metadata"]
        if event.type == "DELETED":
            self._known.pop(key, None)
        else:
            kept = event.object if self._keep_objects else None
            self._known[key] = _Seen(metadata["uid"], metadata["resourceVersion"], kept)
        try:
            self._handler(event)
        except Exception:
            WATCH_ERRORS.labels(self._res.plural, "Handler").inc()
            _log.exception("handler of %s failed at %s/%s", self._res.plural, *key)
