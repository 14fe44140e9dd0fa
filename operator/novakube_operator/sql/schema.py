"""The schema's version: read it, bring it up. Alembic does the work."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from novakube_kit.failpoints import failpoint
from novakube_operator.sql.engine import unavailable

MIGRATIONS = Path(__file__).with_name("migrations")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def head() -> str:
    """The version this program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def version(engine: Engine) -> str | None:
    """The version of the database, None when it is empty.

    Raises:
        DatabaseUnavailable: no answer.
    """
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        raise unavailable(error) from error


def sync(engine: Engine, revision: str = "head") -> None:
    """Brings the schema to a revision; does nothing when it is there.

    Raises:
        DatabaseUnavailable: no answer.
    """
    config = _config()
    try:
        with engine.begin() as connection, failpoint("sql.migrate"):
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except OperationalError as error:
        raise unavailable(error) from error
