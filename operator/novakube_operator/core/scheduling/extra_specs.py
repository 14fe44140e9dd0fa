"""Nova's comparison language of extra specs. Pure.

Source: nova/scheduler/filters/extra_specs_ops.py (oslo.utils specs_matcher).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any


def _numbers(compare: Callable[[float, float], bool]) -> Callable[[Any, str], bool]:
    def method(value: Any, wanted: str) -> bool:
        try:
            return compare(float(value), float(wanted))
        except (TypeError, ValueError):
            return False

    return method


def _strings(compare: Callable[[str, str], bool]) -> Callable[[Any, str], bool]:
    return lambda value, wanted: compare(str(value), wanted)


def _contains(value: Any, wanted: str) -> bool:
    if value is None:
        return False
    if isinstance(value, list | tuple | set | frozenset):
        return wanted in value
    return wanted in str(value)


OPERATORS: dict[str, Callable[[Any, str], bool]] = {
    # One of the two ways in which Nova's "=" is no equality: it means "at least".
    "=": _numbers(operator.ge),
    "<in>": _contains,
    "==": _numbers(operator.eq),
    "!=": _numbers(operator.ne),
    ">=": _numbers(operator.ge),
    "<=": _numbers(operator.le),
    "s==": _strings(operator.eq),
    "s!=": _strings(operator.ne),
    "s<": _strings(operator.lt),
    "s<=": _strings(operator.le),
    "s>": _strings(operator.gt),
    "s>=": _strings(operator.ge),
}


def matcher(wanted: str) -> Callable[[Any], bool]:
    """Whether a value is what ``wanted`` asks for, read once for all nodes.

    Without an operator: equal as strings. An operator without an operand, or a number that is
    none, matches nothing; neither does None (unknown).
    """
    words = wanted.split()
    first, rest = (words[0], words[1:]) if words else ("", [])
    if first == "<or>":
        # "<or> a <or> b": a and b.
        allowed = frozenset(word for word in rest if word != "<or>")
        return lambda value: value is not None and str(value) in allowed
    if first == "<all-in>":
        return lambda value: bool(rest) and all(_contains(value, word) for word in rest)
    method = OPERATORS.get(first)
    if method is None:
        return lambda value: value is not None and str(value) == wanted
    if not rest:
        return lambda _: False
    return lambda value: value is not None and method(value, rest[0])
