"""Who is admitted, and how long that may be relied on."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import cast

import pytest

from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.quota import QUOTA, QUOTA_NAME
from novakube_kit.errors import Retryable
from novakube_kit.resources import resource_of
from novakube_operator.core.accept import Accepted, NotAcceptable
from novakube_operator.core.quota import ADMITTED_S
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube
from tests.unit.operator_instances.contexts import a_context, body

SMALL = cast("Accepted", SimpleNamespace(flavor=SimpleNamespace(vcpus=1, memory_mib=64), nics=()))


async def test_who_is_slow_from_admission_to_guest_is_admitted_anew() -> None:
    """Another leader may have given the entry up by then, and the room away."""
    kube, clock = FakeKube(), ManualClock()
    stores = Stores(lambda *_: None)
    admission = a_context(kube, stores, clock).quota
    quota = kube.seed(resource_of(QUOTA), body("Quota", QUOTA_NAME, "t", {}))
    stores.of("quotas").observe(quota)
    spec = {"flavor": {"name": "f"}, "image": {"name": "i"}}
    seeded = kube.seed(resource_of(INSTANCE), body("Instance", "web", "t", spec))
    instance = stores.of("instances").observe(seeded)
    assert instance is not None

    async with admission.admitted(instance, SMALL) as room:
        clock.advance(ADMITTED_S - 1)
        room.check()
        clock.advance(1)
        with pytest.raises(Retryable, match="admission"):
            room.check()
        first = stores.of("quotas").get("t", QUOTA_NAME)
        assert first is not None
        clock.advance(1)
    async with admission.admitted(instance, SMALL) as room:
        room.check()
        anew = stores.of("quotas").get("t", QUOTA_NAME)
        assert anew is not None
        assert anew.status.pending[0].since > first.status.pending[0].since


@pytest.mark.parametrize("asks", [0, 1], ids=["the older by UID", "the younger by UID"])
async def test_who_runs_is_in_its_group_before_who_was_made_in_the_same_second(asks: int) -> None:
    kube, stores = FakeKube(), Stores(lambda *_: None)
    admission = a_context(kube, stores, ManualClock()).quota
    hard = {"hard": {"serverGroupMembers": 1}}
    quota = kube.seed(resource_of(QUOTA), body("Quota", QUOTA_NAME, "t", hard))
    stores.of("quotas").observe(quota)
    spec = {"flavor": {"name": "f"}, "image": {"name": "i"}, "schedulerHints": {"group": ["g"]}}
    uids = sorted(str(uuid.uuid4()) for _ in range(2))
    members = []
    for number, uid in enumerate(uids):
        obj = body("Instance", f"m{number}", "t", spec)
        obj["metadata"]["uid"] = uid
        members.append(stores.of("instances").observe(kube.seed(resource_of(INSTANCE), obj)))
    running, asking = members[1 - asks], members[asks]
    assert running is not None
    assert asking is not None
    identity = {"namespace": "t", "name": running.name, "uid": running.uid, "id": running.uid}
    order = {"instance": identity, "incarnation": 1, "hypervisor": "n1", "hostname": "h",
             "vcpus": 1, "memoryMiB": 64}  # fmt: skip
    made = kube.seed(resource_of(GUEST), body("Guest", f"{running.uid}-1", "node", order))
    stores.of("guests").observe(made)

    with pytest.raises(NotAcceptable, match="need 1 members of the server group, used 1 of 1"):
        async with admission.admitted(asking, SMALL):
            pass
