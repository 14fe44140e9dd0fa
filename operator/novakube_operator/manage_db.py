"""``novakube-manage db``: the history database."""

from __future__ import annotations

from argparse import Namespace

from novakube_operator.manage_verbs import Answer, Verb, argument
from novakube_operator.sql import schema
from novakube_operator.sql.engine import open_engine


def _sync(args: Namespace) -> Answer:
    engine = open_engine(args.database_url)
    before = schema.version(engine)
    schema.sync(engine, args.revision)
    after = schema.version(engine)
    data = {"before": before, "version": after}
    if before == after:
        return Answer(f"schema is at {after}, nothing to do", data)
    return Answer(f"schema brought from {before or 'empty'} to {after}", data)


def _version(args: Namespace) -> Answer:
    current, needed = schema.version(open_engine(args.database_url)), schema.head()
    text = current or "empty"
    if current != needed:
        text += f" (this program needs {needed}: run novakube-manage db sync)"
    return Answer(text, {"version": current, "needed": needed})


VERBS = (
    Verb("db", "sync", "make or bring up the schema", _sync,
         (argument("revision", nargs="?", default="head", help="default: head"),)),
    Verb("db", "version", "print the schema's version", _version),
)  # fmt: skip
