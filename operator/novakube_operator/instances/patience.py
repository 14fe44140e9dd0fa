"""How long this process has waited for the Guests it made. Pure.

``creationTimestamp`` has whole seconds: by it most Guests are old the moment they are made, and
each would cost the write of a Building that nobody ever sees.
"""

from __future__ import annotations


class Patience:
    """Guests made by this process that their node has not answered yet."""

    def __init__(self, enough_s: float) -> None:
        """Args: enough_s: after this long a Guest is shown as Building."""
        self._enough_s = enough_s
        self._made_at: dict[str, float] = {}

    def made(self, guest_uid: str, now_s: float) -> None:
        """A Guest was made at this moment of a clock that never jumps."""
        self._made_at[guest_uid] = now_s

    def left_s(self, guest_uid: str, now_s: float, *, answered: bool) -> float | None:
        """Seconds to leave the Guest alone; None: look at it now, and at every later call."""
        made_at = self._made_at.get(guest_uid)
        if made_at is None:
            return None
        left_s = made_at + self._enough_s - now_s
        if left_s > 0 and not answered:
            return left_s
        del self._made_at[guest_uid]
        return None

    def forget(self, guest_uid: str) -> None:
        """The Guest is gone."""
        self._made_at.pop(guest_uid, None)
