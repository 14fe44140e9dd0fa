"""The plan over an Instance and its Guest: from anywhere to rest, and never an unasked end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novakube_crds.conditions import get_condition, is_true, rfc3339
from novakube_crds.v1alpha1.instanceaction import InstanceActionSpec
from novakube_operator.core.actions import Taken, begin, left_behind
from novakube_operator.core.follow import plan
from novakube_operator.core.outcome import GuestOrder
from tests.unit.operator_core.plan_objects import (
    FACTS,
    MADE,
    NOW,
    a_guest,
    an_action,
    an_instance,
    ordered,
    passes,
    running,
)

POWER = ["Running", "Stopped", "Paused", "Suspended"]
LIMITS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
RAN: dict[str, Any] = {
    "state": "Running", "wantedPowerState": "Running", "powerSequence": 1,
    "launchedAt": rfc3339(MADE), "vmState": "active",
}  # fmt: skip
maybe_power = st.none() | st.sampled_from(POWER)
moments = st.sampled_from([None, rfc3339(MADE)])
later = st.sampled_from([rfc3339(NOW - timedelta(days=1)), rfc3339(NOW + timedelta(days=1))])
soft = st.none() | st.builds(
    lambda until: {"at": rfc3339(MADE), **({"until": until} if until else {})}, st.none() | later
)


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


instances = st.builds(
    an_instance,
    st.builds(
        lambda power, shutdown: without_none({"powerState": power, "onGuestShutdown": shutdown}),
        maybe_power,
        st.sampled_from(["Stop", "Restart", "Delete"]),
    ),
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(
                ["Scheduling", "Pending", "Building", "Running", "Stopped", "Error", "NodeSilent"]
            ),
            "wantedPowerState": maybe_power,
            "appliedPowerState": maybe_power,
            "powerSequence": st.integers(0, 3),
            "launchedAt": moments,
            "observedGeneration": st.sampled_from([-1, 1, 2]),
            "refusedNodes": st.lists(st.sampled_from(["n1", "n2"]), max_size=4),
            "softDeleted": soft,
            "resetState": st.sampled_from([None, "error"]),
            "incarnation": st.integers(0, 2),
        }
    ).map(without_none),
)
guests = st.builds(
    a_guest,
    st.fixed_dictionaries(
        {
            "powerState": st.sampled_from(POWER),
            "powerSequence": st.integers(1, 3),
            "epoch": st.integers(0, 4),
            "teardown": st.sampled_from([None, None, "Destroy"]),
            "adopt": st.sampled_from([None, None, "00000000-0000-4000-8000-00000000000a"]),
        }
    ).map(without_none),
    st.fixed_dictionaries(
        {
            "phase": st.sampled_from(
                ["Pending", "Building", "Ready", "Rejected", "Failed", "Lost", "Gone"]
            ),
            "reason": st.sampled_from(["", "InsufficientMemory", "ImageNotFound", "CrashLoop"]),
            "powerState": st.sampled_from([*POWER, "Unknown"]),
            "powerSequence": st.integers(0, 3),
            "startedAt": moments,
            "stopReason": st.sampled_from([None, "GuestShutdown", "Destroyed", "Ordered"]),
            "powerError": st.sampled_from(["", "it cannot"]),
        }
    ).map(without_none),
)
facts = st.builds(
    lambda epoch, deadline_s, silent, apart: replace(
        FACTS, epoch=epoch, build_deadline_s=deadline_s, silent=silent, apart=apart
    ),
    st.integers(0, 5),
    st.sampled_from([1.0, 3600.0]),
    st.sampled_from([None, "node n1: no heartbeat"]),
    st.booleans(),
)


@LIMITS
@given(instances, guests, facts)
def test_it_comes_to_rest_from_anywhere(obj: Any, guest: Any, known: Any) -> None:
    obj, guest, last = passes(obj, guest, known)
    assert plan(obj, guest, known) == last
    if guest.status.phase == "Ready" and last.at_rest(obj) and guest.spec.teardown is None:
        # What was wanted was ordered, and what was ordered shows.
        assert guest.spec.power_sequence >= obj.status.power_sequence
        assert obj.status.power_state == guest.status.power_state


@LIMITS
@given(instances, guests, facts)
def test_it_is_a_function_of_its_arguments(obj: Any, guest: Any, known: Any) -> None:
    assert plan(obj, guest, known) == plan(obj, guest, known)


@LIMITS
@given(instances, guests, facts)
def test_it_never_ends_what_ran_unasked(obj: Any, guest: Any, known: Any) -> None:
    outcome = plan(obj, guest, known)
    ran = obj.status.launched_at or guest.status.started_at or guest.spec.adopt
    if outcome.order.teardown:
        assert not ran
    if outcome.remove_guest:
        assert guest.status.phase == "Gone"
    if outcome.delete_instance:
        gone = obj.status.soft_deleted
        due = gone is not None and gone.until is not None and gone.until <= rfc3339(NOW)
        assert due or obj.spec.on_guest_shutdown == "Delete"


@LIMITS
@given(instances, guests, facts)
def test_a_taken_teardown_is_left_alone(obj: Any, guest: Any, known: Any) -> None:
    if guest.spec.teardown is not None and guest.status.phase != "Gone":
        assert plan(obj, guest, known).at_rest(obj)


def test_a_silent_node_never_costs_a_guest_that_ran() -> None:
    """An adopted guest whose agent says nothing for longer than the build deadline."""
    adopting = a_guest({"adopt": "00000000-0000-4000-8000-00000000000a"})
    known = replace(FACTS, build_deadline_s=1.0, silent="node n1: no heartbeat")
    outcome = plan(an_instance(status=RAN), adopting, known)
    assert outcome.order == GuestOrder()
    assert (outcome.status.state, outcome.status.vm_state) == ("NodeSilent", "active")


def test_the_build_deadline_names_the_cause_and_ends_it() -> None:
    known = replace(FACTS, build_deadline_s=60.0)
    guest = a_guest(status={"phase": "Building", "message": "fetching image guest"})
    outcome = plan(an_instance(), guest, known)
    assert outcome.order.teardown
    assert outcome.status.state == "Error"
    assert outcome.status.fault is not None
    assert outcome.status.fault.message == "no guest after 60 s: fetching image guest"


@pytest.mark.parametrize(("epoch", "stamped"), [(3, None), (4, 4), (2, None)])
def test_a_first_boot_of_an_earlier_leader_is_confirmed(epoch: int, stamped: int | None) -> None:
    outcome = plan(an_instance(), a_guest(), replace(FACTS, epoch=epoch))
    assert outcome.order.epoch == stamped


def test_a_first_boot_apart_from_its_group_is_ended_but_no_adoption() -> None:
    late = replace(FACTS, epoch=9, apart=True)
    assert plan(an_instance(), a_guest(), late).order == GuestOrder(teardown=True)
    adopting = a_guest({"adopt": "00000000-0000-4000-8000-00000000000a"})
    assert plan(an_instance(status=RAN), adopting, late).order == GuestOrder(epoch=9)


def test_a_guest_that_ran_needs_no_confirmation() -> None:
    outcome = plan(an_instance(status=RAN), running(), replace(FACTS, epoch=9))
    assert outcome.order.epoch is None


def test_one_stop_from_within_is_answered_once() -> None:
    """The status is written and the Guest not patched yet: the next pass orders, no more."""
    obj = an_instance({"onGuestShutdown": "Restart"}, RAN)
    guest = running(powerState="Stopped", stopReason="GuestShutdown")
    first = plan(obj, guest, FACTS)
    again = plan(replace(obj, status=first.status), guest, FACTS)
    assert first.order == again.order == GuestOrder(power=("Running", 2))
    assert again.status.power_sequence == 2


def test_a_guest_that_went_off_is_stopped_and_stays_so_in_words() -> None:
    """The order that remembers it changes nothing: no Building meanwhile, and a Start may come."""
    obj = an_instance({"onGuestShutdown": "Stop"}, RAN)
    guest = running(powerState="Stopped", stopReason="GuestShutdown")
    first = plan(obj, guest, FACTS)
    assert (first.status.state, first.order) == ("Stopped", GuestOrder(power=("Stopped", 2)))
    patched = ordered(guest, first.order)
    obj = replace(obj, status=first.status)
    assert plan(obj, patched, FACTS).status.state == "Stopped"
    start = InstanceActionSpec.model_validate({"instance": {"name": "web"}, "action": "Start"})
    taken = begin(start, obj.status, patched, NOW, 0.0)
    assert taken == Taken(
        {"reset_state": None, "wanted_power_state": "Running", "power_sequence": 3}
    )


def test_soft_deleted_waits_for_its_time() -> None:
    until = rfc3339(NOW + timedelta(seconds=30))
    gone = {"softDeleted": {"at": rfc3339(MADE), "until": until}}
    obj = an_instance({"powerState": "Running"}, {**RAN, **gone, "wantedPowerState": "Stopped"})
    guest = running(powerState="Stopped", stopReason="Ordered")
    outcome = plan(obj, guest, FACTS)
    assert (outcome.status.state, outcome.status.vm_state) == ("SoftDeleted", "soft-delete")
    assert outcome.order == GuestOrder()  # the spec's Running waits until it is restored
    assert outcome.look_again_s == 30.0
    assert not outcome.delete_instance
    due = plan(obj, guest, replace(FACTS, now=NOW + timedelta(seconds=30)))
    assert due.delete_instance


def test_reset_to_error_shows_until_it_is_taken_back() -> None:
    obj = an_instance(status={**RAN, "resetState": "error"})
    outcome = plan(obj, running(), FACTS)
    ready = get_condition(outcome.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "ResetState")
    assert (outcome.status.state, outcome.status.vm_state) == ("Error", "error")
    healed = replace(obj, status=outcome.status.model_copy(update={"reset_state": None}))
    assert plan(healed, running(), FACTS).status.state == "Running"


@pytest.mark.parametrize(
    ("kind", "state", "reason", "wanted", "ordered_to_run"),
    [
        ("Reboot", "Succeeded", "", "Paused", True),
        ("Reboot", "Succeeded", "", "Stopped", True),
        ("Reboot", "Failed", "Interrupted", "Paused", True),
        ("Reboot", "Failed", "RebootFailed", "Paused", False),
        ("Reboot", "Succeeded", "", "Running", False),
        ("CrashDump", "Succeeded", "", "Paused", False),
    ],
)
def test_a_guest_that_was_rebooted_is_to_run(
    kind: str, state: str, reason: str, wanted: str, ordered_to_run: bool
) -> None:
    """It was left running under a wish that it be paused."""
    spec = {"instance": {"name": "web"}, "action": kind}
    action = an_action(spec, {"state": state, "reason": reason})
    status = an_instance(status={**RAN, "wantedPowerState": wanted, "powerSequence": 4}).status
    want = {"wanted_power_state": "Running", "power_sequence": 5} if ordered_to_run else {}
    assert left_behind(action, status) == want


def test_a_guest_that_is_not_as_wished_is_not_ready() -> None:
    obj = an_instance(status={**RAN, "wantedPowerState": "Paused"})
    status = plan(obj, running(), FACTS).status
    ready = get_condition(status.conditions, "Ready")
    assert ready is not None
    assert (status.state, ready.status, ready.reason) == ("Running", "False", "PowerDiffers")
    assert ready.message == "Running, the effective wish is Paused"


def test_a_power_order_that_failed_is_not_under_way_any_more() -> None:
    """Who waits for Reconciling to go would wait for ever."""
    suspending = an_instance(status={**RAN, "wantedPowerState": "Suspended", "powerSequence": 2})
    under_way = plan(suspending, running(), FACTS).status
    assert is_true(under_way.conditions, "Reconciling")
    spec = {"powerState": "Suspended", "powerSequence": 2}
    failed = {"phase": "Ready", "powerState": "Running", "powerSequence": 2,
              "startedAt": rfc3339(MADE), "powerError": "no room"}  # fmt: skip
    after = plan(replace(suspending, status=under_way), a_guest(spec, failed), FACTS).status
    assert (after.state, is_true(after.conditions, "Ready")) == ("Running", False)
    assert not is_true(after.conditions, "Reconciling")
    assert is_true(after.conditions, "Stalled")
    # The next order that is carried out ends it.
    again = replace(suspending, status=after.model_copy(update={"wanted_power_state": "Running"}))
    well = a_guest({"powerState": "Running", "powerSequence": 2}, {**failed, "powerError": ""})
    assert not is_true(plan(again, well, FACTS).status.conditions, "Stalled")


def test_a_clock_that_jumps_ends_no_build() -> None:
    hour_ahead = replace(FACTS, now=NOW + timedelta(hours=1))
    assert plan(an_instance(), a_guest(), hour_ahead).status.state == "Error"  # another's Guest
    outcome = plan(an_instance(), a_guest(), replace(hour_ahead, waited_s=1.0))
    assert (outcome.status.state, outcome.order) == ("Building", GuestOrder())
    late = plan(an_instance(), a_guest(), replace(FACTS, waited_s=601.0))
    assert late.order == GuestOrder(teardown=True)
