"""Instances are admitted in batches, each written ahead into the project's Quota.

Whoever comes first in a namespace waits a moment, takes everybody who asked meanwhile, and
writes once for all; who comes during that write is in the next batch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from novakube_crds.base import API_VERSION
from novakube_crds.conditions import set_condition
from novakube_crds.v1alpha1.instance import READY
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_crds.v1alpha1.quota import (
    COUNTED,
    QUOTA_EXCEEDED,
    QUOTA_NAME,
    QuotaStatus,
    UserUsage,
)
from novakube_kit.clock import Clock
from novakube_kit.errors import AlreadyExists, Conflict, NotFound, NovakubeError, Retryable
from novakube_kit.kube import KubePort
from novakube_kit.objects import Object
from novakube_kit.resources import resource_of
from novakube_operator.core.accept import Accepted, NotAcceptable
from novakube_operator.core.merge import replacing
from novakube_operator.core.quota import ADMITTED_S, Charge, Leader, Plan, outlived, plan
from novakube_operator.core.quota_limits import per_instance
from novakube_operator.quotas.ledger import Ledger
from novakube_operator.stores import Stores

AnyObject = Object[Any, Any]
QUOTAS = resource_of(next(kind for kind in KINDS if kind.plural == "quotas"))
WINDOW_S = 0.005
"""What the first of a batch waits for others: little beside the write it saves."""
ATTEMPTS = 8
"""Versions of a Quota that are tried before the batch backs off."""
USERS_MAX = 1024
"""Entries of ``status.usedByUser``, as the schema has it."""


@dataclass(eq=False)
class _Ticket:
    """One Instance that asks."""

    charge: Charge
    done: bool = False
    problem: NovakubeError | None = None


@dataclass
class _Desk:
    """One namespace's batches."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: list[_Ticket] = field(default_factory=list)


@dataclass(frozen=True)
class Admitted:
    """Room that is held for one Instance."""

    clock: Clock
    until_s: float

    def check(self) -> None:
        """To be called right before the Guest is made.

        Raises:
            Retryable: it took longer than the entry may be relied on; to be admitted anew.
        """
        if self.clock.monotonic() >= self.until_s:
            raise Retryable(f"not made within {ADMITTED_S:g} s of its admission", after_s=0.0)


