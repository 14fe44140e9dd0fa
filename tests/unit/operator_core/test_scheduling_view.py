"""From a Hypervisor's conditions to the words of the sentence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from novakube_crds.v1alpha1.hypervisor import HypervisorSpec, HypervisorStatus
from novakube_operator.core.nodes import Heartbeat, NodeView, hypervisor_status
from novakube_operator.core.scheduling.hosts import Unschedulable
from novakube_operator.core.scheduling.view import unschedulable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def status(spec: HypervisorSpec, heartbeat: Heartbeat, failures: int = 0) -> HypervisorStatus:
    """As the node controller writes it."""
    view = NodeView(
        uid="u", generation=1, spec=spec, report=None, heartbeat=heartbeat, guests=(),
        zone="nova", node_exists=True, build_failures=failures, build_failures_max=3,
    )  # fmt: skip
    return hypervisor_status(view, HypervisorStatus(), NOW)


ALIVE = Heartbeat(1.0, NOW)


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (HypervisorStatus(), "without a report yet"),
        (status(HypervisorSpec(maintenance=True), ALIVE), "disabled (maintenance)"),
        (status(HypervisorSpec(enabled=False, disabled_reason="fan"), ALIVE), "disabled (fan)"),
        (status(HypervisorSpec(forced_down=True), ALIVE), "declared dead (spec.forcedDown)"),
        (status(HypervisorSpec(), ALIVE, 3), "disabled (3 builds in a row failed)"),
        (status(HypervisorSpec(), Heartbeat(None, None)), "never heard"),
        (status(HypervisorSpec(), ALIVE), "not ready (the agent has reported nothing yet)"),
    ],
)
def test_words(found: HypervisorStatus, want: str) -> None:
    why = unschedulable(found, deleting=False)
    assert why is not None
    assert (why.text, why.silent_since) == (want, None)


def test_silence_is_counted_on_our_own_clock() -> None:
    """40 s before our condition turned, whatever the node's clock wrote into its heartbeat."""
    wrong = datetime(2001, 1, 1, tzinfo=UTC)
    why = unschedulable(status(HypervisorSpec(), Heartbeat(41.0, wrong)), deleting=False)
    assert why == Unschedulable("HeartbeatLost", "heartbeat", NOW.timestamp() - 40)


def test_a_node_that_is_being_removed_takes_nothing() -> None:
    why = unschedulable(status(HypervisorSpec(), ALIVE), deleting=True)
    assert why is not None
    assert why.text == "being removed"
