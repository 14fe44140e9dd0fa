"""Alembic's entry: runs on the connection that ``schema.sync`` hands over."""

from alembic import context

from novakube_operator.sql.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