class Admission:
    """Admits Instances and keeps each Quota's status. One event loop only."""

    def __init__(
        self,
        ledger: Ledger,
        stores: Stores,
        kube: KubePort,
        clock: Clock,
        epoch: Callable[[], int],
    ) -> None:
        """``epoch`` is ``leaseTransitions`` of this leadership."""
        self.ledger = ledger
        self._stores = stores
        self._kube = kube
        self._clock = clock
        self._epoch = epoch
        self._desks: dict[str, _Desk] = {}
        self._active: set[str] = set()
        self._failed: dict[str, set[str]] = {}
        self._taken: set[str] = set()
        self.wake: Callable[[str], None] = lambda _: None
        """Told a namespace whose Quota has an entry that may go."""

    @asynccontextmanager
    async def admitted(self, obj: AnyObject, accepted: Accepted) -> AsyncIterator[Admitted]:
        """Holds what an Instance needs while its Guest is being made.

        Raises:
            NotAcceptable: ``QuotaExceeded`` with dimension, need, use and limit.
        """
        if not self.ledger.metered(obj.namespace):
            yield Admitted(self._clock, math.inf)
            return
        limits = self.ledger.limits(obj.namespace)
        over = per_instance(obj, limits, self._ahead_in_group(obj)) or self._ports(accepted)
        if over:
            self.ledger.wait(obj)
            raise _exceeded(over)
        self._active.add(obj.uid)
        failed = self._failed.setdefault(obj.namespace, set())
        failed.discard(obj.uid)
        until_s = self._clock.monotonic() + ADMITTED_S
        try:
            await self._ask(obj, _charge(obj, accepted))
            yield Admitted(self._clock, until_s)
        except NotAcceptable:
            # What was written ahead is of no use: another may have it.
            failed.add(obj.uid)
            quota = self.ledger.quota(obj.namespace)
            if quota is not None and any(e.instance_uid == obj.uid for e in quota.status.pending):
                self.wake(obj.namespace)
            raise
        finally:
            self._active.discard(obj.uid)

    def _ports(self, accepted: Accepted) -> str | None:
        """A user's Port that is new may not have been judged yet."""
        ports = [nic.port for nic in accepted.nics if nic.port is not None]
        free = [port for port in ports if port.status.claim is None]
        return next((over for over in map(self.ledger.verdict, free) if over is not None), None)

    def _ahead_in_group(self, obj: AnyObject) -> int:
        """Members that have a Guest, or are older: creation tells whole seconds only."""
        hint = obj.spec.scheduler_hints.get("group", [])
        if not hint:
            return 0
        names = {hint[0]}
        group = self._stores.of("servergroups").get(obj.namespace, hint[0])
        if group is not None:
            names.add(group.spec.id or group.uid)
        mine = (obj.created_at, obj.uid)
        members = {
            other.uid
            for name in names
            for other in self._stores.of("instances").by("quotaGroup", (obj.namespace, name))
            if other.uid != obj.uid
            and ((other.created_at, other.uid) < mine or self._has_guest(other))
        }
        return len(members)

    def _has_guest(self, obj: AnyObject) -> bool:
        return self._stores.of("guests").any("instance", obj.uid) is not None

    async def _ask(self, obj: AnyObject, charge: Charge) -> None:
        desk = self._desks.setdefault(obj.namespace, _Desk())
        ticket = _Ticket(charge)
        desk.asking.append(ticket)
        try:
            async with desk.lock:
                if not ticket.done:
                    await asyncio.sleep(WINDOW_S)
                    await self._batch(obj.namespace, desk)
        finally:
            if ticket in desk.asking:
                desk.asking.remove(ticket)
        if ticket.problem is not None:
            if isinstance(ticket.problem, NotAcceptable):
                self.ledger.wait(obj)
            raise ticket.problem

    async def _batch(self, namespace: str, desk: _Desk) -> None:
        batch, desk.asking = desk.asking, []
        try:
            found = await self._write(namespace, [ticket.charge for ticket in batch])
        except asyncio.CancelledError:
            # Only this pass ends; the next one in line takes the others.
            desk.asking = batch + desk.asking
            raise
        except NovakubeError as error:
            for ticket in batch:
                ticket.done, ticket.problem = True, error
            return
        for ticket in batch:
            ticket.done = True
            uid = ticket.charge.uid
            if uid in found.refused:
                ticket.problem = _exceeded(found.refused[uid])
            elif uid in found.later:
                ticket.problem = Retryable("too many creates at once", after_s=1.0)

    async def settle(self, namespace: str) -> bool:
        """Brings a Quota's status up to date; whether entries are left.

        Raises:
            Conflict, ApiUnavailable: to be tried again.
        """
        desk = self._desks.setdefault(namespace, _Desk())
        async with desk.lock:
            return bool((await self._write(namespace, [])).pending)

    async def _write(self, namespace: str, charges: Sequence[Charge]) -> Plan:
        """Plans on a version and writes on that version, anew when another wrote first."""
        for _ in range(ATTEMPTS):
            quota = await self._quota(namespace)
            await self._look_afresh(namespace, quota.status)
            # Nothing is awaited from here to the write: the plan is of one moment.
            found = self._plan(quota, charges, self._leader(namespace))
            status = self._status(quota, found)
            if status != quota.status:
                try:
                    await self._patch(quota, status)
                except Conflict:
                    self._stores.of("quotas").observe(
                        await self._kube.get(QUOTAS, QUOTA_NAME, namespace)
                    )
                    continue
                except NotFound:
                    self._stores.of("quotas").forget(quota.uid)
                    continue
            self._note(quota, found)
            return found
        raise Retryable(f"Quota {namespace}/{QUOTA_NAME} changes all the time", after_s=0.5)

    def _leader(self, namespace: str) -> Leader:
        return Leader(
            self._epoch(), self._clock.now(), frozenset(self._active), frozenset(self._taken),
            frozenset(self._failed.get(namespace, ())),
        )  # fmt: skip

    def _plan(self, quota: AnyObject, charges: Sequence[Charge], leader: Leader) -> Plan:
        status = quota.status
        return plan(
            self.ledger.book(quota.namespace), status.pending, status.counted_to,
            status.counted_by, charges, self.ledger.seen, leader,
        )  # fmt: skip

    def _note(self, quota: AnyObject, found: Plan) -> None:
        self._taken |= found.taken
        left = {entry.instance_uid for entry in found.pending}
        self._taken -= {entry.instance_uid for entry in quota.status.pending} - left
        failed = self._failed.get(quota.namespace)
        if failed is not None:
            failed &= left

    async def _quota(self, namespace: str) -> AnyObject:
        quota = self.ledger.quota(namespace)
        if quota is not None:
            return quota
        body = {
            "apiVersion": API_VERSION, "kind": "Quota", "metadata": {"name": QUOTA_NAME},
            "spec": {},
        }  # fmt: skip
        try:
            made = await self._kube.create(QUOTAS, body, namespace)
        except AlreadyExists:
            made = await self._kube.get(QUOTAS, QUOTA_NAME, namespace)
        found: AnyObject | None = self._stores.of("quotas").observe(made)
        if found is None:
            raise Retryable(f"Quota {namespace}/{QUOTA_NAME} vanished as it was made")
        return found

    async def _look_afresh(self, namespace: str, status: QuotaStatus) -> None:
        """Another leader has made Guests that our view may not have yet.

        It dropped their entries already, or we are about to.
        """
        behind = self._stores.listed_at < int(status.counted_to or 0)
        if (behind and status.counted_by != self._epoch()) or outlived(
            status.pending, self.ledger.seen, self._leader(namespace)
        ):
            await self._stores.list_afresh(self._kube)

    def _status(self, quota: AnyObject, found: Plan) -> QuotaStatus:
        namespace, users = quota.namespace, self.ledger.usage.used_by_user(quota.namespace)
        conditions = set_condition(
            quota.status.conditions, "Ready", "True", COUNTED, now=self._clock.now(),
            observed_generation=quota.generation,
        )  # fmt: skip
        return QuotaStatus(
            conditions=conditions,
            observed_generation=quota.generation,
            hard=self.ledger.limits(namespace),
            used=self.ledger.usage.used(namespace),
            used_by_user=[
                UserUsage(user_id=user, used=used) for user, used in list(users.items())[:USERS_MAX]
            ],
            pending=list(found.pending),
            counted_to=found.counted_to,
            counted_by=found.counted_by,
        )

    async def _patch(self, quota: AnyObject, status: QuotaStatus) -> None:
        fields = replacing(quota.status.wire(), status.wire())
        patch = {"metadata": {"resourceVersion": quota.resource_version}, "status": fields}
        written = await self._kube.patch(QUOTAS, QUOTA_NAME, patch, quota.namespace, sub="status")
        self._stores.of("quotas").observe(written)


def _exceeded(text: str) -> NotAcceptable:
    return NotAcceptable(READY, QUOTA_EXCEEDED, text, pending=True)


def _charge(obj: AnyObject, accepted: Accepted) -> Charge:
    return Charge(
        uid=obj.uid,
        name=obj.name,
        user=obj.spec.user_id,
        order=(obj.created_at, obj.uid),
        incarnation=obj.status.incarnation + 1,
        cores=accepted.flavor.vcpus,
        memory_mib=accepted.flavor.memory_mib,
        ports=sum(nic.port is None for nic in accepted.nics),
    )
