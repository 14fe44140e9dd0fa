from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.base import Condition
from novakube_crds.conditions import (
    get_condition,
    is_true,
    remove_condition,
    rfc3339,
    set_condition,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = T0 + timedelta(minutes=5)
FIRST: tuple[Condition, ...] = set_condition((), "Ready", "False", "Waiting", "a", now=T0)


@pytest.mark.parametrize(
    ("change", "want_since"),
    [
        pytest.param({"status": "True", "reason": "Up"}, T1, id="status moves the time"),
        pytest.param({"status": "False", "reason": "Other"}, T0, id="reason does not"),
        pytest.param({"status": "False", "reason": "Waiting", "message": "b"}, T0, id="message"),
        pytest.param(
            {"status": "False", "reason": "Waiting", "observed_generation": 4}, T0, id="generation"
        ),
    ],
)
def test_transition_time(change: dict[str, Any], want_since: datetime) -> None:
    changed = set_condition(FIRST, "Ready", now=T1, **change)
    found = get_condition(changed, "Ready")
    assert found is not None
    assert found.last_transition_time == rfc3339(want_since)
    assert changed is not FIRST


def test_nothing_changed_is_the_same_object() -> None:
    assert set_condition(FIRST, "Ready", "False", "Waiting", "a", now=T1) is FIRST
    as_list = list(FIRST)
    assert set_condition(as_list, "Ready", "False", "Waiting", "a", now=T1) is as_list
    assert remove_condition(FIRST, "Other") is FIRST


def test_order_is_kept_and_the_argument_untouched() -> None:
    two = set_condition(list(FIRST), "Stalled", "False", "Fine", now=T0)
    three = set_condition(two, "Ready", "True", "Up", now=T1)
    assert [c.type for c in three] == ["Ready", "Stalled"]
    assert two[0].status == "False"
    assert is_true(three, "Ready")
    assert not is_true(three, "Absent")
    assert [c.type for c in remove_condition(three, "Ready")] == ["Stalled"]


def test_moments() -> None:
    assert rfc3339(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == (
        "2026-01-01T00:00:00Z"
    )
    with pytest.raises(ValueError, match="time zone"):
        rfc3339(datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["True", "False", "Unknown"]))))
def test_one_condition_per_type_and_the_last_word_holds(steps: list[tuple[str, Any]]) -> None:
    conditions: tuple[Condition, ...] = ()
    for kind, status in steps:
        conditions = set_condition(conditions, kind, status, "Said", now=T0)
    assert {c.type: c.status for c in conditions} == dict(steps)
    assert len(conditions) == len(dict(steps))
