"""Operator and agent killed in the middle of creates with real machines."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from novakube_kit.kube import Json
from tests.deadlines import MACHINE_S
from tests.e2e.cloud import LocalCloud
from tests.e2e.test_bad_input import instance
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)
ROUNDS = 4
Moment = Callable[[LocalCloud, str, Json], bool]


def has(plural: str) -> Moment:
    """Something of that kind is in the namespace."""
    return lambda cloud, namespace, _: bool(cloud.list(plural, namespace))


def finalized(cloud: LocalCloud, namespace: str, web: Json) -> bool:
    return bool((cloud.get("instances", "web", namespace) or {})["metadata"].get("finalizers"))


def guest(cloud: LocalCloud, namespace: str, _: Json) -> bool:
    return bool(cloud.guests_of("web", namespace))


def journaled(cloud: LocalCloud, namespace: str, _: Json) -> bool:
    folder = cloud.node.state_dir / "journal"
    uids = [one["metadata"]["uid"] for one in cloud.guests_of("web", namespace)]
    return any((folder / f"{uid}.json").exists() for uid in uids)


def disk(cloud: LocalCloud, namespace: str, web: Json) -> bool:
    return any((cloud.node.state_dir / "guests").glob(f"{web['metadata']['uid']}-*/vda*"))


def defined(cloud: LocalCloud, namespace: str, web: Json) -> bool:
    return any(web["metadata"]["uid"] in name for name in cloud.node.domains())


def started(cloud: LocalCloud, namespace: str, web: Json) -> bool:
    return bool(cloud.node.qemu(f"novakube-{web['metadata']['uid']}-1"))


MOMENTS: dict[str, Moment] = {
    "made": lambda *_: True,
    "finalized": finalized,
    "address claimed": has("ipaddresses"),
    "port made": has("ports"),
    "guest made": guest,
    "journaled": journaled,
    "disk made": disk,
    "domain defined": defined,
    "qemu started": started,
}
"""What can be seen of a create, in order; between being seen and the kill passes what passes."""


def test_killed_at_random_moments_a_create_ends_in_running(
    cloud: LocalCloud, namespace: str, chance: random.Random
) -> None:
    rounds = [
        {victim: chance.choice(list(MOMENTS)) for victim in ("operator", "agent")}
        for _ in range(ROUNDS)
    ]
    victims = {"operator": cloud.operator, "agent": cloud.node.agent}
    order = list(MOMENTS)
    for number, kills in enumerate(rounds):
        print(f"round {number}: {kills}")
        instance(cloud, namespace)
        web = cloud.get("instances", "web", namespace) or {}
        for victim, moment in sorted(kills.items(), key=lambda one: order.index(one[1])):
            wait_until_sync(
                lambda moment=moment, web=web: MOMENTS[moment](cloud, namespace, web),
                f"{moment} in {kills}", MACHINE_S,
            )  # fmt: skip
            victims[victim].kill()
        found = cloud.running("web", namespace)
        once(cloud, namespace, found)
        cloud.empty(namespace)


def once(cloud: LocalCloud, namespace: str, found: Json) -> None:
    """One Guest, one domain, one QEMU, one Port, one address."""
    (guest,) = cloud.guests_of("web", namespace)
    assert found["status"]["guest"] == guest["metadata"]["name"]
    uid = found["metadata"]["uid"]
    assert [name for name in cloud.node.domains() if uid in name] == [f"novakube-{uid}-1"]
    assert len(cloud.node.qemu(f"novakube-{uid}-1")) == 1
    (claim,) = cloud.list("ipaddresses", namespace)
    assert len(cloud.list("ports", namespace)) == 1
    assert [a["address"] for a in found["status"]["addresses"]] == [claim["spec"]["address"]]
