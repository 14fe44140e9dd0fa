"""What a verb of novakube-manage is, and how its answer is shown.

A module of verbs has a tuple ``VERBS``; ``manage.py`` lists the modules. A verb returns its
answer and never prints: the same answer becomes aligned text or, with ``--json``, JSON.
"""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novakube_kit.access import ClusterAccess, discover, from_kubeconfig
from novakube_kit.kube import KubePort
from novakube_kit.kube_aio import AioKube

NOTHING = "-"
"""What a table shows where there is no value."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the JSON form is a list of objects."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def text(self) -> str:
        """Columns as wide as their widest cell, two spaces between them."""
        lines = [self.columns, *(tuple(_cell(value) for value in row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def data(self) -> list[dict[str, Any]] | dict[str, Any]:
        """One object per row, named by the columns in lower camel case."""
        names = [_camel(column) for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


class Record(Table):
    """One thing: a property per row; the JSON form is one object."""

    def data(self) -> dict[str, Any]:
        """The properties by name."""
        return dict(self.rows)


@dataclass(frozen=True, slots=True)
class Answer:
    """A sentence for people and the same as data for programs."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


Run = Callable[[Namespace], "Answer | Table"]
Argument = tuple[tuple[str, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Verb:
    """``novakube-manage GROUP NAME ARGUMENTS``."""

    group: str
    name: str
    """Empty: the group is the verb."""
    help: str
    run: Run
    """Raises NovakubeError: its message is printed and the exit code is 1."""
    arguments: tuple[Argument, ...] = ()
    aliases: tuple[str, ...] = ()


def argument(*flags: str, **options: Any) -> Argument:
    """An argument as ``argparse.ArgumentParser.add_argument`` takes it."""
    return flags, options


def record(**values: Any) -> Record:
    """What ``show`` and ``describe`` print."""
    return Record(("PROPERTY", "VALUE"), tuple(values.items()))


def on_cluster(
    run: Callable[[KubePort, Namespace], Awaitable[Answer | Table]],
) -> Run:
    """A verb that works through the Kubernetes API, with the caller's own rights."""

    def go(args: Namespace) -> Answer | Table:
        return asyncio.run(_with_kube(run, args))

    return go


async def _with_kube(
    run: Callable[[KubePort, Namespace], Awaitable[Answer | Table]], args: Namespace
) -> Answer | Table:
    async with AioKube(cluster_access(args), user_agent="novakube-manage") as kube:
        return await run(kube, args)


def cluster_access(args: Namespace) -> ClusterAccess:
    """The cluster and the identity that the command line names."""
    if args.kubeconfig or args.context:
        path = args.kubeconfig or str(Path.home() / ".kube" / "config")
        return from_kubeconfig(Path(path), args.context)
    return discover()


def shown(answer: Answer | Table, as_json: bool) -> str:
    """The text that is printed for an answer."""
    if not as_json:
        return answer.text() if isinstance(answer, Table) else answer.text
    if isinstance(answer, Table):
        return json.dumps(answer.data(), indent=2, default=str)
    return json.dumps(dict(answer.data) or {"message": answer.text}, indent=2, default=str)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return ", ".join(map(str, value)) or NOTHING
    return str(value)


def _camel(column: str) -> str:
    first, *rest = column.lower().split()
    return first + "".join(word.capitalize() for word in rest)
