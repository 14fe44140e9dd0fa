"""Quotas: limits in force, what a create needs, and who of a batch gets it. Pure.

A batch is planned on one version of the Quota and written with that version: of two leaders
that plan on the same one, one write conflicts and plans anew on what the other admitted. An
entry of ``status.pending`` is counted until its Guest is, so that no room is given twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from novakube_crds.conditions import rfc3339
from novakube_crds.v1alpha1.quota import QuotaLimits, QuotaPending, QuotaUsage
from novakube_kit.clock import parse_timestamp

UNLIMITED = -1
DEFAULTS = QuotaLimits(
    instances=10, cores=20, memory_mib=51200, key_pairs=100, server_groups=10,
    server_group_members=10, metadata_items=128, injected_files=5,
    injected_file_content_bytes=10240, injected_file_path_bytes=255, networks=100, subnets=100,
    ports=500, routers=10, floating_ips=50, security_groups=10, security_group_rules=100,
    images=UNLIMITED,
)  # fmt: skip
"""Source: Nova ``[quota]``, Neutron ``[quotas]``; Glance counts no images unless told to."""
PENDING_MAX = 1024
"""Entries of ``status.pending``, as the schema has it."""
ADMITTED_S = 30.0
"""Who was admitted makes its Guest within this time, or is admitted anew: an entry is that
old at most when it is relied on, so its Guest comes within twice this."""
FOREIGN_ENTRY_S = 120.0
"""An entry of another leader is given up after this long: nobody is between it and its Guest
any more, and clocks may differ by a minute."""
CHARGED = ("instances", "cores", "memory_mib", "ports")
"""Dimensions that are written ahead."""
WORDS = {
    "memory_mib": "MiB of memory",
    "key_pairs": "key pairs",
    "server_groups": "server groups",
    "server_group_members": "members of the server group",
    "metadata_items": "metadata items",
    "injected_files": "files",
    "injected_file_content_bytes": "bytes of a file",
    "injected_file_path_bytes": "bytes of a file's path",
    "floating_ips": "floating IPs",
    "security_groups": "security groups",
    "security_group_rules": "security group rules",
}
"""Dimension -> its plural for people, where that is not its name."""


def effective(hard: QuotaLimits | None, class_hard: QuotaLimits | None) -> QuotaLimits:
    """Limits with nothing absent: the Quota's, else the QuotaClass', else the defaults."""
    values: dict[str, int] = {}
    for limits in (DEFAULTS, class_hard, hard):
        if limits is not None:
            values |= limits.model_dump(exclude_none=True)
    return QuotaLimits(**values)


def exceeds(need: int, used: int, limit: int | None) -> bool:
    """Whether a need does not fit. Who needs nothing is never in the way."""
    return need > 0 and limit is not None and limit != UNLIMITED and used + need > limit


@dataclass(frozen=True, slots=True)
class Over:
    """One dimension that is exceeded."""

    dimension: str
    need: int
    used: int
    limit: int
    user: str | None = None
    """Whose limit it is; None: the project's."""

    def text(self, where: str) -> str:
        """Need, use and limit, such as ``need 2 cores, used 19 of 20 in project p``."""
        word = WORDS.get(self.dimension, self.dimension)
        who = f" (user {self.user})" if self.user is not None else ""
        return f"need {self.need} {word}, used {self.used} of {self.limit} in {where}{who}"


def message(overs: Iterable[Over], where: str) -> str:
    """The sentence a user reads."""
    return "quota exceeded: " + "; ".join(over.text(where) for over in overs)


