"""An Instance vanished without an order: what it had is kept, then told of, then freed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from novakube_crds.base import FINALIZER
from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.hypervisorreport import HYPERVISORREPORT
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.ipaddress import IPADDRESS
from novakube_crds.v1alpha1.port import PORT
from novakube_kit.errors import Retryable
from novakube_kit.kube import Json
from novakube_kit.resources import CRDS, resource_of
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.instances.context import Context
from novakube_operator.instances.orphans import Sweep, let_go
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube
from tests.unit.operator_instances.contexts import a_context, body

UID = "11111111-1111-4111-8111-111111111111"
NETWORK = "22222222-2222-4222-8222-222222222222"
MAILBOX = namespace_of_node("n1")
KEY = ("t", "web")
SPEC: Json = {"flavor": {"name": "f"}, "image": {"name": "i"}}
ORDER: Json = {
    "instance": {"namespace": "t", "name": "web", "uid": UID, "id": UID},
    "incarnation": 1, "hypervisor": "n1", "hostname": "web", "vcpus": 1, "memoryMiB": 64,
}  # fmt: skip
ADDRESS: Json = {
    "network": {"name": "net"}, "networkUID": NETWORK, "subnet": {"name": "s"},
    "address": "10.0.0.5",
    "claim": {"kind": "Instance", "namespace": "t", "name": "web", "uid": UID, "nic": 0},
}  # fmt: skip
KINDS = {kind.kind: kind for kind in (GUEST, HYPERVISORREPORT, INSTANCE, IPADDRESS, PORT)}


@dataclass
class World:
    """An API server with the Instances' CRD, and what the operator knows of it."""

    kube: FakeKube
    context: Context

    def seed(self, raw: Json, *, known: bool = True) -> Json:
        kind = KINDS[raw["kind"]]
        made = self.kube.seed(resource_of(kind), raw)
        if known:
            self.context.stores.of(kind.plural).observe(made)
        return made

    def crd(self, **metadata: str) -> None:
        name = f"{INSTANCE.plural}.novakube.dev"
        self.kube.seed(CRDS, {"metadata": {"name": name, **metadata}})

    def names(self, plural: str) -> list[str]:
        return [key[2] for key in self.kube.objects if key[0] == plural]


@pytest.fixture
def world() -> World:
    kube = FakeKube()
    return World(kube, a_context(kube, Stores(lambda *_: None), ManualClock()))


def a_guest(**spec: object) -> Json:
    raw = body("Guest", f"{UID}-1", MAILBOX, {**ORDER, **spec})
    raw["metadata"]["finalizers"] = [FINALIZER]
    return raw


def an_instance(uid: str = UID) -> Json:
    raw = body("Instance", "web", "t", SPEC)
    raw["metadata"]["uid"] = uid
    return raw


async def test_its_guest_is_let_go_without_an_order(world: World) -> None:
    world.crd()
    world.seed(a_guest())
    await let_go(world.context, KEY)
    assert not world.names("guests")
    assert ("patch", "guests") in world.kube.calls  # the finalizer, nothing else
    assert world.context.vanished == {}


@pytest.mark.parametrize("known", [True, False], ids=["known", "not seen yet"])
async def test_the_guest_of_one_that_is_there_stays(world: World, known: bool) -> None:
    world.crd()
    world.seed(a_guest())
    world.seed(an_instance(), known=known)
    await let_go(world.context, KEY)
    assert world.names("guests") == [f"{UID}-1"]


@pytest.mark.parametrize("crd", ["missing", "going"])
async def test_none_is_let_go_while_the_kind_itself_is_away(world: World, crd: str) -> None:
    if crd == "going":
        world.crd(deletionTimestamp="2030-01-01T12:00:00Z")
    world.seed(a_guest())
    with pytest.raises(Retryable, match="no guest is destroyed for that"):
        await let_go(world.context, KEY)
    assert world.names("guests") == [f"{UID}-1"]


async def test_one_whose_end_was_ordered_ends_as_ordered(world: World) -> None:
    world.crd()
    made = world.seed(a_guest(teardown="Destroy"))
    await let_go(world.context, KEY)
    assert world.names("guests")
    told = {"status": {"phase": "Gone"}}
    res, name = resource_of(GUEST), made["metadata"]["name"]
    gone = await world.kube.patch(res, name, told, MAILBOX, sub="status")
    world.context.stores.of("guests").observe(gone)
    await let_go(world.context, KEY)
    assert not world.names("guests")


def a_claim() -> tuple[Json, Json]:
    """Its address, and its Port that the garbage collector deletes."""
    address = body("IPAddress", "a", "t", ADDRESS)
    port = body("Port", "p", "t", {"network": {"name": "net"}})
    owner = {"apiVersion": "novakube.dev/v1alpha1", "kind": "Instance", "name": "web", "uid": UID}
    port["metadata"] |= {"ownerReferences": [owner], "deletionTimestamp": "2030-01-01T12:00:00Z"}
    for raw in (address, port):
        raw["metadata"]["finalizers"] = [FINALIZER]
    return address, port


async def test_what_nobody_holds_is_freed_at_the_second_look(world: World) -> None:
    for raw in a_claim():
        world.seed(raw)
    sweep = Sweep(world.context)
    await sweep.look()
    assert world.names("ipaddresses") == ["a"]
    await sweep.look()
    assert not world.names("ipaddresses")
    assert not world.names("ports")


async def test_an_address_is_claimed_as_long_as_its_domain_is_there(world: World) -> None:
    for raw in a_claim():
        world.seed(raw)
    orphan = {"instanceID": UID, "guestUID": UID, "instanceUID": UID, "instanceNamespace": "t"}
    world.seed(body("HypervisorReport", "node", MAILBOX, {}, {"orphans": [orphan]}))
    sweep = Sweep(world.context)
    for _ in range(3):
        await sweep.look()
    assert (world.names("ipaddresses"), world.names("ports")) == (["a"], ["p"])


async def test_nothing_is_freed_because_a_store_is_behind(world: World) -> None:
    for raw in a_claim():
        world.seed(raw)
    world.seed(an_instance(), known=False)
    sweep = Sweep(world.context)
    for _ in range(3):
        await sweep.look()
    assert (world.names("ipaddresses"), world.names("ports")) == (["a"], ["p"])
