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


def match(value: Any, wanted: str) -> bool:
    """Whether ``value`` is what ``wanted`` asks for; without an operator: equal as strings.

    An operator without an operand, or a number that is none, matches nothing. ``value`` None
    (unknown) matches nothing.
    """
    if value is None:
        return False
    words = wanted.split()
    first = words[0] if words else ""
    if first == "<or>":
        return str(value) in _alternatives(words)
    if first == "<all-in>":
        return len(words) > 1 and all(_contains(value, word) for word in words[1:])
    method = OPERATORS.get(first)
    if method is None:
        return str(value) == wanted
    return len(words) > 1 and method(value, words[1])


def _alternatives(words: list[str]) -> list[str]:
    """``<or> a <or> b``: a and b."""
    return [word for word in words if word != "<or>"]
