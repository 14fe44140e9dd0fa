"""Leadership by a Lease of our own, after client-go's leaderelection.

Time is measured on the monotonic clock from what this process saw itself: a candidate takes
over only after the record it observed stayed the same for a whole lease duration, and a
leader stops believing in itself by its own clock, so that neither wall clock jumps nor
different clocks make two leaders. What remains (a leader stopped between the check and its
write) is caught by ``epoch``.

A process that knows its predecessor to be dead need not wait for it: ``slot`` names a place
where at most one process runs at a time (a pod, whose container is started again only after
its end). The Lease of an earlier process of the same slot is taken at once, as a new epoch.

Source: k8s.io/client-go/tools/leaderelection (15 s, 10 s, 2 s; observed record; jitter 1.2).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from novakube_kit.clock import Clock, SystemClock, micro_timestamp
from novakube_kit.errors import Conflict, InvalidSpec, NotFound, NovakubeError
from novakube_kit.kube import Json, KubePort
from novakube_kit.metrics import LEADER
from novakube_kit.resources import LEASES

_log = logging.getLogger(__name__)

JITTER = 1.2


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds; ``lease_s > renew_s > retry_s``."""

    lease_s: float = 15.0
    """Others wait this long after the last change they saw."""
    renew_s: float = 10.0
    """The leader gives up when it could not renew for this long."""
    retry_s: float = 2.0
    """Between two attempts."""

    def __post_init__(self) -> None:
        if not self.lease_s > self.renew_s > JITTER * self.retry_s > 0:
            raise InvalidSpec(
                f"leader election: lease {self.lease_s} s > renew {self.renew_s} s > "
                f"{JITTER} x retry {self.retry_s} s > 0 does not hold",
                reason="InvalidConfiguration",
            )


