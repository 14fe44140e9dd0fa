"""Opening the database: one URL, clear errors, settings that SQLite needs."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from novakube_kit.errors import InvalidSpec, Retryable

DIALECTS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
"""Accepted schemes and the driver each means."""
DEFAULT_URL = "sqlite:////var/lib/novakube/history.sqlite"
"""Where one host runs the control plane; two replicas of the operator need a server."""
BUSY_TIMEOUT_MS = 5000
CONNECT_S = 5
ANSWER_S = 30
"""After this long without an answer a database server counts as away."""
LIMITS: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "postgresql": {
        "connect_timeout": CONNECT_S,
        "options": f"-c statement_timeout={ANSWER_S * 1000}",
        "tcp_user_timeout": ANSWER_S * 1000,
    },
    "mysql": {"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "write_timeout": ANSWER_S},
}
"""No call of a driver lasts for ever: a server that vanished would hold a thread."""


class DatabaseUnavailable(Retryable):
    """The database does not answer; history waits."""

    reason = "DatabaseUnavailable"


def open_engine(url: str) -> Engine:
    """An engine for a URL such as ``sqlite:////var/lib/novakube/history.sqlite``.

    Nothing is connected yet.

    Raises:
        InvalidSpec: a URL that is none, or of another database; the message says what is
            allowed and never repeats a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidSpec("NOVAKUBE_DATABASE_URL is no URL (scheme://user:password@host/name)",
                          reason="InvalidConfiguration") from error  # fmt: skip
    scheme = parsed.drivername.split("+")[0]
    if scheme not in DIALECTS:
        raise InvalidSpec(
            f"NOVAKUBE_DATABASE_URL has scheme {scheme!r}; allowed: {', '.join(sorted(DIALECTS))}",
            reason="InvalidConfiguration",
        )
    if parsed.drivername == scheme:
        parsed = parsed.set(drivername=DIALECTS[scheme])
    if scheme == "sqlite" and parsed.database:
        _make_directory(Path(parsed.database).parent)
    try:
        # What the URL itself asks for (such as ?connect_timeout=1) wins.
        limits = {k: v for k, v in LIMITS[_family(scheme)].items() if k not in parsed.query}
        engine = create_engine(parsed, pool_pre_ping=True, connect_args=limits)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InvalidSpec(
            f"NOVAKUBE_DATABASE_URL needs a driver that is not installed: {error}",
            reason="InvalidConfiguration",
        ) from error
    if scheme == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _family(scheme: str) -> str:
    return "mysql" if scheme == "mariadb" else scheme


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSpec(
            f"NOVAKUBE_DATABASE_URL: {directory} cannot be made: {error.strerror}",
            reason="InvalidConfiguration",
        ) from error


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Write-ahead log: readers (novakube-api) and the writer do not block one another."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def unavailable(error: DBAPIError) -> DatabaseUnavailable:
    """A driver's error as ours, in one line."""
    cause = str(error.orig).strip().splitlines()
    return DatabaseUnavailable(f"the database does not answer: {cause[0] if cause else error}")
