"""Kubernetes Events about our objects: on transitions only, never in a reconcile's way."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

from novakube_crds.kind import Kind
from novakube_kit.api_errors import NAMESPACE_TERMINATING
from novakube_kit.clock import Clock, SystemClock, timestamp
from novakube_kit.errors import NovakubeError
from novakube_kit.kube import Json, KubePort
from novakube_kit.metrics import EVENTS_DROPPED, EVENTS_SENT
from novakube_kit.resources import EVENTS

_log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]

QUEUE_MAX = 1000
REMEMBERED = 8192
"""(object, reason) pairs whose last message is remembered, about 300 bytes each."""
MESSAGE_MAX = 1024
"""Source: ValidateEvent in Kubernetes' pkg/apis/core/validation/events.go."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object an Event is about."""

    api_version: str
    kind: str
    namespace: str
    """Empty for cluster-scoped objects; their Events are in namespace ``default``."""
    name: str
    uid: str


def regarding(kind: Kind, namespace: str | None, name: str, uid: str) -> Regarding:
    """An object of one of our kinds."""
    return Regarding(f"{kind.group}/{kind.version}", kind.kind, namespace or "", name, uid)


class _Item(NamedTuple):
    about: Regarding
    type: EventType
    reason: str
    message: str
    when: str


class EventRecorder:
    """Writes Events in the background.

    An Event whose message equals the last one of the same object and reason is not written
    again. When the queue (1000) is full new ones are dropped and counted; so are those the
    API refuses. Nothing here ever raises into a reconcile.
    """

    def __init__(
        self,
        kube: KubePort,
        component: str,
        *,
        instance: str = "",
        clock: Clock | None = None,
    ) -> None:
        """Args: component: such as ``novakube-operator``; instance: pod or node name."""
        self._kube = kube
        self._component = component
        self._instance = instance
        self._clock = clock or SystemClock()
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(QUEUE_MAX)
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()

    def record(self, about: Regarding, type_: EventType, reason: str, message: str) -> None:
        """Puts an Event in line unless it repeats the last one; returns at once.

        Args:
            about: the object.
            type_: Normal or Warning.
            reason: one CamelCase word.
            message: a sentence; cut after 1024 bytes.
        """
        key = (about.uid, reason)
        repeated = self._last.get(key) == message
        self._last[key] = message
        self._last.move_to_end(key)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        if repeated:
            return
        item = _Item(about, type_, reason, message, timestamp(self._clock.now()))
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            EVENTS_DROPPED.labels("QueueFull").inc()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            item = await self._queue.get()
            try:
                await self._kube.create(
                    EVENTS, self._event(item), item.about.namespace or "default"
                )
                EVENTS_SENT.labels(item.reason).inc()
            except NovakubeError as error:
                # An Event is news, not state: the condition holds what it said.
                EVENTS_DROPPED.labels(error.reason).inc()
                # Nobody reads the Events of a namespace that is being deleted.
                ending = error.reason == NAMESPACE_TERMINATING
                _log.log(
                    logging.INFO if ending else logging.WARNING,
                    "event %s of %s %s dropped: %s",
                    item.reason,
                    item.about.kind,
                    item.about.name,
                    error,
                )
            finally:
                self._queue.task_done()

    async def drain(self, deadline_s: float = 5.0) -> None:
        """Waits until all in line are written, at most ``deadline_s``; the rest is dropped."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._queue.join()
        except TimeoutError:
            EVENTS_DROPPED.labels("Shutdown").inc(self._queue.qsize())

    def _event(self, item: _Item) -> Json:
        about = item.about
        reference: Json = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "uid": about.uid,
        }
        if about.namespace:
            reference["namespace"] = about.namespace
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                # 253 is the limit of a name; the object's may use all of it.
                "name": f"{about.name[:220]}.{uuid.uuid4().hex[:16]}",
                "namespace": about.namespace or "default",
            },
            "involvedObject": reference,
            "type": item.type,
            "reason": item.reason,
            "message": item.message.encode()[:MESSAGE_MAX].decode(errors="ignore"),
            "firstTimestamp": item.when,
            "lastTimestamp": item.when,
            "count": 1,
            "source": {"component": self._component, "host": self._instance},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }
