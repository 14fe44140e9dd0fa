"""A node's namespace is deleted with Guests in it: it may go, and their VMs are not forgotten."""

from __future__ import annotations

from novakube_crds.base import FINALIZER
from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.kube import Json
from novakube_kit.resources import resource_of
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.instances.adopt import NAMESPACE_S
from novakube_operator.instances.controller import InstanceController
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube
from tests.unit.operator_instances.contexts import a_context, body

MAILBOX = namespace_of_node("n1")
SPEC: Json = {"flavor": {"name": "f"}, "image": {"name": "i"}}
RAN: Json = {"phase": "Ready", "startedAt": "2030-01-01T12:00:00Z", "powerState": "Running"}


async def test_a_guest_goes_with_its_namespace_and_is_taken_over_later() -> None:
    kube, clock = FakeKube(), ManualClock()
    stores = Stores(lambda plural, old, new: list(controller.wakes(plural, old, new)) and None)
    context = a_context(kube, stores, clock)
    controller = InstanceController(context)
    instance = stores.of("instances").observe(
        kube.seed(resource_of(INSTANCE), body("Instance", "web", "t", SPEC))
    )
    assert instance is not None
    identity = {"namespace": "t", "name": "web", "uid": instance.uid, "id": instance.uid}
    order = {"instance": identity, "incarnation": 1, "hypervisor": "n1", "hostname": "web",
             "vcpus": 1, "memoryMiB": 64}  # fmt: skip
    raw = body("Guest", f"{instance.uid}-1", MAILBOX, order, RAN)
    raw["metadata"]["deletionTimestamp"] = "2030-01-01T12:01:00Z"
    guest = stores.of("guests").observe(kube.seed(resource_of(GUEST), raw))
    assert guest is not None
    assert FINALIZER in guest.finalizers
    going = {"metadata": {"name": MAILBOX, "deletionTimestamp": "2030-01-01T12:01:00Z"}}
    stores.feed_namespace("MODIFIED", going)

    assert await controller.reconcile(("t", "web")) == NAMESPACE_S

    assert not [key for key in kube.objects if key[0] == "guests"]
    assert context.vanished[instance.uid].uid == guest.uid
    stores.feed_namespace("DELETED", going)
    await controller.reconcile(("t", "web"))
    (successor,) = [obj for key, obj in kube.objects.items() if key[0] == "guests"]
    assert successor["spec"]["adopt"] == guest.uid
    assert successor["spec"]["incarnation"] == 2
