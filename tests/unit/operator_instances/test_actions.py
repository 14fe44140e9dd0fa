"""What the end of an action leaves behind, however often it is seen."""

from __future__ import annotations

from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.instanceaction import INSTANCEACTION
from novakube_kit.kube import Json
from novakube_kit.resources import resource_of
from novakube_operator.instances.actions import ActionController
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube
from tests.unit.operator_instances.contexts import a_context, body

INSTANCES, ACTIONS = resource_of(INSTANCE), resource_of(INSTANCEACTION)
ID = "00000000-0000-4000-8000-000000000001"


async def test_a_refused_facade_action_uses_its_number_up_after_a_crash_too() -> None:
    kube, clock = FakeKube(), ManualClock()
    stores = Stores(lambda *_: None)
    context = a_context(kube, stores, clock)
    spec: Json = {"flavor": {"name": "f"}, "image": {"name": "i"}, "id": ID}
    instance = kube.seed(INSTANCES, body("Instance", "web", "t", spec))
    stores.of("instances").observe(instance)
    # Answered by an operator that died before it wrote the number.
    order = {"instance": {"name": "web"}, "action": "Start"}
    ended = {"state": "Failed", "reason": "Conflict"}
    action = kube.seed(ACTIONS, body("InstanceAction", f"{ID}.1", "t", order, ended))
    stores.of("instanceactions").observe(action)
    controller = ActionController(context)

    await controller.reconcile(("t", f"{ID}.1"))

    written = await kube.get(INSTANCES, "web", "t")
    assert written["status"]["actionSeq"] == 1
    await controller.reconcile(("t", f"{ID}.1"))
    again = await kube.get(INSTANCES, "web", "t")
    assert again["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]