class LeaderElection:
    """One candidate. ``run`` until cancelled; it stands again after a lost leadership."""

    def __init__(
        self,
        kube: KubePort,
        namespace: str,
        name: str,
        identity: str,
        *,
        slot: str = "",
        deadlines: Deadlines | None = None,
        changed: Callable[[bool], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Sets up.

        Args:
            kube: may get, create and patch Leases in ``namespace``.
            namespace: of the Lease.
            name: of the Lease.
            identity: unique per process start (host name and a random part), else a
                restarted process would go on with its predecessor's epoch.
            slot: where this process runs alone; becomes a part of the identity. Empty: unknown,
                so that every other holder may be alive.
            deadlines: client-go's unless given.
            changed: called with True and False on the event loop when leadership changes.
            clock: for tests.
        """
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._predecessors = f"{slot}/" if slot else None
        self._identity = f"{slot}/{identity}" if slot else identity
        self._deadlines = deadlines or Deadlines()
        self._changed = changed
        self._clock = clock or SystemClock()
        self._observed: Json | None = None
        self._observed_at = float("-inf")
        self._valid_until = float("-inf")
        self._leading = False
        self.epoch = 0
        """``leaseTransitions`` of our last leadership, from 1; grows with every new leader."""
        # A standby tells so too: what it has in its queues is told apart from work that waits.
        LEADER.labels(name).set(0)
        self.leading = asyncio.Event()
        """Set while this process leads."""

    @property
    def is_leader(self) -> bool:
        """Whether this process leads at this very moment by its own clock."""
        return self._leading and self._clock.monotonic() < self._valid_until

    async def run(self) -> None:
        """Acquires and renews until cancelled; gives the Lease back then."""
        try:
            while True:
                await self._attempt()
                pause_s = self._deadlines.retry_s
                if not self._leading:
                    pause_s *= random.uniform(1.0, JITTER)  # noqa: S311
                await asyncio.sleep(pause_s)
        finally:
            await self._release()

    async def _attempt(self) -> None:
        """One try to acquire or renew; leadership ends when its time is over."""
        before = self._clock.monotonic()
        left_s = self._valid_until - before if self._leading else self._deadlines.renew_s
        try:
            async with asyncio.timeout(max(self._deadlines.retry_s, left_s)):
                held = await self._acquire_or_renew()
        except (NovakubeError, TimeoutError) as error:
            _log.warning("lease %s/%s: %s", self._namespace, self._name, error or "no answer")
            held = None
        if held:
            # From before the request: the Lease is at least that fresh on the server.
            self._valid_until = before + self._deadlines.renew_s
            self._set(leading=True)
        elif held is False or self._clock.monotonic() >= self._valid_until:
            self._set(leading=False)

    async def _acquire_or_renew(self) -> bool | None:
        """True: ours now; False: another's; None: unknown, look again."""
        if self._leading and self._observed is not None:
            return await self._write(self._observed)
        try:
            lease = await self._kube.get(LEASES, self._name, self._namespace)
        except NotFound:
            return await self._create()
        self._observe(lease)
        holder = lease["spec"].get("holderIdentity")
        if holder and not self._ours_to_take(holder) and not self._expired(lease):
            return False
        return await self._write(lease)

    def _ours_to_take(self, holder: str) -> bool:
        """Our own, or that of a process that ended before this one could begin."""
        if self._predecessors is not None and holder.startswith(self._predecessors):
            return True
        return holder == self._identity

    def _expired(self, lease: Json) -> bool:
        """Whether the holder's time is over, counted from when we saw its last change."""
        lease_s = float(lease["spec"].get("leaseDurationSeconds") or self._deadlines.lease_s)
        return self._clock.monotonic() >= self._observed_at + lease_s

    def _observe(self, lease: Json) -> None:
        if self._observed is None or self._observed["spec"] != lease["spec"]:
            self._observed_at = self._clock.monotonic()
        self._observed = lease

    async def _create(self) -> bool | None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec({}),
        }
        try:
            self._won(await self._kube.create(LEASES, body, self._namespace))
        except Conflict:
            return None
        return True

    async def _write(self, lease: Json) -> bool | None:
        """Takes or renews on top of the version that was decided on."""
        patch = {
            "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
            "spec": self._spec(lease["spec"]),
        }
        try:
            self._won(await self._kube.patch(LEASES, self._name, patch, self._namespace))
        except (Conflict, NotFound):
            # Another wrote, or an earlier write of ours worked though its answer was lost, or
            # the Lease was deleted. A leader stays one within its time until it knows.
            self._observed = None
            return None
        return True

    def _won(self, lease: Json) -> None:
        self._observe(lease)
        self.epoch = int(lease["spec"]["leaseTransitions"])

    def _spec(self, old: Json) -> dict[str, Any]:
        now = micro_timestamp(self._clock.now())
        ours = old.get("holderIdentity") == self._identity
        transitions = int(old.get("leaseTransitions") or self.epoch)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._deadlines.lease_s)),
            "renewTime": now,
            "acquireTime": old["acquireTime"] if ours else now,
            "leaseTransitions": transitions if ours else transitions + 1,
        }

    def _set(self, *, leading: bool) -> None:
        if leading == self._leading:
            return
        self._leading = leading
        LEADER.labels(self._name).set(int(leading))
        _log.info(
            "%s leadership by %s/%s, epoch %d",
            "took" if leading else "lost",
            self._namespace,
            self._name,
            self.epoch,
        )
        if leading:
            self.leading.set()
        else:
            self.leading.clear()
        if self._changed is not None:
            self._changed(leading)

    async def _release(self) -> None:
        """Frees the Lease at once, if it is ours, so that the next one need not wait."""
        if not self._leading or self._observed is None:
            return
        self._set(leading=False)
        version = self._observed["metadata"]["resourceVersion"]
        patch = {
            "metadata": {"resourceVersion": version},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
        }
        try:
            async with asyncio.timeout(self._deadlines.retry_s):
                await self._kube.patch(LEASES, self._name, patch, self._namespace)
        except (NovakubeError, TimeoutError) as error:
            _log.info("lease %s/%s not released: %s", self._namespace, self._name, error)