@dataclass(frozen=True, slots=True)
class Charge:
    """What the create of one Instance takes."""

    uid: str
    name: str
    user: str | None
    order: tuple[datetime, str]
    """Creation and UID: of a batch the older go first."""
    incarnation: int
    cores: int
    memory_mib: int
    ports: int

    @property
    def amounts(self) -> dict[str, int]:
        """By dimension."""
        return {
            "instances": 1, "cores": self.cores, "memory_mib": self.memory_mib,
            "ports": self.ports,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What a leader's own view shows of an Instance."""

    incarnation: int = 0
    """Of its newest Guest; 0: it has none."""
    version: int = 0
    """Highest resourceVersion of its Guests."""
    charged: Mapping[str, int] | None = None
    """What ``used`` counts for it."""
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Book:
    """A project's limits and what its objects use."""

    where: str
    """Such as ``project p``."""
    limits: QuotaLimits
    users: Mapping[str, QuotaLimits]
    used: QuotaUsage
    used_by_user: Mapping[str, QuotaUsage]


@dataclass(frozen=True, slots=True)
class Leader:
    """Who plans: what it knows of creates that no object shows."""

    epoch: int
    now: datetime
    active: frozenset[str] = frozenset()
    """UIDs of Instances that this process is creating, those that ask now included."""
    taken: frozenset[str] = frozenset()
    """UIDs whose entry another leader wrote first: that one may still make the Guest."""
    failed: frozenset[str] = frozenset()
    """UIDs of Instances whose create ended here without a Guest."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, and whom that admits."""

    pending: tuple[QuotaPending, ...]
    counted_to: str
    counted_by: int
    admitted: frozenset[str]
    refused: Mapping[str, str]
    """UID -> the sentence."""
    later: frozenset[str] = frozenset()
    """UIDs for which there is no entry left in this write."""
    taken: frozenset[str] = frozenset()
    """UIDs whose entry was another leader's until now."""


Look = Callable[[str], Seen]
"""Instance UID -> what the leader sees of it."""


def counted(entry: QuotaPending, seen: Seen) -> bool:
    """Whether ``used`` counts what the entry stands for."""
    return seen.incarnation >= entry.incarnation


def over_by(entry: QuotaPending, seen: Seen, leader: Leader) -> bool:
    """Whether nobody can make the entry's Guest any more.

    Its writer knows at once; of another leader's entry that is known after a time only.
    """
    if entry.instance_uid in leader.active:
        return False
    if seen.exists and entry.instance_uid not in leader.failed:
        return False
    return not _foreign(entry, leader) or _age_s(entry, leader) > FOREIGN_ENTRY_S


def outlived(pending: Iterable[QuotaPending], look: Look, leader: Leader) -> bool:
    """Whether an entry of another leader would be dropped for its age alone.

    Its Guest may have come all the same, and a view that is as old as the entry not show it.
    """
    return any(
        _foreign(entry, leader)
        and not counted(entry, look(entry.instance_uid))
        and over_by(entry, look(entry.instance_uid), leader)
        for entry in pending
    )


def _foreign(entry: QuotaPending, leader: Leader) -> bool:
    """Whether another leader may make the entry's Guest."""
    return entry.epoch != leader.epoch or entry.instance_uid in leader.taken


def _age_s(entry: QuotaPending, leader: Leader) -> float:
    return (leader.now - parse_timestamp(entry.since)).total_seconds()


def reserved(entry: QuotaPending, seen: Seen) -> dict[str, int]:
    """What an entry holds beyond what ``used`` counts for its Instance already."""
    amounts = {
        "instances": 1, "cores": entry.cores, "memory_mib": entry.memory_mib,
        "ports": entry.ports,
    }  # fmt: skip
    charged = seen.charged or {}
    return {name: max(0, amount - charged.get(name, 0)) for name, amount in amounts.items()}


class _Tally:
    """Use of the project and of its users, growing with each admission."""

    def __init__(self, book: Book, look: Look) -> None:
        self._book = book
        self._look = look
        self._project = {name: getattr(book.used, name) for name in CHARGED}
        self._users = {
            user: {name: getattr(used, name) for name in CHARGED}
            for user, used in book.used_by_user.items()
        }

    def add(self, entry: QuotaPending) -> None:
        for name, amount in reserved(entry, self._look(entry.instance_uid)).items():
            self._project[name] += amount
            if entry.user_id is not None:
                self._of(entry.user_id)[name] += amount

    def _of(self, user: str) -> dict[str, int]:
        return self._users.setdefault(user, dict.fromkeys(CHARGED, 0))

    def overs(self, charge: Charge) -> list[Over]:
        found: list[Over] = []
        seen = self._look(charge.uid).charged or {}
        needs = {name: max(0, n - seen.get(name, 0)) for name, n in charge.amounts.items()}
        scopes: list[tuple[str | None, QuotaLimits, Mapping[str, int]]] = [
            (None, self._book.limits, self._project)
        ]
        if charge.user is not None and charge.user in self._book.users:
            scopes.append((charge.user, self._book.users[charge.user], self._of(charge.user)))
        for user, limits, used in scopes:
            for name, need in needs.items():
                # Nobody owns a Port: of users there is no count of them.
                if user is not None and name == "ports":
                    continue
                limit = getattr(limits, name)
                if exceeds(need, used[name], limit):
                    found.append(Over(name, need, used[name], limit, user))
        return found


def plan(
    book: Book,
    pending: Sequence[QuotaPending],
    counted_to: str,
    counted_by: int,
    charges: Sequence[Charge],
    look: Look,
    leader: Leader,
) -> Plan:
    """Decides a batch on one version of the Quota.

    ``look`` must show at least what ``counted_to`` counts. Every entry that stays is held;
    every admitted Instance has an entry, or a Guest that is counted.
    """
    kept, newest, dropped = _settled(pending, counted_to, look, leader)
    batch = _Batch(book, {entry.instance_uid: entry for entry in kept}, look, leader)
    for charge in sorted(charges, key=lambda item: item.order):
        batch.decide(charge)
    return Plan(
        tuple(batch.entries.values()), str(newest) if newest else counted_to,
        leader.epoch if dropped else counted_by,
        frozenset(batch.admitted), batch.refused, frozenset(batch.later), frozenset(batch.taken),
    )  # fmt: skip


class _Batch:
    """Decides one after the other; each sees what the ones before it got."""

    def __init__(
        self, book: Book, entries: dict[str, QuotaPending], look: Look, leader: Leader
    ) -> None:
        self._book = book
        self._look = look
        self._leader = leader
        self.entries = entries
        self.admitted: set[str] = set()
        self.refused: dict[str, str] = {}
        self.later: set[str] = set()
        self.taken: set[str] = set()

    def decide(self, charge: Charge) -> None:
        mine, held = _entry(charge, self._leader), self.entries.get(charge.uid)
        if held is not None and _covers(held, mine):
            self._admit(held)
            return
        overs = self._tally(charge.uid).overs(charge)
        if overs:
            self.refused[charge.uid] = message(overs, self._book.where)
        elif held is None and len(self.entries) >= PENDING_MAX:
            self.later.add(charge.uid)
        else:
            self._admit(mine)

    def _admit(self, entry: QuotaPending) -> None:
        """An entry of another leader, or an old one, is ours from now on.

        So no leader drops it under us.
        """
        uid, epoch = entry.instance_uid, self._leader.epoch
        before = self.entries.get(uid)
        if before is not None and before.epoch != epoch:
            self.taken.add(uid)
        if entry.epoch != epoch or _age_s(entry, self._leader) > ADMITTED_S:
            now = rfc3339(self._leader.now)
            entry = entry.model_copy(update={"epoch": epoch, "since": now})
        self.entries[uid] = entry
        self.admitted.add(uid)

    def _tally(self, but: str) -> _Tally:
        tally = _Tally(self._book, self._look)
        for uid, entry in self.entries.items():
            if uid != but:
                tally.add(entry)
        return tally


def _settled(
    pending: Sequence[QuotaPending],
    counted_to: str,
    look: Look,
    leader: Leader,
) -> tuple[list[QuotaPending], int, bool]:
    """Entries that still stand, the newest version counted, whether any was dropped."""
    kept, newest, dropped = [], int(counted_to or 0), False
    for entry in pending:
        seen = look(entry.instance_uid)
        if counted(entry, seen):
            newest, dropped = max(newest, seen.version), True
        elif over_by(entry, seen, leader):
            dropped = True
        else:
            kept.append(entry)
    return kept, newest, dropped


def _entry(charge: Charge, leader: Leader) -> QuotaPending:
    return QuotaPending(
        instance_uid=charge.uid,
        instance_name=charge.name,
        incarnation=charge.incarnation,
        user_id=charge.user,
        cores=charge.cores,
        memory_mib=charge.memory_mib,
        ports=charge.ports,
        epoch=leader.epoch,
        since=rfc3339(leader.now),
    )


def _covers(held: QuotaPending, wanted: QuotaPending) -> bool:
    same = held.incarnation == wanted.incarnation and held.user_id == wanted.user_id
    return same and all(
        getattr(held, name) >= getattr(wanted, name) for name in ("cores", "memory_mib", "ports")
    )
