"""What projects and users use, kept up to date by changes of objects: no sums in a reconcile.

Instances count by their Guests (acceptance is the first Guest), everything else by itself, in
the order of creation: of objects beyond a limit the older ones are within it. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.quota import QUOTA_EXCEEDED, READY, QuotaUsage
from novakube_kit.objects import Key, Object
from novakube_operator.core.naming import port_name

AnyObject = Object[Any, Any]
RANKED = {
    "networks": "networks",
    "subnets": "subnets",
    "ports": "ports",
    "routers": "routers",
    "floatingips": "floating_ips",
    "securitygroups": "security_groups",
    "servergroups": "server_groups",
    "images": "images",
    "keypairs": "key_pairs",
}
"""Plural -> dimension of kinds that count by themselves."""
Rank = tuple[bool, bool, datetime, str]
"""Made by a user, not accepted yet, creation, UID. What the operator made was admitted with
its Instance and goes before what users made; what was accepted goes before what was not, as
creation tells whole seconds only."""
NICS_MAX = 16
"""Of an Instance, as its schema has it."""
Scope = tuple[str, str]
"""Plural, and the namespace, or of KeyPairs the user."""


def scope_of(obj: AnyObject) -> Scope:
    """Where an object is counted."""
    return obj.kind.plural, obj.spec.user_id if obj.kind.plural == "keypairs" else obj.namespace


def made_for(obj: AnyObject) -> str | None:
    """UID of the Instance that the operator made a Port for.

    By owner and name, so that an owner that a user wrote lets at most the Ports of one
    Instance (``NICS_MAX``) go before others.
    """
    if obj.kind.plural != "ports" or len(obj.owner_uids) != 1:
        return None
    uid = obj.owner_uids[0]
    names = (port_name(uid, nic) for nic in range(NICS_MAX))
    return uid if obj.name in names else None


def rank_of(obj: AnyObject) -> Rank:
    """Its place among those it is counted with."""
    return made_for(obj) is None, not _accepted(obj), obj.created_at, obj.uid


def _accepted(obj: AnyObject) -> bool:
    if obj.kind.plural == "ports":
        return obj.status.claim is not None
    ready = get_condition(obj.status.conditions, READY)
    return ready is not None and ready.reason != QUOTA_EXCEEDED


@dataclass(slots=True)
class _Row:
    """Objects of one scope in order."""

    ranks: list[Rank] = field(default_factory=list)
    keys: dict[str, Key] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Charged:
    """One Instance by its Guests."""

    namespace: str
    user: str | None
    guests: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Guest UID -> cores, memory in MiB."""

    def amounts(self) -> dict[str, int]:
        """The largest incarnation counts, two at a time are one Instance."""
        return {
            "instances": 1,
            "cores": max(cores for cores, _ in self.guests.values()),
            "memory_mib": max(memory for _, memory in self.guests.values()),
        }


Sums = dict[str, int]


