"""How long this process has waited for the Guests it made. Pure.

``creationTimestamp`` has whole seconds: by it most Guests are old the moment they are made, and
each would cost the write of a Building that nobody ever sees. And it is of another clock: where
ours jumps ahead, each would be past its deadline.
"""

from __future__ import annotations


class Patience:
    """Guests made by this process."""

    def __init__(self, enough_s: float) -> None:
        """Args: enough_s: after this long a Guest is shown as Building."""
        self._enough_s = enough_s
        self._made_at: dict[str, float] = {}
        self._looked_at: set[str] = set()

    def made(self, guest_uid: str, now_s: float) -> None:
        """A Guest was made at this moment of a clock that never jumps."""
        self._made_at[guest_uid] = now_s

    def left_s(self, guest_uid: str, now_s: float, *, answered: bool) -> float | None:
        """Seconds to leave the Guest alone; None: look at it now, and at every later call."""
        made_at = self._made_at.get(guest_uid)
        if made_at is None or guest_uid in self._looked_at:
            return None
        left_s = made_at + self._enough_s - now_s
        if left_s > 0 and not answered:
            return left_s
        self._looked_at.add(guest_uid)
        return None

    def waited_s(self, guest_uid: str, now_s: float) -> float | None:
        """Since the Guest was made; None: another process made it."""
        made_at = self._made_at.get(guest_uid)
        return None if made_at is None else now_s - made_at

    def forget(self, guest_uid: str) -> None:
        """The Guest is gone."""
        self._made_at.pop(guest_uid, None)
        self._looked_at.discard(guest_uid)
