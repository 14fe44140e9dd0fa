"""Tables of the history. Every row has a key of its own, so that it is copied once.

Strings are bounded (MySQL indexes them); times are UTC without time zone, as Nova keeps them.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, ForeignKey, Index, Integer, String, Text
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
    """UID of the InstanceAction; for create and delete one derived from the Instance's."""
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
