"""Limits and use of every project as this process sees them, and who waits for a change.

Fed by the stores' changes; answers without I/O. Objects that users make are judged by the
order of creation; Instances are admitted in ``admission``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from novakube_crds.v1alpha1.quota import QUOTA_NAME, QuotaLimits
from novakube_crds.v1alpha1.quotaclass import QUOTACLASS_NAME
from novakube_kit.objects import Key, Object
from novakube_kit.store import AnyObject as Stored
from novakube_operator.core.quota import Book, Over, Seen, effective, exceeds, message, reserved
from novakube_operator.core.quota_usage import RANKED, Scope, Usage, made_for, scope_of
from novakube_operator.stores import Stores

AnyObject = Object[Any, Any]
Wake = tuple[str, Key]
"""Plural and key."""


class Ledger:
    """One per process."""

    def __init__(self, stores: Stores) -> None:
        """``stores`` tell their changes to ``changed``."""
        self.usage = Usage()
        self._stores = stores
        self._refused: dict[Scope, set[Key]] = {}
        self._waiting: dict[str, set[Key]] = {}

    def project(self, namespace: str) -> str | None:
        """The project a namespace is bound to."""
        return self._stores.bindings.project(namespace)

    def refusal(self, namespace: str) -> str | None:
        """Why a namespace is not bound although its label says so."""
        return self._stores.bindings.refusal(namespace)

    def quota(self, namespace: str) -> AnyObject | None:
        """The namespace's Quota."""
        return self._stores.of("quotas").get(namespace, QUOTA_NAME)

    def metered(self, namespace: str) -> bool:
        """Whether limits hold at all: with a project's label, or with a Quota of its own."""
        return self.quota(namespace) is not None or self._stores.bindings.labelled(namespace)

    def where(self, namespace: str) -> str:
        """The project, or the namespace that belongs to none."""
        project = self.project(namespace)
        return f"project {project}" if project is not None else f"namespace {namespace}"

    def limits(self, namespace: str) -> QuotaLimits:
        """Limits in force of a metered namespace."""
        quota = self.quota(namespace)
        return effective(quota.spec.hard if quota is not None else None, self._class())

    def _class(self) -> QuotaLimits | None:
        found = self._stores.of("quotaclasses").get(None, QUOTACLASS_NAME)
        return found.spec.hard if found is not None else None

    def users(self, namespace: str) -> dict[str, QuotaLimits]:
        """Limits of single users inside the project's."""
        quota = self.quota(namespace)
        return {} if quota is None else {item.user_id: item.hard for item in quota.spec.users}

    def book(self, namespace: str) -> Book:
        """What a batch is decided on."""
        return Book(
            self.where(namespace),
            self.limits(namespace),
            self.users(namespace),
            self.usage.used(namespace),
            self.usage.used_by_user(namespace),
        )

    def seen(self, uid: str) -> Seen:
        """What the stores show of an Instance."""
        guests = self._stores.of("guests").by("instance", uid)
        return Seen(
            incarnation=max((guest.spec.incarnation for guest in guests), default=0),
            version=max((int(guest.resource_version) for guest in guests), default=0),
            charged=self.usage.charged(uid),
            exists=self._stores.of("instances").by_uid(uid) is not None,
        )

    def verdict(self, obj: AnyObject) -> str | None:
        """Why an object that a user made is beyond a limit; None when it is within all."""
        plural, scope = obj.kind.plural, scope_of(obj)
        if plural not in RANKED:
            return None
        overs, where = self._overs(obj), self._where(obj)
        refused = self._refused.setdefault(scope, set())
        (refused.add if overs else refused.discard)(obj.key)
        if not refused:
            del self._refused[scope]
        return message(overs, where) if overs else None

    def _where(self, obj: AnyObject) -> str:
        if obj.kind.plural == "keypairs":
            return f"the key pairs of user {obj.spec.user_id}"
        return self.where(obj.namespace)

    def _overs(self, obj: AnyObject) -> list[Over]:
        plural = obj.kind.plural
        dimension, ahead = RANKED[plural], self.usage.ahead(obj)
        if plural == "keypairs":
            return _over(dimension, 1, ahead, self._key_pairs(obj.spec.user_id))
        if not self.metered(obj.namespace) or made_for(obj) is not None:
            return []
        limits = self.limits(obj.namespace)
        if plural == "ports":
            ahead += self._reserved_ports(obj.namespace)
        overs = _over(dimension, 1, ahead, getattr(limits, dimension))
        if plural == "securitygroups":
            rules, before = len(obj.spec.rules), self.usage.rules_ahead(obj)
            overs += _over("security_group_rules", rules, before, limits.security_group_rules)
        return overs + self._of_user(obj, dimension)

    def _of_user(self, obj: AnyObject, dimension: str) -> list[Over]:
        user = getattr(obj.spec, "user_id", None)
        hard = self.users(obj.namespace).get(user) if user is not None else None
        limit = getattr(hard, dimension) if hard is not None else None
        if limit is None:
            return []
        return _over(dimension, 1, self.usage.ahead_of_user(obj), limit, user)

    def _key_pairs(self, user: str) -> int:
        """The largest that a Quota gives this user, else the default of all."""
        named = [
            item.hard.key_pairs
            for quota in self._stores.of("quotas").by("user", user)
            for item in quota.spec.users
            if item.user_id == user and item.hard.key_pairs is not None
        ]
        if -1 in named:
            return -1
        return max(named) if named else int(effective(None, self._class()).key_pairs or 0)

    def _reserved_ports(self, namespace: str) -> int:
        quota = self.quota(namespace)
        entries = quota.status.pending if quota is not None else ()
        return sum(reserved(e, self.seen(e.instance_uid))["ports"] for e in entries)

    def wait(self, obj: AnyObject) -> None:
        """An Instance was refused: ``instances`` names it when use falls or a limit rises."""
        self._waiting.setdefault(obj.namespace, set()).add(obj.key)

    def changed(self, plural: str, old: Stored | None, new: Stored | None) -> None:
        """Takes a change of any object; called before any queue is."""
        self.usage.changed(plural, old, new)

    def instances(
        self, plural: str, old: Stored | None, new: Stored | None
    ) -> Iterator[tuple[Key, float]]:
        """Instances that wait and that a change may let in; each is named once."""
        for namespace in self._eased(plural, old, new):
            for key in self._waiting.pop(namespace, ()):
                yield key, 0.0

    def _eased(self, plural: str, old: Stored | None, new: Stored | None) -> Iterator[str]:
        obj = new or old
        if obj is None:
            return
        if plural == "guests" and new is None:
            yield obj.spec.instance.namespace
        elif (plural == "ports" and new is None) or (plural == "quotas" and self._room(old, new)):
            yield obj.namespace
        elif plural == "quotaclasses":
            yield from tuple(self._waiting)

    def _room(self, old: Stored | None, new: Stored | None) -> bool:
        """Whether a limit changed, or an entry went that no Guest follows."""
        if old is None or new is None:
            return True
        left = {entry.instance_uid for entry in new.status.pending}
        return old.spec != new.spec or any(
            self.seen(entry.instance_uid).incarnation < entry.incarnation
            for entry in old.status.pending
            if entry.instance_uid not in left
        )

    def judged(
        self, mine: str, plural: str, old: Stored | None, new: Stored | None
    ) -> Iterator[Wake]:
        """Objects of kind ``mine`` whose verdict a change may turn."""
        if mine not in RANKED:
            return
        if plural in RANKED:
            if plural == mine:
                yield from self._of_ranked(plural, old, new)
        elif plural == "quotas":
            yield from self._of_quota(old, new)
        elif plural == "quotaclasses" and (old is None or new is None or old.spec != new.spec):
            for namespace in {quota.namespace for quota in self._stores.of("quotas")}:
                yield from self._scopes(namespace)
            for pair in self._stores.of("keypairs"):
                yield "keypairs", pair.key

    def _of_ranked(self, plural: str, old: Stored | None, new: Stored | None) -> Iterator[Wake]:
        obj = new or old
        if obj is None:
            return
        scope = scope_of(obj)
        rules = plural == "securitygroups" and (old or obj).spec.rules != (new or obj).spec.rules
        if new is None:
            self._refused.get(scope, set()).discard(obj.key)
        if new is None or rules:
            yield from [(plural, key) for key in self._refused.get(scope, ())]
        if old is None or rules:
            # It may have come before others of the same second, or before what users made.
            first = self.usage.ahead(obj) + 1
            yield from [(plural, key) for key in self.usage.keys(scope, first)]

    def _of_quota(self, old: Stored | None, new: Stored | None) -> Iterator[Wake]:
        obj = new or old
        if obj is None:
            return
        if old is None or new is None or old.spec != new.spec:
            yield from self._scopes(obj.namespace)
            for side in (old, new):
                for item in side.spec.users if side is not None else ():
                    for key in self.usage.keys(("keypairs", item.user_id), 0):
                        yield "keypairs", key
        elif old.status.pending != new.status.pending:
            for key in tuple(self._refused.get(("ports", obj.namespace), ())):
                yield "ports", key

    def _scopes(self, namespace: str) -> Iterator[Wake]:
        for plural in RANKED:
            if plural != "keypairs":
                for key in self.usage.keys((plural, namespace), 0):
                    yield plural, key


def _over(
    dimension: str, need: int, used: int, limit: int | None, user: str | None = None
) -> list[Over]:
    if limit is None or not exceeds(need, used, limit):
        return []
    return [Over(dimension, need, used, limit, user)]
