"""Named points at which a test may kill the process.

Every API write, host operation and SQL commit runs inside ``with failpoint(name)``; the
wrappers of those layers place it, so that a new step cannot be forgotten.

``NOVAKUBE_FAILPOINT=name:before|after[:nth]`` sends SIGKILL to this process before the nth
(default first) step of that name begins, or after it has succeeded.
``NOVAKUBE_FAILPOINT_TRACE=file`` appends the name of each step that begins, one per line.
``NOVAKUBE_FAILPOINT_DIR=directory`` arms processes that run already: while
``<program>.trigger`` there holds ``name:before|after[:nth]``, the process stands still at that
step, having written its pid to ``<program>.reached``, until the trigger is removed; whoever
waits for that kills the process, or another one that the step depends on. While
``<program>.trace`` is there, names are appended to it.
Without these variables a failpoint is one call that returns a shared object.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from novakube_kit.errors import InvalidSpec

_NOTHING: AbstractContextManager[None] = nullcontext()
HOLD_POLL_S = 0.01
HOLD_MAX_S = 120.0
"""A process whose trigger nobody removes goes on after this."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Where to die."""

    name: str
    moment: Literal["before", "after"]
    nth: int = 1


def parse_trigger(text: str) -> Trigger:
    """``name:before|after[:nth]``.

    Raises:
        InvalidSpec: any other form.
    """
    name, _, rest = text.partition(":")
    moment, _, nth = rest.partition(":")
    if not name or moment not in ("before", "after") or (nth and not nth.isdecimal()):
        raise InvalidSpec(
            f"NOVAKUBE_FAILPOINT is {text!r}; allowed is name:before|after[:nth], nth from 1",
            reason="InvalidConfiguration",
        )
    return Trigger(name, "before" if moment == "before" else "after", max(1, int(nth or 1)))


class Failpoints:
    """The armed trigger and the trace of one process."""

    def __init__(self, trigger: Trigger | None, trace: Path | None) -> None:
        self._trigger = trigger
        self._trace = trace
        self._passes = 0

    def at(self, name: str) -> AbstractContextManager[None]:
        """The step's context."""
        return _Step(self, name)

    def begin(self, name: str) -> bool:
        """Traces, dies when armed for ``before``; True when the step must die after."""
        if self._trace is not None:
            # One write of one line with O_APPEND: lines of several processes stay whole.
            with self._trace.open("a", encoding="utf-8") as file:
                file.write(name + "\n")
        if self._trigger is None or self._trigger.name != name:
            return False
        self._passes += 1
        if self._passes != self._trigger.nth:
            return False
        if self._trigger.moment == "before":
            self.end()
        return True

    def end(self) -> None:
        """Dies."""
        die()


class Held:
    """Triggers that appear while the process runs; it stands still there instead of dying."""

    def __init__(self, directory: Path, program: str) -> None:
        self._trigger_file = directory / f"{program}.trigger"
        self._reached_file = directory / f"{program}.reached"
        self._trace_file = directory / f"{program}.trace"
        self._text = ""
        self._passes = 0

    def at(self, name: str) -> AbstractContextManager[None]:
        """The step's context."""
        return _Step(self, name)

    def begin(self, name: str) -> bool:
        """Traces, stands still when armed for ``before``; True for ``after``."""
        if self._trace_file.exists():
            with self._trace_file.open("a", encoding="utf-8") as file:
                file.write(name + "\n")
        try:
            text = self._trigger_file.read_text()
        except FileNotFoundError:
            return False
        if text != self._text:
            self._text, self._passes = text, 0
        trigger = parse_trigger(text.split()[0])
        if trigger.name != name:
            return False
        self._passes += 1
        if self._passes != trigger.nth:
            return False
        if trigger.moment == "before":
            self.end()
        return trigger.moment == "after"

    def end(self) -> None:
        """Blocks the whole thread, as a process that is about to die does nothing any more."""
        self._reached_file.write_text(str(os.getpid()))
        give_up_at = time.monotonic() + HOLD_MAX_S
        while self._trigger_file.exists() and time.monotonic() < give_up_at:
            time.sleep(HOLD_POLL_S)


class _Step:
    __slots__ = ("_die_after", "_name", "_points")

    def __init__(self, points: Failpoints | Held, name: str) -> None:
        self._points = points
        self._name = name
        self._die_after = False

    def __enter__(self) -> None:
        self._die_after = self._points.begin(self._name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A step that failed did nothing to die after.
        if self._die_after and kind is None:
            self._points.end()


def die() -> None:
    """SIGKILL to this process: no handler, no flush, as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)


def program() -> str:
    """``novakube_operator``: the package that ``python -m`` or a console script runs."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return str(spec.name).partition(".")[0]
    return Path(sys.argv[0]).stem.replace("-", "_")


def from_environment(environment: Mapping[str, str]) -> Failpoints | Held | None:
    """What the environment arms; None when nothing is.

    Raises:
        InvalidSpec: ``NOVAKUBE_FAILPOINT`` is malformed.
    """
    trigger = environment.get("NOVAKUBE_FAILPOINT", "")
    trace = environment.get("NOVAKUBE_FAILPOINT_TRACE", "")
    directory = environment.get("NOVAKUBE_FAILPOINT_DIR", "")
    if directory:
        return Held(Path(directory), program())
    if not trigger and not trace:
        return None
    return Failpoints(parse_trigger(trigger) if trigger else None, Path(trace) if trace else None)


_ACTIVE = from_environment(os.environ)


def failpoint(name: str) -> AbstractContextManager[None]:
    """Context of one effect, such as ``kube.patch.guests.status``."""
    return _NOTHING if _ACTIVE is None else _ACTIVE.at(name)
