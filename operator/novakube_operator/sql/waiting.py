"""History that waits as objects: HistoryRecords in the system namespace.

etcd keeps them while the database is away, so that a killed operator or another leader finds
them again. Bounded in number and size; what does not fit is dropped and counted, because
losing history is allowed and filling etcd is not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from novakube_crds.base import SYSTEM_NAMESPACE
from novakube_crds.v1alpha1.historyrecord import HISTORYRECORD
from novakube_kit.clock import parse_timestamp
from novakube_kit.errors import AlreadyExists, NotFound
from novakube_kit.kube import Json, KubePort
from novakube_kit.resources import resource_of
from novakube_operator.sql.entries import (
    Entry,
    UnreadableRecord,
    from_record,
    record_name,
    to_record,
)

RESOURCE = resource_of(HISTORYRECORD)
RECORDS_MAX = 5_000
SIZE_MAX = 32 * 1024 * 1024
"""Characters of all rows; etcd's own default limit is 2 GiB for the whole cluster."""
PAGE = 500
AT_ONCE = 8
"""Deletes under way at the same time."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A HistoryRecord and what it holds."""

    name: str
    uid: str
    entry: Entry


class Records:
    """The HistoryRecords, as far as this process knows of them."""

    def __init__(self, kube: KubePort, *, most: int = RECORDS_MAX) -> None:
        """Args: most: bound of their number."""
        self._kube = kube
        self._most = most
        self._held: dict[str, tuple[datetime, int]] = {}
        self._size = 0
        self._loaded = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest of what waits happened."""
        return min((at for at, _ in self._held.values()), default=None)

    async def keep(self, entry: Entry) -> bool:
        """Makes the record of an entry; False when there is no room for it.

        Raises:
            NovakubeError: the Kubernetes API did not take it.
        """
        if not self._loaded:
            await self.load()
        body = to_record(entry)
        size = len(body["spec"]["row"])
        name = record_name(entry.key)
        if name in self._held:
            return True
        if len(self._held) >= self._most or self._size + size > SIZE_MAX:
            return False
        with contextlib.suppress(AlreadyExists):
            await self._kube.create(RESOURCE, body, SYSTEM_NAMESPACE)
        self._hold(name, entry.at, size)
        return True

    async def load(self) -> tuple[list[Waiting], list[str]]:
        """All that wait, in the order in which they were made; and the names of unreadable ones.

        The order is etcd's own, so it holds across leaders and clocks.
        """
        items = (await self._kube.list(RESOURCE, SYSTEM_NAMESPACE, limit=PAGE))["items"]
        items.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        self._held.clear()
        self._size = 0
        readable, unreadable = [], []
        for item in items:
            name = item["metadata"]["name"]
            self._hold(name, _time(item), len(item["spec"]["row"]))
            try:
                readable.append(Waiting(name, item["metadata"]["uid"], from_record(item)))
            except UnreadableRecord as error:
                log.error("HistoryRecord is unreadable", name=name, error=str(error))
                unreadable.append(name)
        self._loaded = True
        return readable, unreadable

    async def drop(self, names: Iterable[str]) -> None:
        """Deletes records that are copied; tolerant of their absence."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with gate:
                with contextlib.suppress(NotFound):
                    await self._kube.delete(RESOURCE, name, SYSTEM_NAMESPACE)
            _, size = self._held.pop(name, (None, 0))
            self._size -= size

        await asyncio.gather(*(one(name) for name in names))

    def _hold(self, name: str, at: datetime, size: int) -> None:
        self._held[name] = (at, size)
        self._size += size


def _time(item: Json) -> datetime:
    return parse_timestamp(item["metadata"]["creationTimestamp"])
