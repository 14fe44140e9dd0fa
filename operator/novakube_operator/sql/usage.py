"""Usage of a period from the instances' records, as os-simple-tenant-usage reports it.

An Instance counts from its launch to its end (or to the period's), with the flavor it had.
Archived instances do not count, as in Nova.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from novakube_operator.sql.models import InstanceRecord

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """What one Instance used within the period."""

    record: InstanceRecord
    hours: float

    @property
    def vcpu_hours(self) -> float:
        """Virtual CPUs by hours."""
        return self.hours * self.record.vcpus

    @property
    def memory_mib_hours(self) -> float:
        """MiB of memory by hours."""
        return self.hours * self.record.memory_mib

    @property
    def disk_gib_hours(self) -> float:
        """GiB of root and ephemeral disk by hours."""
        return self.hours * self.record.disk_gib


@dataclass(frozen=True, slots=True)
class Usage:
    """The sum over a project's Instances."""

    project_id: str | None
    """None: of namespaces that belong to no project."""
    servers: tuple[ServerUsage, ...]

    @property
    def hours(self) -> float:
        """Hours of all Instances."""
        return sum(one.hours for one in self.servers)

    @property
    def vcpu_hours(self) -> float:
        """Virtual CPUs by hours."""
        return sum(one.vcpu_hours for one in self.servers)

    @property
    def memory_mib_hours(self) -> float:
        """MiB of memory by hours."""
        return sum(one.memory_mib_hours for one in self.servers)

    @property
    def disk_gib_hours(self) -> float:
        """GiB of disk by hours."""
        return sum(one.disk_gib_hours for one in self.servers)


def hours_within(
    launched_at: datetime, terminated_at: datetime | None, start: datetime, end: datetime
) -> float:
    """Hours of a life that lie within ``[start, end]``; a life that goes on ends with it."""
    begin, stop = max(launched_at, start), min(terminated_at or end, end)
    return max(0.0, (stop - begin).total_seconds() / SECONDS_PER_HOUR)


def usage(
    session: Session, start: datetime, end: datetime, projects: Iterable[str] | None = None
) -> list[Usage]:
    """Usage per project within a period.

    Args:
        session: of the history database.
        start: UTC without zone, as the tables keep it.
        end: likewise; not after now, or the future counts.
        projects: only these; None: all.
    """
    query = (
        select(InstanceRecord)
        .where(InstanceRecord.launched_at < end)
        .where(or_(InstanceRecord.terminated_at.is_(None), InstanceRecord.terminated_at > start))
        .order_by(InstanceRecord.project_id, InstanceRecord.launched_at, InstanceRecord.uid)
    )
    if projects is not None:
        query = query.where(InstanceRecord.project_id.in_(tuple(projects)))
    grouped: dict[str | None, list[ServerUsage]] = {}
    for record in session.scalars(query):
        if record.launched_at is not None:
            hours = hours_within(record.launched_at, record.terminated_at, start, end)
            grouped.setdefault(record.project_id, []).append(ServerUsage(record, hours))
    return [Usage(project, tuple(servers)) for project, servers in grouped.items()]
