"""``novakube-manage db``: the history database."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Engine

from novakube_kit.errors import InvalidSpec
from novakube_operator.manage_verbs import Answer, Verb, argument
from novakube_operator.sql import schema
from novakube_operator.sql.archive import MAX_ROWS, Moved, archive, purge
from novakube_operator.sql.engine import open_engine


@contextmanager
def _database(args: Namespace) -> Iterator[Engine]:
    engine = open_engine(args.database_url)
    try:
        yield engine
    finally:
        engine.dispose()


def _sync(args: Namespace) -> Answer:
    with _database(args) as engine:
        before = schema.version(engine)
        schema.sync(engine, args.revision)
        after = schema.version(engine)
    data = {"before": before, "version": after}
    if before == after:
        return Answer(f"schema is at {after}, nothing to do", data)
    return Answer(f"schema brought from {before or 'empty'} to {after}", data)


def _downgrade(args: Namespace) -> Answer:
    with _database(args) as engine:
        before = schema.version(engine)
        schema.revert(engine, args.revision)
        after = schema.version(engine)
    data = {"before": before, "version": after}
    return Answer(f"schema taken from {before or 'empty'} back to {after or 'empty'}", data)


def _version(args: Namespace) -> Answer:
    with _database(args) as engine:
        current, needed = schema.version(engine), schema.head()
    text = current or "empty"
    if current != needed:
        text += f" (this program needs {needed}: run novakube-manage db sync)"
    return Answer(text, {"version": current, "needed": needed})


def _archive(args: Namespace) -> Answer:
    with _database(args) as engine:
        moved = archive(engine, args.before, args.max_rows, until_complete=args.until_complete)
    return _told(moved, "archived")


def _purge(args: Namespace) -> Answer:
    if args.all == (args.before is not None):
        raise InvalidSpec("give either --before DATE or --all", reason="InvalidArgument")
    with _database(args) as engine:
        moved = purge(engine, args.before, args.max_rows)
    return _told(moved, "purged")


def _told(moved: Moved, word: str) -> Answer:
    lines = [f"{table}: {count} rows {word}" for table, count in sorted(moved.rows.items())]
    if not moved.complete:
        lines.append("more is left: run again, or with --until-complete")
    text = "\n".join(lines) or f"nothing was {word}"
    return Answer(text, {"rows": moved.rows, "complete": moved.complete})


def moment(text: str) -> datetime:
    """A date or date and time; without a zone it is UTC. As the tables keep it."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(
            f"{text!r} is no date; allowed: 2026-01-31 or 2026-01-31T12:00:00"
        ) from error
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def positive(text: str) -> int:
    """A number of rows."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of rows; allowed: 1 or more")
    return int(text)


_BEFORE = argument(
    "--before", type=moment, metavar="DATE",
    help="only instances deleted before; UTC unless it has a zone",
)  # fmt: skip
_MAX_ROWS = argument(
    "--max-rows", "--max_rows", type=positive, default=MAX_ROWS, metavar="N",
    help="rows of one transaction (default: %(default)s)",
)  # fmt: skip
VERBS = (
    Verb("db", "sync", "make or bring up the schema", _sync,
         (argument("revision", nargs="?", default="head", help="default: head"),)),
    Verb("db", "downgrade", "take the schema back; what only newer ones keep is lost",
         _downgrade, (argument("revision", help="such as 0001; base: no tables"),)),
    Verb("db", "version", "print the schema's version", _version),
    Verb("db", "archive", "move rows of deleted instances to the shadow tables", _archive,
         (_BEFORE, _MAX_ROWS,
          argument("--until-complete", action="store_true", help="not only --max-rows of them")),
         aliases=("archive_deleted_rows",)),
    Verb("db", "purge", "delete archived rows for good", _purge,
         (_BEFORE, argument("--all", action="store_true", help="all that is archived"),
          _MAX_ROWS)),
)  # fmt: skip