class Usage:
    """Counts by namespace and user."""

    def __init__(self) -> None:
        """Counts nothing yet."""
        self._rows: dict[Scope, _Row] = {}
        self._charged: dict[str, _Charged] = {}
        self._sums: dict[str, Sums] = {}
        self._user_sums: dict[str, dict[str, Sums]] = {}
        self._owned: dict[str, int] = {}

    def changed(self, plural: str, old: AnyObject | None, new: AnyObject | None) -> None:
        """Takes a change of any object."""
        if plural == "guests":
            if (old is None) != (new is None):
                self._guest(new or old, new is not None)
        elif plural in RANKED:
            if old is not None:
                self._remove(old)
            if new is not None:
                self._insert(new)

    def _guest(self, guest: Any, came: bool) -> None:
        identity = guest.spec.instance
        held = self._charged.get(identity.uid)
        if held is None:
            held = self._charged[identity.uid] = _Charged(identity.namespace, identity.user_id)
        elif held.guests:
            self._add(held, -1)
        if came:
            held.guests[guest.uid] = (guest.spec.vcpus, guest.spec.memory_mib)
        else:
            held.guests.pop(guest.uid, None)
        if held.guests:
            self._add(held, 1)
        else:
            del self._charged[identity.uid]

    def _add(self, held: _Charged, sign: int) -> None:
        rows = [self._sums.setdefault(held.namespace, {})]
        if held.user is not None:
            rows.append(self._user_sums.setdefault(held.namespace, {}).setdefault(held.user, {}))
        for row in rows:
            for name, amount in held.amounts().items():
                row[name] = row.get(name, 0) + sign * amount
        users = self._user_sums.get(held.namespace, {})
        if held.user in users and not users[held.user]["instances"]:
            del users[held.user]

    def _insert(self, obj: AnyObject) -> None:
        row = self._rows.setdefault(scope_of(obj), _Row())
        insort(row.ranks, rank_of(obj))
        row.keys[obj.uid] = obj.key
        user = getattr(obj.spec, "user_id", None)
        if user is not None:
            row.users[obj.uid] = user
        if obj.kind.plural == "securitygroups":
            row.rules[obj.uid] = len(obj.spec.rules)
        owner = made_for(obj)
        if owner is not None:
            self._owned[owner] = self._owned.get(owner, 0) + 1

    def _remove(self, obj: AnyObject) -> None:
        scope = scope_of(obj)
        row = self._rows[scope]
        del row.ranks[bisect_left(row.ranks, rank_of(obj))]
        for held in (row.keys, row.users, row.rules):
            held.pop(obj.uid, None)
        if not row.ranks:
            del self._rows[scope]
        owner = made_for(obj)
        if owner is not None:
            self._owned[owner] -= 1
            if not self._owned[owner]:
                del self._owned[owner]

    def charged(self, uid: str) -> dict[str, int] | None:
        """What is counted for an Instance: its Guests, and the Ports made for it."""
        held, ports = self._charged.get(uid), self._owned.get(uid, 0)
        if held is None and not ports:
            return None
        return (held.amounts() if held is not None else {}) | {"ports": ports}

    def ahead(self, obj: AnyObject) -> int:
        """How many objects of its kind are counted before it."""
        row = self._rows.get(scope_of(obj))
        return bisect_left(row.ranks, rank_of(obj)) if row is not None else 0

    def ahead_of_user(self, obj: AnyObject) -> int:
        """The same among those of its user."""
        row, user = self._rows.get(scope_of(obj), _Row()), obj.spec.user_id
        before = row.ranks[: self.ahead(obj)]
        return sum(row.users.get(uid) == user for *_, uid in before)

    def rules_ahead(self, obj: AnyObject) -> int:
        """Rules of the SecurityGroups before it."""
        row = self._rows.get(scope_of(obj), _Row())
        return sum(row.rules[uid] for *_, uid in row.ranks[: self.ahead(obj)])

    def count(self, plural: str, where: str) -> int:
        """Objects of a scope."""
        row = self._rows.get((plural, where))
        return len(row.ranks) if row is not None else 0

    def keys(self, scope: Scope, first: int, last: int | None = None) -> Iterator[Key]:
        """Keys by position, the first included, the last not."""
        row = self._rows.get(scope)
        if row is not None:
            for *_, uid in row.ranks[max(0, first) : last]:
                yield row.keys[uid]

    def used(self, namespace: str) -> QuotaUsage:
        """What a project uses. KeyPairs are its users', not its own."""
        counts: Sums = {
            dimension: self.count(plural, namespace)
            for plural, dimension in RANKED.items()
            if plural != "keypairs"
        }
        row = self._rows.get(("securitygroups", namespace))
        counts["security_group_rules"] = sum(row.rules.values()) if row is not None else 0
        return QuotaUsage(**counts, **self._sums.get(namespace, {}))

    def used_by_user(self, namespace: str) -> dict[str, QuotaUsage]:
        """What each user uses of a project, with the KeyPairs the user has at all."""
        groups = self._rows.get(("servergroups", namespace), _Row())
        sums = {user: dict(row) for user, row in self._user_sums.get(namespace, {}).items()}
        for user in groups.users.values():
            row = sums.setdefault(user, {})
            row["server_groups"] = row.get("server_groups", 0) + 1
        return {
            user: QuotaUsage(**row, key_pairs=self.count("keypairs", user))
            for user, row in sorted(sums.items())
        }
