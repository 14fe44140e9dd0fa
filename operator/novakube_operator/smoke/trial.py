"""One trial: what an earlier one left is removed, objects made, the guest awaited, all deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.clock import Clock
from novakube_kit.errors import NotFound, NovakubeError, Retryable, Terminal
from novakube_kit.kube import Json, KubePort
from novakube_kit.objects import Object, parse
from novakube_kit.resources import EVENTS, resource_of
from novakube_operator.smoke.objects import NAME, Wanted, manifest, objects

LOOK_S = 0.5
DELETE_S = 60.0
"""A guest destroyed on its node, and its objects let go."""
READY = "Ready"
PAGE = 500

Say = Callable[[str], None]
Console = Callable[[], Awaitable[str]]
"""The guest's console log so far; raises NotFound where there is no way to it."""


class Trial:
    """In one namespace, with one deadline until the guest has spoken."""

    def __init__(
        self, kube: KubePort, clock: Clock, say: Say, namespace: str, wanted: Wanted, limit_s: float
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._say = say
        self._namespace = namespace
        self._objects = objects(wanted)
        self._limit_s = limit_s

    async def run(self, console: Console, text: str) -> Json:
        """What was seen of the guest. Whatever happens, nothing of the trial is left.

        Args:
            console: reads the guest's console.
            text: what shall be on it.

        Raises:
            NovakubeError: it did not run, or could not be deleted. What there is to see of it
                was said before.
        """
        await self._clear()
        began = self._clock.monotonic()
        try:
            seen = await self._boot(began, console, text)
        except NovakubeError:
            await self._diagnose()
            raise
        finally:
            await self._clear()
        return seen

    async def _boot(self, began: float, console: Console, text: str) -> Json:
        for kind, spec in self._objects:
            await self._kube.create(resource_of(kind), manifest(kind, spec), self._where(kind))
            self._say(f"{kind.kind} {NAME} created")
        instance = await self._until(self._running, "the Instance is Running", began)
        running_s = self._clock.monotonic() - began
        self._say(f"Running on {instance.status.node} after {running_s:.1f} s")
        return {
            "node": instance.status.node,
            "runningSeconds": round(running_s, 1),
            "console": await self._spoke(console, text, began),
        }

    async def _running(self) -> Object[Any, Any] | None:
        found = parse(INSTANCE, await self._get(INSTANCE))
        if found.status.state == "Error":
            raise Terminal(f"the Instance is in Error: {_ready(found)}")
        return found if found.status.state == "Running" and _ready(found) == "True" else None

    async def _spoke(self, console: Console, text: str, began: float) -> bool:
        """Whether the guest said it; False where its console cannot be read from here."""

        async def said() -> str | None:
            try:
                log = await console()
            except Retryable as error:
                problems.append(error.message)
                return None
            return log if text in log else None

        problems: list[str] = []
        try:
            await self._until(said, f"{text!r} is on its console", began, problems)
        except NotFound as error:
            self._say(f"its console is not read from here: {error.message}")
            return False
        self._say(f"on its console: {text}")
        return True

    async def _until(
        self,
        look: Callable[[], Awaitable[Any]],
        what: str,
        began: float,
        problems: list[str] | None = None,
    ) -> Any:
        while True:
            value = await look()
            if value:
                return value
            if self._clock.monotonic() - began >= self._limit_s:
                last = f" ({problems[-1]})" if problems else ""
                raise Retryable(f"not within {self._limit_s:g} s: {what}{last}")
            await asyncio.sleep(LOOK_S)

    async def _clear(self) -> None:
        """Deletes what is there of a trial, one after the other, each waited for."""
        for kind, _ in reversed(self._objects):
            if await self._deleted(kind):
                self._say(f"{kind.kind} {NAME} deleted")

    async def _deleted(self, kind: Kind) -> bool:
        """False: it was not there.

        Raises:
            Retryable: its finalizers held it to the deadline.
        """
        give_up_at = self._clock.monotonic() + DELETE_S
        try:
            await self._kube.delete(resource_of(kind), NAME, self._where(kind))
        except NotFound:
            return False
        while True:
            try:
                held = await self._get(kind)
            except NotFound:
                return True
            if self._clock.monotonic() >= give_up_at:
                rest = ", ".join(held["metadata"].get("finalizers", []))
                raise Retryable(f"{kind.kind} {NAME} is held by {rest} for {DELETE_S:g} s")
            await asyncio.sleep(LOOK_S)

    async def _diagnose(self) -> None:
        """Says what the objects and the Events about the Instance say."""
        try:
            for kind, _ in self._objects:
                for one in (await self._get(kind)).get("status", {}).get("conditions", []):
                    told = f"{one['type']}={one['status']} {one['reason']}: {one['message']}"
                    self._say(f"{kind.kind}: {told}")
            events = await self._kube.list(EVENTS, self._namespace, limit=PAGE)
            for event in events["items"]:
                if event.get("involvedObject", {}).get("name") == NAME:
                    self._say(f"Event: {event.get('reason', '')}: {event.get('message', '')}")
        except NovakubeError as error:
            self._say(f"no more to see: {error.message}")

    async def _get(self, kind: Kind) -> Json:
        return await self._kube.get(resource_of(kind), NAME, self._where(kind))

    def _where(self, kind: Kind) -> str | None:
        return self._namespace if kind.namespaced else None


def _ready(instance: Object[Any, Any]) -> str:
    """Status of its Ready condition, with the cause while it is not True."""
    told = get_condition(instance.status.conditions, READY)
    if told is None:
        return "no condition Ready"
    return "True" if told.status == "True" else f"{told.reason}: {told.message}"
