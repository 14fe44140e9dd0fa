"""How long an admission may be relied on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.quota import QUOTA, QUOTA_NAME
from novakube_kit.errors import Retryable
from novakube_kit.resources import resource_of
from novakube_operator.core.accept import Accepted
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
