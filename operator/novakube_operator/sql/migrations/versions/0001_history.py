"""The first tables: instances, their actions and events, and the guard of transitions."""

import sqlalchemy as sa
from alembic import op

from novakube_operator.sql.columns import MYSQL, TIME

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UID = sa.String(36)


def upgrade() -> None:
    """Makes the tables."""
    _transitions()
    _instances()
    _actions()


def _transitions() -> None:
    """The guard that writes each transition once."""
    op.create_table(
        "transitions",
        sa.Column("uid", UID, primary_key=True),
        sa.Column("transition", sa.String(190), primary_key=True),
        sa.Column("recorded_at", TIME, nullable=False),
        **MYSQL,
    )


def _instances() -> None:
    op.create_table(
        "instances",
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
        **MYSQL,
    )
    op.create_index("instances_by_id", "instances", ["id"])
    op.create_index("instances_by_project", "instances", ["project_id", "terminated_at"])


def _actions() -> None:
    """Actions, and their events, which go with them."""
    op.create_table(
        "instance_actions",
        sa.Column("uid", UID, primary_key=True),
        sa.Column("instance_uid", UID, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("project_id", sa.String(64)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("message", sa.Text),
        **MYSQL,
    )
    op.create_index("actions_by_instance", "instance_actions", ["instance_uid", "started_at"])
    op.create_table(
        "instance_action_events",
        sa.Column(
            "action_uid",
            UID,
            sa.ForeignKey("instance_actions.uid", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("event", sa.String(128), primary_key=True),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("result", sa.String(32)),
        sa.Column("host", sa.String(253)),
        sa.Column("details", sa.Text),
        **MYSQL,
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("instance_action_events", "instance_actions", "instances", "transitions"):
        op.drop_table(table)
