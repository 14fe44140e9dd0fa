"""Every test of the store runs on SQLite, PostgreSQL and MariaDB; each in a database of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from novakube_operator.sql.engine import open_engine
from tests.integration.sql.servers import Server

DATABASES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database on each kind of server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/history/h.sqlite"
        return
    server: Server = request.getfixturevalue(request.param)
    name = f"t{uuid.uuid4().hex[:12]}"
    server.administer(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.administer(f"DROP DATABASE {name}")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()
