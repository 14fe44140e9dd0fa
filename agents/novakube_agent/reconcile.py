"""One pass over one Guest: observe, plan, apply, report; until there is nothing to do.

Failures end here: Retryable goes to the queue's backoff after the cause is in the status,
Terminal is journaled by ``plan.after_failure``, a Conflict reads again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from novakube_agent.admission import Admission
from novakube_agent.host import Host, Preparation, wall_clock
from novakube_agent.metrics import GUEST_FAILURES, HOST_SECONDS
from novakube_agent.model import Admit, Desired, Observed, Plan, WriteJournal
from novakube_agent.plan import after_failure, plan
from novakube_agent.report_guest import with_cause
from novakube_agent.status_writer import StatusWriter
from novakube_crds.v1alpha1.guest import GuestStatus, ImageProgress
from novakube_crds.v1alpha1.hypervisorreport import HypervisorReportSpec
from novakube_kit.errors import Retryable, Terminal

_log = logging.getLogger(__name__)

ROUNDS = 12
"""Rounds of one pass; a guest that needs more is looked at again after RESTLESS_WAIT_S."""
RESTLESS_WAIT_S = 1.0
BUSY_WAIT_S = 1.0
"""Until the pass over another incarnation of the same Instance is over, perhaps."""
FIRST_NOTICE_S = 0.2
"""A step that takes longer is told as Building."""
NEXT_NOTICE_S = 1.0


class GuestReconciler:
    """Carries out what the Guests of one node ask for."""

    def __init__(
        self,
        host: Host,
        admission: Admission,
        writer: StatusWriter,
        desired: Callable[[str], Desired | None],
        orders: Callable[[], HypervisorReportSpec],
        leader_epoch: Callable[[], Awaitable[int]],
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        """Args: desired: the Guest by name as last seen; leader_epoch: read afresh."""
        self._host = host
        self._admission = admission
        self._writer = writer
        self._desired = desired
        self._orders = orders
        self._leader_epoch = leader_epoch
        self._clock = clock
        self._under_way: dict[str, Preparation] = {}
        self._busy: set[str] = set()
        """Ids of the Instances that a pass is under way for: one at a time for each."""

    def interrupt(self, guest_uid: str) -> None:
        """The Guest is to be destroyed: its pass stops waiting for downloads."""
        ready = self._under_way.get(guest_uid)
        if ready is not None:
            ready.superseded.set()

    async def __call__(self, name: str) -> float | None:
        """One pass; seconds until the next look, None: an event will come or the resync."""
        desired = self._desired(name)
        if desired is None:
            return None
        instance = desired.spec.instance.id
        if instance in self._busy:
            # Another incarnation's pass: what it saw of the domain would be taken over under it.
            return BUSY_WAIT_S
        self._busy.add(instance)
        ready = self._under_way[desired.uid] = Preparation()
        try:
            return await self._pass(desired, ready)
        finally:
            self._busy.discard(instance)
            self._under_way.pop(desired.uid, None)

    async def _pass(self, desired: Desired, ready: Preparation) -> float | None:
        seen = await self._observe(desired)
        for _ in range(ROUNDS):
            todo = plan(desired, seen)
            if not todo.actions:
                held_back_s = await self._writer.write(desired, todo.status)
                again_s = todo.requeue_after.total_seconds() if todo.requeue_after else None
                return min((s for s in (again_s, held_back_s) if s is not None), default=None)
            seen = await self._round(desired, seen, todo, ready)
        _log.warning("%s does not come to rest: %s", desired.name, todo.actions)
        return RESTLESS_WAIT_S

    async def _observe(self, desired: Desired) -> Observed:
        """The epoch is read only where it decides: before a first boot."""
        journal = self._host.journals.get(desired.uid)
        first = journal is None and not desired.destroy
        epoch = await self._leader_epoch() if first else desired.spec.epoch
        return await self._host.observe(desired, epoch, self._clock())

    async def _round(
        self, desired: Desired, seen: Observed, todo: Plan, ready: Preparation
    ) -> Observed:
        work = asyncio.ensure_future(self._apply(desired, seen, todo, ready))
        try:
            await self._notice(desired, todo.status, work, ready)
            await work
        except Terminal as error:
            _log.warning("%s: %s", error.reason, error.message)
            return await self._failed(desired, error)
        except Retryable as error:
            if error.reason != "Superseded":
                status = with_cause(todo.status, error.reason, error.message)
                await self._writer.write(desired, status)
            raise
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if all(isinstance(action, Admit | WriteJournal) for action in todo.actions):
            # Only our own memory changed: what was seen of the node holds.
            journal = self._host.journals.get(desired.uid) or seen.journal
            return replace(seen, journal=journal)
        return await self._host.observe(desired, seen.leader_epoch, self._clock())

    async def _failed(self, desired: Desired, error: Terminal) -> Observed:
        """Observed after a terminal failure, with its meaning journaled.

        An order to destroy is never given up: the failure is retried with backoff.
        """
        GUEST_FAILURES.labels(error.reason).inc()
        if desired.destroy:
            raise Retryable(error.message, reason=error.reason) from error
        seen = await self._host.observe(desired, desired.spec.epoch, self._clock())
        journal = after_failure(desired, seen, error)
        await self._host.journals.save(journal)
        return replace(seen, journal=journal)

    async def _apply(
        self, desired: Desired, seen: Observed, todo: Plan, ready: Preparation
    ) -> None:
        for action in todo.actions:
            if isinstance(action, Admit):
                facts = await self._host.facts()
                domains = await self._host.ports.driver.domains()
                await self._admission.admit(
                    desired, seen.journal, facts.capacity, self._orders(), domains.values()
                )
            else:
                with HOST_SECONDS.labels(type(action).__name__).time():
                    await self._host.apply(action, desired, ready)

    async def _notice(
        self,
        desired: Desired,
        status: GuestStatus,
        work: asyncio.Future[None],
        ready: Preparation,
    ) -> None:
        """Tells what goes on while ``work`` takes longer than a moment."""
        pause_s = FIRST_NOTICE_S
        while not (await asyncio.wait({work}, timeout=pause_s))[0]:
            percent = ready.percent
            if percent is None:
                await self._writer.write(desired, status)
            else:
                progress = ImageProgress(name=ready.image_name[:255], percent=percent)
                message = f"fetching image {ready.image_name}"
                await self._writer.write(
                    desired, with_cause(status, "ImageDownloading", message, progress)
                )
            pause_s = NEXT_NOTICE_S
