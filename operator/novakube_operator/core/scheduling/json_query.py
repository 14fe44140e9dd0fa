"""Hint ``query``: Nova's small JSON language over facts of a node. Pure.

``["and", [">=", "$free_ram_mb", 1024], ["in", "$zone", "east", "west"]]``
Source: nova/scheduler/filters/json_filter.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from novakube_operator.core.scheduling.facts import fact
from novakube_operator.core.scheduling.hosts import Host
from novakube_operator.core.scheduling.pipeline import UnusableHint

DEPTH_MAX = 16
"""Nested operations; a hint has 1024 characters at most."""
Query = Callable[[Host], bool]


def _first_to_all(
    compare: Callable[[Any, Any], bool],
) -> Callable[[Sequence[Any]], bool]:
    def method(args: Sequence[Any]) -> bool:
        try:
            return len(args) > 1 and all(compare(args[0], arg) for arg in args[1:])
        except TypeError:
            return False  # Unknown facts are None; they compare with nothing.

    return method


_OPERATIONS: dict[str, Callable[[Sequence[Any]], bool]] = {
    "=": _first_to_all(lambda a, b: bool(a == b)),
    "<": _first_to_all(lambda a, b: bool(a < b)),
    ">": _first_to_all(lambda a, b: bool(a > b)),
    "<=": _first_to_all(lambda a, b: bool(a <= b)),
    ">=": _first_to_all(lambda a, b: bool(a >= b)),
    "in": lambda args: len(args) > 1 and args[0] in args[1:],
    "not": lambda args: not any(args),
    "or": any,
    "and": all,
}


def parse(text: str) -> Query:
    """The query as a predicate.

    Raises:
        UnusableHint: no JSON list, an unknown operation, or nested deeper than ``DEPTH_MAX``.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableHint(f"spec.schedulerHints query is no JSON: {error}") from error
    _check(tree, 0)
    return lambda host: bool(_evaluate(tree, host))


def _check(tree: Any, depth: int) -> None:
    if not isinstance(tree, list) or not tree or tree[0] not in list(_OPERATIONS):
        allowed = " ".join(_OPERATIONS)
        shown = json.dumps(tree)[:80]
        raise UnusableHint(
            f"spec.schedulerHints query: {shown} is no list that begins with one of {allowed}"
        )
    if depth >= DEPTH_MAX:
        raise UnusableHint(f"spec.schedulerHints query is nested deeper than {DEPTH_MAX}")
    for part in tree[1:]:
        if isinstance(part, list):
            _check(part, depth + 1)


def _evaluate(tree: Any, host: Host) -> Any:
    if isinstance(tree, list):
        return _OPERATIONS[tree[0]]([_evaluate(part, host) for part in tree[1:]])
    if isinstance(tree, str) and tree.startswith("$"):
        return fact(host, tree[1:].split("."))
    return tree
