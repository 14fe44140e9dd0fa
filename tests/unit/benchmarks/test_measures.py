"""What the benchmarks count and compute."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.controlplane import Run, Settings, _result
from benchmarks.measures import GUEST_STATUS, QUOTA, api_writes, leases_apart, ledger, parse
from benchmarks.results import percentile

PAGE = """\
# HELP apiserver_request_total Counter
apiserver_request_total{code="201",resource="instances",subresource="",verb="POST"} 3
apiserver_request_total{code="409",resource="instances",subresource="",verb="POST"} 5
apiserver_request_total{code="200",resource="instances",subresource="status",verb="PATCH"} 1e+01
apiserver_request_total{code="200",resource="instances",subresource="",verb="GET"} 99
apiserver_request_total{code="200",resource="leases",subresource="",verb="PATCH"} 7
apiserver_request_total{code="201",resource="events",subresource="",verb="POST"} 2
apiserver_request_total{code="200",resource="hypervisors",subresource="status",verb="PATCH"} 4
apiserver_request_total{code="201",resource="tokenreviews",subresource="",verb="POST"} 8
novakube_leader 1
"""


def test_writes_are_those_that_the_server_took() -> None:
    counted = api_writes(PAGE)
    assert counted["POST instances"] == 3
    assert counted["PATCH instances/status"] == 10
    assert not any(what.startswith("GET") for what in counted)


def test_ledger_counts_rollups_leases_and_events_apart() -> None:
    before = api_writes('apiserver_request_total{code="201",resource="instances",subresource="",verb="POST"} 1')  # fmt: skip # noqa: E501
    made = ledger(before, api_writes(PAGE))
    assert made.objects == {"POST instances": 2, "PATCH instances/status": 10}
    assert made.rollups == {"PATCH hypervisors/status": 4}
    assert (made.events, made.leases) == (2, 7)


def test_labels_with_quotes_and_braces() -> None:
    assert parse('a{x="1,\\"}",y="b"} 2') == [("a", {"x": '1,\\"}', "y": "b"}, 2.0)]


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_percentile_is_the_nearest_rank(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value
    assert percentile([7.0], share) == 7.0


def test_a_run_that_counted_nothing_makes_no_figures() -> None:
    with pytest.raises(AssertionError):
        _result(Settings(1, 1, 1, quick=True), Run())


def test_a_quota_is_written_ahead_at_most_once_for_each_create() -> None:
    made = ledger(Counter(), Counter({QUOTA: 5, "POST guests": 4}), creates=4)
    assert made.objects == {QUOTA: 4, "POST guests": 4}
    assert made.rollups == {QUOTA: 1}
    batched = ledger(Counter(), Counter({QUOTA: 2, "POST guests": 4}), creates=4)
    assert (batched.objects[QUOTA], batched.rollups) == (2, {})


def test_leases_of_guests_are_a_rollup() -> None:
    agent = "novakube_guest_lease_writes_total {}.0\nnovakube_guest_lease_writes_created 1.7e9\n"
    before = leases_apart(Counter({GUEST_STATUS: 9}), agent.format(4))
    after = leases_apart(Counter({GUEST_STATUS: 13, "POST guests": 1}), agent.format(6))
    made = ledger(before, after)
    assert made.objects == {GUEST_STATUS: 2, "POST guests": 1}
    assert made.rollups == {"PATCH guests/leases": 2}
