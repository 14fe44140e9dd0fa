"""novakube-manage: what an administrator does from a shell.

``db sync`` and ``db version`` are here now; each verb prints one clear line and ends with 1
when it failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from novakube_kit.errors import NovakubeError
from novakube_operator.sql import schema
from novakube_operator.sql.engine import DEFAULT_URL, open_engine


def _db_sync(args: argparse.Namespace) -> None:
    engine = open_engine(args.database_url)
    before = schema.version(engine)
    schema.sync(engine, args.revision)
    after = schema.version(engine)
    if before == after:
        print(f"schema is at {after}, nothing to do")
    else:
        print(f"schema brought from {before or 'empty'} to {after}")


def _db_version(args: argparse.Namespace) -> None:
    current = schema.version(open_engine(args.database_url))
    needed = schema.head()
    print(current or "empty")
    if current != needed:
        print(f"this program needs {needed}: run novakube-manage db sync", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="novakube-manage", description="Administer novakube.")
    top.add_argument(
        "--database-url",
        default=os.environ.get("NOVAKUBE_DATABASE_URL") or DEFAULT_URL,
        help="default: NOVAKUBE_DATABASE_URL, else %(default)s",
    )
    groups = top.add_subparsers(dest="group", required=True, metavar="GROUP")
    database = groups.add_parser("db", help="the history database")
    verbs = database.add_subparsers(dest="verb", required=True, metavar="VERB")
    sync = verbs.add_parser("sync", help="make or bring up the schema")
    sync.add_argument("revision", nargs="?", default="head", help="default: head")
    sync.set_defaults(run=_db_sync)
    version = verbs.add_parser("version", help="print the schema's version")
    version.set_defaults(run=_db_version)
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one verb."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except NovakubeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
