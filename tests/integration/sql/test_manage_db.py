"""``novakube-manage db`` as an administrator types it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from novakube_kit.clock import SystemClock
from novakube_operator import manage
from novakube_operator.manage_db import moment
from novakube_operator.sql import schema
from novakube_operator.sql.writer import Writer
from tests.integration.sql.rows import AT, UID, action, count, ended, event


class Manage:
    """Runs a verb and reads what it printed."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys

    def says(self, *verb: str) -> str:
        manage.main(["--database-url", self._url, "db", *verb])
        return self._capsys.readouterr().out

    def fails(self, *verb: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            self.says(*verb)
        return int(str(caught.value.code)), self._capsys.readouterr().err


@pytest.fixture
def db(url: str, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(url, capsys)


def test_sync_version_and_downgrade(db: Manage) -> None:
    head = schema.head()
    assert db.says("version").startswith(f"empty (this program needs {head}: run ")
    assert db.says("sync") == f"schema brought from empty to {head}\n"
    assert db.says("sync") == f"schema is at {head}, nothing to do\n"
    assert db.says("version") == f"{head}\n"
    assert json.loads(db.says("version", "--json")) == {"version": head, "needed": head}
    assert db.says("downgrade", "base") == f"schema taken from {head} back to empty\n"


def test_archive_and_purge(db: Manage, engine: Engine) -> None:
    db.says("sync")
    Writer(engine, SystemClock()).commit([ended(UID, AT, action("a"), event("a"))])
    assert db.says("archive", "--before", "2026-01-01") == "nothing was archived\n"
    some = db.says("archive_deleted_rows", "--max_rows", "2")
    assert "more is left: run again, or with --until-complete" in some
    assert "instances: 1 rows archived" in db.says("archive", "--until-complete")
    assert count(engine, "instances", shadow=True) == 1
    assert db.fails("purge") == (1, "novakube-manage: give either --before DATE or --all\n")
    assert db.says("purge", "--before", "2026-01-02T03:04:05") == "nothing was purged\n"
    gone = json.loads(db.says("purge", "--all", "--json"))
    assert gone["rows"] == {"instances": 1, "instance_actions": 1, "instance_action_events": 1}
    assert gone["complete"]


@pytest.mark.parametrize("verb", [("archive", "--before", "soon"), ("archive", "--max-rows", "0")])
def test_a_wrong_command_line_ends_with_2(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = Manage("sqlite://", capsys).fails(*verb)
    assert code == 2
    assert "allowed: " in message


def test_a_database_that_is_away_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    away = Manage("postgresql://nobody:secret@127.0.0.1:1/none", capsys)
    for verb in (("sync",), ("version",), ("archive",), ("purge", "--all")):
        code, message = away.fails(*verb)
        assert code == 1
        assert message.startswith("novakube-manage: the database does not answer: ")
        assert message.count("\n") == 1
        assert "secret" not in message


def test_moments_are_utc() -> None:
    expected = datetime(2026, 1, 1, 10, tzinfo=UTC).replace(tzinfo=None)
    assert moment("2026-01-01T12:00:00+02:00") == expected
    assert moment("2026-01-01T10:00:00") == expected
