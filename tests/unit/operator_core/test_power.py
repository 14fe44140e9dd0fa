"""One table of power transitions, the same on both sides."""

from __future__ import annotations

from typing import get_args

import pytest

from novakube_agent.power import IMPOSSIBLE as AGENTS
from novakube_crds.base import PowerState
from novakube_operator.core import power


def test_operator_and_agent_agree_on_what_is_impossible() -> None:
    agents = {pair for pair in AGENTS if pair[0] != "New"}
    assert agents == set(power.IMPOSSIBLE)


@pytest.mark.parametrize("now", get_args(PowerState))
@pytest.mark.parametrize("action", power.ACTIONS)
def test_an_action_is_possible_only_where_its_order_is(action: str, now: str) -> None:
    target, why = power.action_order(action, now)
    if target is None:
        assert why.startswith(f"{action} needs a guest that is ")
        assert why.endswith(f"it is {now}")
    else:
        assert power.refusal(now, target) is None
        assert (now, target) in power.TRANSIENT


def test_a_guest_is_made_running_or_stopped() -> None:
    wishes: list[PowerState | None] = ["Running", "Stopped", "Paused", "Suspended", None]
    made = [power.first_wish(wish) for wish in wishes]
    assert made == ["Running", "Stopped", "Running", "Running", "Running"]
