"""A Guest made just now costs no write, however its creationTimestamp is rounded."""

from __future__ import annotations

import pytest

from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.kube import Json
from novakube_kit.resources import resource_of
from novakube_operator.instances.context import BUILDING_AFTER_S
from novakube_operator.instances.controller import InstanceController
from novakube_operator.instances.patience import Patience
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.host import a_spec
from tests.fakes.kube import FakeKube
from tests.unit.operator_instances.contexts import a_context, body

INSTANCES, GUESTS = resource_of(INSTANCE), resource_of(GUEST)


def test_left_alone_until_it_is_answered_or_late() -> None:
    patience = Patience(0.2)
    assert patience.left_s("foreign", 5.0, answered=False) is None
    patience.made("one", 5.0)
    assert patience.left_s("one", 5.05, answered=False) == 5.0 + 0.2 - 5.05
    assert patience.left_s("one", 5.06, answered=True) is None
    assert patience.left_s("one", 5.07, answered=False) is None
    assert (patience.waited_s("one", 9.0), patience.waited_s("foreign", 9.0)) == (4.0, None)
    patience.made("two", 5.0)
    assert patience.left_s("two", 5.2, answered=False) is None
    patience.made("three", 5.0)
    patience.forget("three")
    assert patience.left_s("three", 5.0, answered=False) is None


async def test_no_write_for_a_guest_made_a_moment_ago() -> None:
    kube, clock = FakeKube(), ManualClock()
    stores = Stores(lambda *_: None)
    context = a_context(kube, stores, clock)
    spec: Json = {"flavor": {"name": "f"}, "image": {"name": "i"}}
    instance = kube.seed(INSTANCES, body("Instance", "web", "t", spec))
    stores.of("instances").observe(instance)
    # Its timestamp lies 0.9 s back: made at the end of a second.
    clock.advance(0.9)
    uid = instance["metadata"]["uid"]
    identity = {"namespace": "t", "name": "web", "uid": uid, "id": uid}
    guest_spec = a_spec().wire() | {"instance": identity, "epoch": 1}
    guest = kube.seed(GUESTS, body("Guest", "web-1", "novakube-node-n1", guest_spec))
    made = stores.of("guests").observe(guest)
    assert made is not None
    context.patience.made(made.uid, clock.monotonic())
    before = (await kube.get(INSTANCES, "web", "t"))["metadata"]["resourceVersion"]

    controller = InstanceController(context)
    left_s = await controller.reconcile(("t", "web"))

    assert left_s == pytest.approx(BUILDING_AFTER_S)
    assert (await kube.get(INSTANCES, "web", "t"))["metadata"]["resourceVersion"] == before
    clock.advance(5.0)
    await controller.reconcile(("t", "web"))
    after = await kube.get(INSTANCES, "web", "t")
    assert after["metadata"]["resourceVersion"] != before, "a slow one is told"
