"""An Instance as the scheduler's request: hints resolved, membership settled once."""

from __future__ import annotations

from typing import Any, cast

import pytest

from novakube_crds.v1alpha1.kinds import KINDS
from novakube_operator.core.accept import NotAcceptable
from novakube_operator.instances.context import Context
from novakube_operator.instances.placement import breaks_affinity, server_group
from novakube_operator.stores import Stores

GROUP, OTHER = "99999999-2222-3333-4444-555555555555", "88888888-2222-3333-4444-555555555555"
NAMED = "77777777-2222-3333-4444-555555555555"


class Shelf:
    """Real stores; nothing else of the Context is used."""

    def __init__(self) -> None:
        self.stores = Stores(lambda *_: None)
        self._number = 0

    def put(self, plural: str, name: str, spec: Any, status: Any = None, **meta: Any) -> Any:
        self._number += 1
        kind = next(kind for kind in KINDS if kind.plural == plural)
        metadata = {
            "name": name, "namespace": "a", "resourceVersion": str(self._number), "generation": 1,
            "uid": f"00000000-0000-4000-8000-{self._number:012d}",
            "creationTimestamp": "2026-01-01T00:00:00Z", **meta,
        }  # fmt: skip
        body = {"kind": kind.kind, "metadata": metadata, "spec": spec, "status": status or {}}
        return self.stores.of(plural).observe(body)

    def instance(self, hint: str | None, status: Any = None) -> Any:
        hints = {"group": [hint]} if hint else {}
        spec = {"flavor": {"name": "f"}, "image": {"name": "i"}, "schedulerHints": hints}
        return self.put("instances", "web", spec, status)

    def guest(self, number: int, node: str, phase: str, policy: str = "affinity",
              **spec: Any) -> Any:  # fmt: skip
        uid = f"00000000-0000-4000-8000-00000000f{number:03d}"
        body = {
            "instance": {"namespace": "a", "name": "b", "uid": uid, "id": uid}, "incarnation": 1,
            "hypervisor": node, "hostname": "b", "vcpus": 1, "memoryMiB": 128,
            "serverGroup": {"uid": GROUP, "name": "g", "policy": policy}, **spec,
        }  # fmt: skip
        where = f"novakube-node-{node}"
        return self.put("guests", f"g{number}", body, {"phase": phase}, namespace=where)

    @property
    def context(self) -> Context:
        def by(plural: str, index: str, value: Any) -> Any:
            return self.stores.of(plural).by(index, value)

        def get(plural: str, namespace: str | None, name: str) -> Any:
            return self.stores.of(plural).get(namespace, name)

        names = {"stores": self.stores, "by": staticmethod(by), "get": staticmethod(get)}
        return cast("Context", type("Part", (), names)())


@pytest.mark.parametrize("hint", ["g", GROUP, NAMED])
def test_a_group_by_name_uid_and_id(hint: str) -> None:
    shelf = Shelf()
    spec = {"id": NAMED, "policy": "anti-affinity", "maxServersPerHost": 3}
    shelf.put("servergroups", "g", spec, uid=GROUP)
    rule = server_group(shelf.context, shelf.instance(hint))
    assert rule is not None
    assert (rule.uid, rule.name, rule.policy, rule.max_servers_per_host) == (
        GROUP, "g", "anti-affinity", 3,
    )  # fmt: skip


@pytest.mark.parametrize("hint", ["g", GROUP])
def test_a_group_elsewhere_or_on_its_way_out_is_not_there(hint: str) -> None:
    shelf = Shelf()
    spec = {"policy": "affinity"}
    shelf.put("servergroups", "g", spec, uid=GROUP, namespace="b")
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
    shelf.put("servergroups", "h", spec, uid=OTHER, **gone)
    for wanted in (hint, "h", OTHER):
        with pytest.raises(NotAcceptable, match=f"server group a/{wanted} does not exist") as no:
            server_group(shelf.context, shelf.instance(wanted))
        assert no.value.pending


def test_what_an_instance_joined_it_stays_in() -> None:
    shelf = Shelf()
    joined = {"uid": OTHER, "name": "old", "policy": "affinity"}
    status = {"launchedAt": "2026-01-01T00:00:00Z", "serverGroup": joined}
    rule = server_group(shelf.context, shelf.instance("g", status))
    assert rule is not None
    assert rule.uid == OTHER
    free = shelf.instance("g", {"launchedAt": "2026-01-01T00:00:00Z"})
    assert server_group(shelf.context, free) is None


@pytest.mark.parametrize(
    ("node", "phase", "more", "breaks"),
    [
        ("n2", "Ready", {}, True),
        ("n2", "Pending", {}, True),
        ("n1", "Ready", {}, False),
        ("n2", "Rejected", {}, False),
        ("n2", "Pending", {"teardown": "Destroy"}, False),
        ("n2", "Ready", {"serverGroup": {"uid": OTHER, "name": "h", "policy": "affinity"}}, False),
    ],
)
def test_a_late_leaders_guest_apart_from_its_group(
    node: str, phase: str, more: dict[str, Any], breaks: bool
) -> None:
    shelf = Shelf()
    guest = shelf.guest(1, "n1", "Pending")
    shelf.guest(2, node, phase, **more)
    assert breaks_affinity(shelf.context, guest) is breaks


def test_nodes_settle_anti_affinity_themselves() -> None:
    shelf = Shelf()
    guest = shelf.guest(1, "n1", "Pending", "anti-affinity")
    shelf.guest(2, "n2", "Ready", "anti-affinity")
    assert not breaks_affinity(shelf.context, guest)
