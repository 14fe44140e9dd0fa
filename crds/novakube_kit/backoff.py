"""Exponential backoff of one loop, with jitter."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double from ``first_s`` to ``max_s`` until ``reset``."""

    __slots__ = ("_failures", "_first_s", "_max_s")

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._failures = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """The next pause; a server's ``Retry-After`` is kept as the lower bound.

        Jitter shortens the doubled value by up to a quarter, so the maximum holds.
        """
        full_s = min(self._max_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(at_least_s or 0.0, full_s * random.uniform(0.75, 1.0))  # noqa: S311

    def reset(self) -> None:
        """The next pause is the first again."""
        self._failures = 0
