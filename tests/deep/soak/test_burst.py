"""Five hundred creates at once, then five hundred deletes at once: all end, nothing is left."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deadlines import READY_S
from tests.integration.operator.cloud import MAILBOX, Cloud
from tests.integration.operator.conftest import IMAGE, a_cloud
from tests.waiting import wait_until_sync

COUNT = 500
AT_ONCE = 32
BURST_S = 5 * READY_S
"""Fifteen a second are promised on two quiet cores; here others load them as well."""
NAMESPACE = "burst"
WEB = {
    "flavor": {"name": "tiny"},
    "image": {"name": "guest"},
    "networks": [{"network": {"name": "net"}}],
}
NAMES = [f"b{number:03d}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("burst")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> Callable[[str], int]:
    """A count by SQL."""
    path = Path(cloud.operator.env["NOVAKUBE_DATABASE_URL"].removeprefix("sqlite:///"))

    def count(query: str) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            found: int = database.execute(query).fetchone()[0]
            return found

    return count


def furnish(cloud: Cloud) -> None:
    """A project with room for all of them, and a node that has it too."""
    label = {"labels": {"novakube.dev/project-id": NAMESPACE}}
    hard = {"instances": COUNT, "cores": COUNT, "memoryMiB": COUNT * 128, "ports": COUNT}
    body = {"metadata": {"name": NAMESPACE}}
    cloud.admin.call("POST", "/api/v1/namespaces", body)
    cloud.make("Quota", "quota", {"hard": hard}, NAMESPACE)
    merge = "application/merge-patch+json"
    cloud.admin.call("PATCH", f"/api/v1/namespaces/{NAMESPACE}", {"metadata": label}, merge)
    ratios = {"cpuAllocationRatio": 1000.0, "memoryAllocationRatio": 1000.0}
    cloud.patch("hypervisors", "n1", {"spec": ratios | {"diskAllocationRatio": 1000.0}})
    cloud.make("Image", "guest", IMAGE, NAMESPACE)
    cloud.make("Network", "net", {}, NAMESPACE)
    cloud.make("Subnet", "net-v4", {"network": {"name": "net"}, "cidr": "10.20.0.0/22"}, NAMESPACE)
    cloud.until_ready("networks", "net", NAMESPACE)


def all_at_once(deed: Callable[[str], object]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(deed, NAMES))


def until(cloud: Cloud, what: str, problems: Callable[[], list[str]]) -> None:
    """Waits until nothing is wrong; says what is."""
    seen: list[str] = []

    def holds() -> bool:
        cloud.operator.check()
        cloud.agent.check()
        seen[:] = problems()
        return not seen

    try:
        wait_until_sync(holds, what, BURST_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {len(seen)}: {seen[:5]}") from None


def quota_is(cloud: Cloud, count: int) -> list[str]:
    status = (cloud.get("quotas", "quota", NAMESPACE) or {}).get("status", {})
    used = {name: status.get("used", {}).get(name) for name in ("instances", "ports", "cores")}
    wrong = [f"quota: used {used}, not {count}"] if set(used.values()) != {count} else []
    return wrong + ([f"quota: pending {status['pending']}"] if status.get("pending") else [])


@pytest.mark.timeout(4 * BURST_S)
def test_all_run_then_all_are_gone(cloud: Cloud, history: Callable[[str], int]) -> None:
    furnish(cloud)
    all_at_once(lambda name: cloud.make("Instance", name, WEB, NAMESPACE))

    until(cloud, f"{COUNT} run", lambda: quota_is(cloud, COUNT))

    def not_running() -> list[str]:
        found = cloud.list("instances", NAMESPACE)
        return [i["metadata"]["name"] for i in found if i["status"]["state"] != "Running"]

    until(cloud, "each run", not_running)
    addresses = [item["spec"]["address"] for item in cloud.list("ipaddresses", NAMESPACE)]
    assert len(set(addresses)) == len(addresses) == COUNT

    all_at_once(lambda name: cloud.delete("instances", name, NAMESPACE))

    until(cloud, "the Quota is free", lambda: quota_is(cloud, 0))
    places = (("instances", NAMESPACE), ("guests", MAILBOX), ("ports", NAMESPACE),
              ("ipaddresses", NAMESPACE))  # fmt: skip

    def left() -> list[str]:
        return [
            f"{plural}/{item['metadata']['name']}"
            for plural, namespace in places
            for item in cloud.list(plural, namespace)
        ]

    until(cloud, "nothing is left", left)
    assert json.loads(cloud.host_file.read_text())["domains"] == {}
    until(
        cloud,
        "history tells of all their ends",
        lambda: (
            []
            if history("select count(*) from instances where terminated_at is not null") == COUNT
            else ["rows"]
        ),
    )
