"""The README's line of figures, on a running cloud that it leaves alone."""

from __future__ import annotations

import json

import pytest

from tests.e2e.cloud import ROOT, LocalCloud, make


def figures(benchmark: str) -> dict[str, dict[str, float | str]]:
    """What a quick run of a benchmark wrote."""
    text = (ROOT / ".local" / "bench" / f"{benchmark}.json").read_text()
    found: dict[str, dict[str, float | str]] = json.loads(text)["figures"]
    return found


def check_ledger(figure: dict[str, float | str]) -> None:
    """One write of each sort for a create; statuses twice where a step takes longer."""
    each = dict(part.rsplit(" ", 1) for part in str(figure["note"]).split(", "))
    statuses = {"PATCH guests/status", "PATCH instances/status"}
    once = {"POST instances", "PATCH instances", "POST ipaddresses", "POST ports", "POST guests"}
    assert once | statuses <= set(each) <= once | statuses | {"PATCH quotas/status"}, each
    assert all(float(each[what]) == 1 for what in once), each
    assert all(1 <= float(each[what]) <= 2 for what in statuses), each


@pytest.mark.timeout(1500)
def test_quick_figures(cloud: LocalCloud) -> None:
    make("bench", "QUICK=1")
    assert (cloud.get("instances", "hello", "demo") or {})["status"]["state"] == "Running"
    plane, vm = figures("control-plane"), figures("vm")
    check_ledger(plane["writes-per-create"])
    check_ledger(vm["vm-writes-per-create"])
    for figure in (plane["events-per-create"], vm["vm-events-per-create"]):
        assert 1 <= float(figure["value"]) <= 3
    assert float(vm["vm-ratio-to-raw-libvirt"]["value"]) > 0
