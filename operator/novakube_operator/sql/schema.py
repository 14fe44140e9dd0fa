"""The schema's version: read it, bring it up, take it back. Alembic does the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from novakube_kit.errors import InvalidSpec
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
    except DBAPIError as error:
        raise unavailable(error) from error


def sync(engine: Engine, revision: str = "head") -> None:
    """Brings the schema up to a revision; does nothing when it is there.

    Raises:
        DatabaseUnavailable: no answer.
        InvalidSpec: no such revision.
    """
    _migrate(engine, command.upgrade, revision)


def revert(engine: Engine, revision: str) -> None:
    """Takes the schema back to an older revision, ``base`` for none; newer tables go with it.

    Raises:
        DatabaseUnavailable: no answer.
        InvalidSpec: no such revision.
    """
    _migrate(engine, command.downgrade, revision)


def _migrate(engine: Engine, move: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    try:
        with engine.begin() as connection, failpoint("sql.migrate"):
            config.attributes["connection"] = connection
            move(config, revision)
    except DBAPIError as error:
        raise unavailable(error) from error
    except CommandError as error:
        raise InvalidSpec(f"schema revision {revision}: {error}", reason="NotFound") from error
