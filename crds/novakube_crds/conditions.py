"""Conditions as values: pure functions over lists and tuples of Condition."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TypeVar

from novakube_crds.base import Condition

ConditionStatus = Literal["True", "False", "Unknown"]
Conditions = TypeVar("Conditions", list[Condition], tuple[Condition, ...])


def rfc3339(moment: datetime) -> str:
    """A moment as Kubernetes writes it: UTC, whole seconds.

    Raises:
        ValueError: the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def get_condition(conditions: Iterable[Condition], type: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:
    """Whether the condition is there with status True."""
    found = get_condition(conditions, type)
    return found is not None and found.status == "True"


def set_condition(
    conditions: Conditions,
    type: str,
    status: ConditionStatus,
    reason: str,
    message: str = "",
    *,
    now: datetime,
    observed_generation: int | None = None,
) -> Conditions:
    """The conditions with this one in them, in its old place or at the end.

    ``lastTransitionTime`` moves only when the status does. When nothing changed the very same
    object is returned, so ``is`` tells whether a write is needed.

    Args:
        conditions: list or tuple; never changed, and the answer is of the same type.
        type: condition type, such as ``Ready``.
        status: True, False or Unknown.
        reason: one CamelCase word.
        message: the full cause, for people.
        now: moment of the decision.
        observed_generation: generation of the spec it speaks of.
    """
    old = get_condition(conditions, type)
    since = rfc3339(now) if old is None or old.status != status else old.last_transition_time
    new = Condition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        observed_generation=observed_generation,
        last_transition_time=since,
    )
    if new == old:
        return conditions
    changed = [new if condition is old else condition for condition in conditions]
    if old is None:
        changed.append(new)
    return conditions.__class__(changed)


def remove_condition(conditions: Conditions, type: str) -> Conditions:
    """The conditions without that type; the same object when it was not there."""
    if get_condition(conditions, type) is None:
        return conditions
    return conditions.__class__(condition for condition in conditions if condition.type != type)
