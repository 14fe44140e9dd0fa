"""What the stores' changes mean for the history.

Transitions are told where the stores announce a change, so that no reconciler has to remember
to. What a dead process did not note, living objects tell again when the next leader begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import structlog

from novakube_kit.objects import Object
from novakube_operator.instances.context import Context
from novakube_operator.instances.records import (
    FINISHED,
    LAUNCHED,
    finished,
    launched,
    lease_ended,
    lease_taken,
    lease_transition,
)
from novakube_operator.sql.entries import Entry, Key
from novakube_operator.sql.history import DROPPED

AnyObject = Object[Any, Any]
Change = Callable[[AnyObject | None, AnyObject | None], None]
log = structlog.get_logger(__name__)


class Recorder:
    """Notes launches, finished actions and leases."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._of: dict[str, Change] = {
            "instances": self._instance,
            "instanceactions": self._action,
            "guests": self._guest,
        }

    def changed(self, plural: str, old: AnyObject | None, new: AnyObject | None) -> None:
        """Takes one change of a store; cheap, never blocks, never raises.

        A fault in telling history must not stop the store that everything is decided from.
        """
        note = self._of.get(plural)
        if note is None:
            return
        try:
            note(old, new)
        except Exception:
            DROPPED.labels("Fault").inc()
            log.exception("History could not be told", resource=plural)

    def recall(self) -> Iterator[tuple[Key, Callable[[], Entry]]]:
        """Everything that living objects can tell, each made only when it is missing."""
        for obj in self._context.stores.of("instances"):
            # The end of one that goes tells its launch too, and must be the last word.
            if obj.status.launched_at is not None and not obj.deleting:
                yield (obj.uid, LAUNCHED), partial(launched, obj, self._project(obj))
        for action in self._context.stores.of("instanceactions"):
            uid = self._instance_of(action) if action.status.state in FINISHED else None
            if uid is not None and self._context.stores.of("instances").by_uid(uid) is not None:
                make = partial(finished, action, uid, self._project(action))
                yield (uid, f"action {action.uid}"), make
        for guest in self._context.stores.of("guests"):
            for lease in guest.status.leases:
                key = (guest.spec.instance.uid, lease_transition(guest, lease, "taken"))
                yield key, partial(lease_taken, guest, lease)

    def _instance(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is None or new.status.launched_at is None:
            return
        if old is None or old.status.launched_at is None:
            self._context.history.note(launched(new, self._project(new)))

    def _action(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is None or new.status.state not in FINISHED:
            return
        if old is None or old.status.state not in FINISHED:
            uid = self._instance_of(new)
            if uid is not None:
                self._context.history.note(finished(new, uid, self._project(new)))

    def _guest(self, old: AnyObject | None, new: AnyObject | None) -> None:
        before = old.status.leases if old is not None else ()
        after = new.status.leases if new is not None else ()
        if not before and not after:
            return
        held = {(one.mac, one.address, one.started_at) for one in after}
        had = {(one.mac, one.address, one.started_at) for one in before}
        for one in after:
            if new is not None and (one.mac, one.address, one.started_at) not in had:
                self._context.history.note(lease_taken(new, one))
        for one in before:
            if old is not None and (one.mac, one.address, one.started_at) not in held:
                now = self._context.clock.now()
                self._context.history.note(lease_ended(old, one, now))

    def _project(self, obj: AnyObject) -> str | None:
        return self._context.project(obj.namespace)

    def _instance_of(self, action: AnyObject) -> str | None:
        return instance_of(self._context, action)


def instance_of(context: Context, action: AnyObject) -> str | None:
    """UID of the Instance an action was for; None when there never was one."""
    if action.status.instance_uid is not None:
        return str(action.status.instance_uid)
    found = context.get("instances", action.namespace, action.spec.instance.name)
    return None if found is None else found.uid


async def keep_action(context: Context, action: AnyObject) -> None:
    """A finished action is about to be deleted: its entry must not go with it.

    Raises:
        NovakubeError: nothing took the entry; the action stays.
    """
    uid = instance_of(context, action)
    if uid is not None:
        await context.history.keep(finished(action, uid, context.project(action.namespace)))
