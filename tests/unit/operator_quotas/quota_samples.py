"""Charges, entries and books for tests of quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from novakube_crds.v1alpha1.quota import QuotaLimits, QuotaPending, QuotaUsage
from novakube_operator.core.quota import (
    Book,
    Charge,
    Leader,
    Plan,
    Seen,
    effective,
    plan,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def uid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def charge(number: int, *, user: str | None = None, cores: int = 1, ports: int = 0) -> Charge:
    order = (NOW + timedelta(seconds=number), uid(number))
    return Charge(uid(number), f"i{number}", user, order, 1, cores, 100, ports)


def entry(number: int, *, epoch: int = 1, cores: int = 1, since: str = "2030-01-01T00:00:00Z",
          ports: int = 0) -> QuotaPending:  # fmt: skip
    return QuotaPending(
        instance_uid=uid(number), instance_name=f"i{number}", cores=cores, memory_mib=100,
        ports=ports, epoch=epoch, since=since,
    )  # fmt: skip


def book(used: QuotaUsage | None = None, users: dict[str, QuotaLimits] | None = None,
         by_user: dict[str, QuotaUsage] | None = None, **limits: int) -> Book:  # fmt: skip
    hard = effective(QuotaLimits(**limits), None)
    return Book("project p", hard, users or {}, used or QuotaUsage(), by_user or {})


def decided(of: Book, *charges: Charge, pending: tuple[QuotaPending, ...] = (),
            seen: dict[str, Seen] | None = None, leader: Leader | None = None) -> Plan:  # fmt: skip
    active = frozenset(item.uid for item in charges)
    who = leader or Leader(1, NOW, active)
    return plan(of, pending, "", 0, charges, lambda u: (seen or {}).get(u, Seen()), who)
