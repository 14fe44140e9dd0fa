"""Tables of the history. Every row has a key of its own, so that it is copied once.

Strings are bounded (MySQL indexes them); times are UTC without time zone, as Nova keeps them.
Each table but the guard has a twin ``shadow_<name>`` that archived rows are moved to.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, ForeignKey, Index, Integer, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

UUID_LENGTH = 36


class Base(DeclarativeBase):
    """All tables."""


class Transition(Base):
    """Which transitions of which object are in the database: the guard against copying twice."""

    __tablename__ = "transitions"

    uid: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    transition: Mapped[str] = mapped_column(String(190), primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(DateTime)


class InstanceRecord(Base):
    """An Instance, alive or deleted."""

    __tablename__ = "instances"
    __table_args__ = (
        Index("instances_by_id", "id"),
        Index("instances_by_project", "project_id", "terminated_at"),
        Index("instances_by_end", "terminated_at"),
    )

    uid: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    id: Mapped[str] = mapped_column(String(UUID_LENGTH))
    namespace: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(253))
    display_name: Mapped[str] = mapped_column(String(255), default="")
    project_id: Mapped[str | None] = mapped_column(String(64))
    user_id: Mapped[str | None] = mapped_column(String(255))
    flavor: Mapped[str] = mapped_column(String(255), default="")
    vcpus: Mapped[int] = mapped_column(Integer, default=0)
    memory_mib: Mapped[int] = mapped_column(Integer, default=0)
    disk_gib: Mapped[int] = mapped_column(Integer, default=0)
    image: Mapped[str] = mapped_column(String(255), default="")
    node: Mapped[str | None] = mapped_column(String(253))
    vm_state: Mapped[str] = mapped_column(String(32), default="building")
    addresses: Mapped[str] = mapped_column(Text, default="[]")
    """JSON list of addresses."""
    created_at: Mapped[datetime] = mapped_column(DateTime)
    launched_at: Mapped[datetime | None] = mapped_column(DateTime)
    terminated_at: Mapped[datetime | None] = mapped_column(DateTime)
    updated_at: Mapped[datetime] = mapped_column(DateTime)


class ActionRecord(Base):
    """An action on an Instance (Nova's instance_actions)."""

    __tablename__ = "instance_actions"
    __table_args__ = (Index("actions_by_instance", "instance_uid", "started_at"),)

    uid: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    """UID of the InstanceAction; for Create and Delete one derived from the Instance's."""
    instance_uid: Mapped[str] = mapped_column(String(UUID_LENGTH))
    action: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64), default="")
    user_id: Mapped[str | None] = mapped_column(String(255))
    project_id: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[datetime] = mapped_column(DateTime)
    finished_at: Mapped[datetime | None] = mapped_column(DateTime)
    message: Mapped[str | None] = mapped_column(Text)


class ActionEventRecord(Base):
    """A step of an action (Nova's instance_actions_events)."""

    __tablename__ = "instance_action_events"

    action_uid: Mapped[str] = mapped_column(
        String(UUID_LENGTH), ForeignKey("instance_actions.uid", ondelete="CASCADE"),
        primary_key=True,
    )  # fmt: skip
    event: Mapped[str] = mapped_column(String(128), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(DateTime)
    finished_at: Mapped[datetime | None] = mapped_column(DateTime)
    result: Mapped[str | None] = mapped_column(String(32))
    host: Mapped[str | None] = mapped_column(String(253))
    details: Mapped[str | None] = mapped_column(Text)


class MigrationRecord(Base):
    """A move of an Instance to another node (Nova's migrations)."""

    __tablename__ = "migrations"
    __table_args__ = (Index("migrations_by_instance", "instance_uid", "created_at"),)

    uid: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    """UID of the InstanceAction that ordered it."""
    instance_uid: Mapped[str] = mapped_column(String(UUID_LENGTH))
    type: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(32))
    source_node: Mapped[str | None] = mapped_column(String(253))
    dest_node: Mapped[str | None] = mapped_column(String(253))
    user_id: Mapped[str | None] = mapped_column(String(255))
    project_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(DateTime)
    updated_at: Mapped[datetime] = mapped_column(DateTime)


class LeaseRecord(Base):
    """An address that a guest took by DHCP. Renewals change nothing here."""

    __tablename__ = "dhcp_leases"
    __table_args__ = (
        Index("leases_by_instance", "instance_uid"),
        Index("leases_by_address", "network_uid", "address"),
    )

    uid: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    """Derived from Guest, MAC, address and start."""
    instance_uid: Mapped[str] = mapped_column(String(UUID_LENGTH))
    guest_uid: Mapped[str] = mapped_column(String(UUID_LENGTH))
    node: Mapped[str] = mapped_column(String(253))
    network_uid: Mapped[str] = mapped_column(String(UUID_LENGTH), default="")
    mac: Mapped[str] = mapped_column(String(17))
    address: Mapped[str] = mapped_column(String(45))
    hostname: Mapped[str] = mapped_column(String(255), default="")
    started_at: Mapped[datetime] = mapped_column(DateTime)
    ended_at: Mapped[datetime | None] = mapped_column(DateTime)


TABLES: dict[str, type[Base]] = {
    model.__tablename__: model
    for model in (InstanceRecord, ActionRecord, ActionEventRecord, MigrationRecord, LeaseRecord)
}
"""What entries write to, by name."""
OF_INSTANCE = ("instance_actions", "migrations", "dhcp_leases")
"""Tables that name their Instance in ``instance_uid``."""


def _shadow(name: str) -> Table:
    table = TABLES[name].__table__
    columns = [
        Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable)
        for c in table.columns
    ]
    index = {"instances": "terminated_at", "instance_action_events": "action_uid"}
    by = index.get(name, "instance_uid")
    return Table(f"shadow_{name}", Base.metadata, *columns, Index(f"shadow_{name}_by_{by}", by))


SHADOWS: dict[str, Table] = {name: _shadow(name) for name in TABLES}
"""The archive's tables, by the name of the table whose rows they take."""
