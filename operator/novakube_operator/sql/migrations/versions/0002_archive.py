"""Migrations, DHCP leases, and the archive's twin of each table."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from novakube_operator.sql.columns import MYSQL, TIME

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UID = sa.String(36)
Columns = list[sa.Column[Any]]


def _instances() -> Columns:
    return [
        sa.Column("uid", UID, primary_key=True),
        sa.Column("id", UID, nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("display_name", sa.String(255), nullable=False),
        sa.Column("project_id", sa.String(64)),
        sa.Column("user_id", sa.String(255)),
        sa.Column("flavor", sa.String(255), nullable=False),
        sa.Column("vcpus", sa.Integer, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("disk_gib", sa.Integer, nullable=False),
        sa.Column("image", sa.String(255), nullable=False),
        sa.Column("node", sa.String(253)),
        sa.Column("vm_state", sa.String(32), nullable=False),
        sa.Column("addresses", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("launched_at", TIME),
        sa.Column("terminated_at", TIME),
        sa.Column("updated_at", TIME, nullable=False),
    ]


def _actions() -> Columns:
    return [
        sa.Column("uid", UID, primary_key=True),
        sa.Column("instance_uid", UID, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("project_id", sa.String(64)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("message", sa.Text),
    ]


def _events() -> Columns:
    return [
        sa.Column("action_uid", UID, primary_key=True),
        sa.Column("event", sa.String(128), primary_key=True),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("result", sa.String(32)),
        sa.Column("host", sa.String(253)),
        sa.Column("details", sa.Text),
    ]


def _migrations() -> Columns:
    return [
        sa.Column("uid", UID, primary_key=True),
        sa.Column("instance_uid", UID, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("source_node", sa.String(253)),
        sa.Column("dest_node", sa.String(253)),
        sa.Column("user_id", sa.String(255)),
        sa.Column("project_id", sa.String(64)),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
    ]


def _leases() -> Columns:
    return [
        sa.Column("uid", UID, primary_key=True),
        sa.Column("instance_uid", UID, nullable=False),
        sa.Column("guest_uid", UID, nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("network_uid", UID, nullable=False),
        sa.Column("mac", sa.String(17), nullable=False),
        sa.Column("address", sa.String(45), nullable=False),
        sa.Column("hostname", sa.String(255), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
    ]


SHADOWS = (
    ("instances", _instances, "terminated_at"),
    ("instance_actions", _actions, "instance_uid"),
    ("instance_action_events", _events, "action_uid"),
    ("migrations", _migrations, "instance_uid"),
    ("dhcp_leases", _leases, "instance_uid"),
)


def upgrade() -> None:
    """Makes the tables."""
    op.create_table("migrations", *_migrations(), **MYSQL)
    op.create_index("migrations_by_instance", "migrations", ["instance_uid", "created_at"])
    op.create_table("dhcp_leases", *_leases(), **MYSQL)
    op.create_index("leases_by_instance", "dhcp_leases", ["instance_uid"])
    op.create_index("leases_by_address", "dhcp_leases", ["network_uid", "address"])
    op.create_index("instances_by_end", "instances", ["terminated_at"])
    for name, columns, by in SHADOWS:
        op.create_table(f"shadow_{name}", *columns(), **MYSQL)
        op.create_index(f"shadow_{name}_by_{by}", f"shadow_{name}", [by])


def downgrade() -> None:
    """Drops them, with what they hold."""
    for name, _, _ in SHADOWS:
        op.drop_table(f"shadow_{name}")
    op.drop_index("instances_by_end", "instances")
    op.drop_table("dhcp_leases")
    op.drop_table("migrations")
