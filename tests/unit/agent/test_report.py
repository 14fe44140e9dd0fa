"""When a node is looked at again."""

from __future__ import annotations

from typing import Any

import pytest

from novakube_agent.drivers.fake import FakeState, fake_ports
from novakube_agent.report import REPORT_INTERVAL_S, TROUBLED_INTERVAL_S, NodeState
from novakube_agent.settings import FakeSettings


@pytest.mark.parametrize(
    ("fields", "again_s"),
    [
        ({}, REPORT_INTERVAL_S),
        ({"facts": None}, TROUBLED_INTERVAL_S),
        ({"driver_error": ("HypervisorUnreachable", "no answer")}, TROUBLED_INTERVAL_S),
        ({"network_error": ("CommandFailed", "iptables")}, TROUBLED_INTERVAL_S),
        ({"state_error": ("StateUnusable", "read-only")}, TROUBLED_INTERVAL_S),
        ({"refused": "guests is forbidden"}, TROUBLED_INTERVAL_S),
    ],
)
async def test_trouble_that_is_over_is_told_soon(
    tmp_path: Any, fields: dict[str, Any], again_s: float
) -> None:
    """A node whose libvirt had been slow once took no Instances for a minute."""
    facts = await fake_ports(FakeState("n1"), FakeSettings(), tmp_path).driver.facts()
    state = NodeState(address="192.0.2.9", **{"facts": facts, **fields})
    assert state.look_again_s == again_s
